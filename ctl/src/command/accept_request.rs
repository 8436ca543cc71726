//! `accept_request`: lets somebody in.

use p2p_proto::control::Request;
use p2p_proto::name::{GroupName, UserName};

use crate::error::Failure;
use crate::session::Session;

/// Let a user who asked join your group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl accept_request genomics bob")]
pub struct AcceptRequest {
    /// Name of the group
    group: GroupName,
    /// Who asked
    user: UserName,
}

impl AcceptRequest {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::AcceptRequest { group: self.group, user: self.user })
    }
}
