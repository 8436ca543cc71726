//! `shutdown`: ends the daemon. The one verb that never starts it.

use std::time::Duration;

use p2p_proto::control::{Answer, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::Failure;
use crate::session::Session;

/// Stop the daemon cleanly; its shares and downloads go on when it starts again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl shutdown")]
pub struct Shutdown {}

impl Shutdown {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = session.ask_running(Request::Shutdown)?;
        if let Answer::ShuttingDown(ending) = &answer {
            wait_for_end(ending.process_id);
        }
        session.screen.answer(&answer, |view| crate::render::human::answer(&answer, view))
    }
}

/// How long the daemon has for syncing what is written and saying goodbye.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Returns when the process has ended, so that the next command starts a new daemon rather than meets the old one.
fn wait_for_end(process_id: u32) {
    let process = i32::try_from(process_id).ok().and_then(Pid::from_raw);
    // No such process any more, or no way to wait for it: then there is nothing to wait for.
    let Some(process) = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok()) else { return };
    let deadline = Timespec { tv_sec: END_DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&deadline));
}
