//! `status`: how everything is.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Show who is logged in, trackers, peers, rates, shares, downloads, and what is wrong
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl status")]
pub struct Status {}

impl Status {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Status)
    }
}
