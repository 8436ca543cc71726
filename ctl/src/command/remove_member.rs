//! `remove_member`: ends the membership of another.

use p2p_proto::control::Request;
use p2p_proto::name::{GroupName, UserName};

use crate::error::Failure;
use crate::session::Session;

/// Remove a member from your group; running transfers to it end
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl remove_member genomics bob")]
pub struct RemoveMember {
    /// Name of the group
    group: GroupName,
    /// Whom
    user: UserName,
}

impl RemoveMember {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::RemoveMember { group: self.group, user: self.user })
    }
}
