//! Cables cut and mended, and packets dropped one way without a word.

use std::time::Duration;

use p2p_tests::namespace::{Fault, Node};
use p2p_tests::wait::{eventually, remain};

use crate::{Linked, fault_time};

/// Within QUIC's idle time-out, and where the pauses between its probes have become longest: the hardest case.
const CUT: Duration = Duration::from_secs(20);

/// Longer than every idle time-out of the product: all connections are lost, and the tracker has forgotten who was cut off.
const LONG_CUT: Duration = Duration::from_secs(45);

#[test]
fn a_seeder_that_was_cut_off_is_used_again() {
    cut(|linked| &linked.seeder, CUT);
}

#[test]
fn a_seeder_that_was_cut_off_for_long_is_used_again() {
    cut(|linked| &linked.seeder, LONG_CUT);
}

#[test]
fn a_downloader_that_was_cut_off_goes_on() {
    cut(|linked| &linked.downloader, CUT);
}

#[test]
fn a_downloader_that_was_cut_off_for_long_goes_on() {
    cut(|linked| &linked.downloader, LONG_CUT);
}

#[test]
fn without_the_tracker_a_transfer_does_not_even_pause() {
    let Some(linked) = Linked::new() else { return };
    linked.start_and_meet_in_the_middle();
    linked.tracker.cut();
    linked.ends_with_the_file();
    linked.tracker.mend();
    eventually("the tracker is met again", || {
        (linked.bob.json(&["status"])["trackers"][0]["state"] == "ok").then_some(())
    });
}

#[test]
fn a_seeder_that_is_not_heard_is_used_again() {
    silence(|linked| &linked.seeder, Fault::Mute);
}

#[test]
fn a_seeder_that_hears_nothing_is_used_again() {
    silence(|linked| &linked.seeder, Fault::Deaf);
}

fn cut(whose: impl Fn(&Linked) -> &Node, time: Duration) {
    let Some(linked) = Linked::new() else { return };
    linked.start_and_meet_in_the_middle();
    whose(&linked).cut();
    linked.wait_until_stalled();
    remain(fault_time(time));
    let before = linked.have();
    whose(&linked).mend();
    linked.goes_on(before);
}

fn silence(whose: impl Fn(&Linked) -> &Node, fault: Fault) {
    let Some(linked) = Linked::new() else { return };
    linked.start_and_meet_in_the_middle();
    whose(&linked).impair(fault);
    linked.wait_until_stalled();
    remain(fault_time(CUT));
    let before = linked.have();
    whose(&linked).repair();
    linked.goes_on(before);
}
