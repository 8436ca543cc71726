//! `reject_request`: refuses somebody.

use p2p_proto::control::Request;
use p2p_proto::name::{GroupName, UserName};

use crate::error::Failure;
use crate::session::Session;

/// Refuse a user who asked to join your group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl reject_request genomics bob")]
pub struct RejectRequest {
    /// Name of the group
    group: GroupName,
    /// Who asked
    user: UserName,
}

impl RejectRequest {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::RejectRequest { group: self.group, user: self.user })
    }
}
