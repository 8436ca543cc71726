//! `logout`: withdraws the enrolment of this daemon.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Log out: shares and downloads stop, and are kept for the user's next login
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl logout")]
pub struct Logout {}

impl Logout {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Logout)
    }
}
