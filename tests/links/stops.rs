//! Machines that sleep: a daemon is stopped for longer than every idle time-out, and wakes.

use std::time::Duration;

use p2p_tests::Daemon;
use p2p_tests::wait::remain;
use rustix::process::Signal;

use crate::{Linked, fault_time};

/// Longer than the 30 s after which the other ends give up.
const STOP: Duration = Duration::from_secs(40);

#[test]
fn a_seeder_that_slept_is_used_again() {
    stop(|linked| &mut linked.alice);
}

#[test]
fn a_downloader_that_slept_goes_on() {
    stop(|linked| &mut linked.bob);
}

fn stop(whose: impl Fn(&mut Linked) -> &mut Daemon) {
    let Some(mut linked) = Linked::new() else { return };
    linked.start_and_meet_in_the_middle();
    let before = linked.have();
    whose(&mut linked).process().signal(Signal::STOP);
    remain(fault_time(STOP));
    whose(&mut linked).process().signal(Signal::CONT);
    linked.goes_on(before);
}
