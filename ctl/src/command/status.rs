//! `status`: how everything is.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Show who is logged in, trackers, peers, rates, shares, downloads, and what is wrong
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl status\n  p2pctl status --watch")]
pub struct Status {
    /// Show it again every second, until interrupted; with --json a document a line
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if self.watch { session.watch(&Request::Status) } else { session.show(Request::Status) }
    }
}
