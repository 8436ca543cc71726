//! `list_requests`: who waits to be let in.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// List who waits to join a group of yours
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list_requests genomics")]
pub struct ListRequests {
    /// Name of the group
    group: GroupName,
}

impl ListRequests {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListRequests { group: self.group })
    }
}
