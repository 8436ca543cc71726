//! `list_groups`: every group that the tracker knows.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// List all groups
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list_groups")]
pub struct ListGroups {}

impl ListGroups {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListGroups { mine: false })
    }
}
