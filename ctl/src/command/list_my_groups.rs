//! `list_my_groups`: the user's own groups.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// List the groups that you belong to
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list_my_groups")]
pub struct ListMyGroups {}

impl ListMyGroups {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListGroups { mine: true })
    }
}
