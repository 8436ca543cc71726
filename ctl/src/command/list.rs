//! `list`: what this node shares.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// List what this node shares
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list")]
pub struct List {}

impl List {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListShares)
    }
}
