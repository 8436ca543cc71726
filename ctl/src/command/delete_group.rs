//! `delete_group`: ends a group.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// Delete a group of yours with its listings; the files stay where they are
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl delete_group genomics")]
pub struct DeleteGroup {
    /// Name of the group
    group: GroupName,
}

impl DeleteGroup {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::DeleteGroup { group: self.group })
    }
}
