//! `list_members`: who belongs to a group.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// List the members of a group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list_members genomics")]
pub struct ListMembers {
    /// Name of the group
    group: GroupName,
}

impl ListMembers {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListMembers { group: self.group })
    }
}
