//! `join_group`: asks to be a member.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// Join a group, or ask its owner to be let in
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl join_group genomics")]
pub struct JoinGroup {
    /// Name of the group
    group: GroupName,
}

impl JoinGroup {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::JoinGroup { group: self.group })
    }
}
