//! `transfer_group`: hands a group on.

use p2p_proto::control::Request;
use p2p_proto::name::{GroupName, UserName};

use crate::error::Failure;
use crate::session::Session;

/// Make another member the owner of your group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl transfer_group genomics bob")]
pub struct TransferGroup {
    /// Name of the group
    group: GroupName,
    /// The new owner
    user: UserName,
}

impl TransferGroup {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::TransferGroup { group: self.group, user: self.user })
    }
}
