//! `leave_group`: ends a membership.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// Leave a group; its owner hands it on first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl leave_group genomics")]
pub struct LeaveGroup {
    /// Name of the group
    group: GroupName,
    /// End the group if you are its last member
    #[arg(long)]
    force: bool,
}

impl LeaveGroup {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::LeaveGroup { group: self.group, force: self.force })
    }
}
