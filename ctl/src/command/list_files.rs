//! `list_files`: what a group shares.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use crate::error::Failure;
use crate::session::Session;

/// List the files of a group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl list_files genomics")]
pub struct ListFiles {
    /// Name of the group
    group: GroupName,
}

impl ListFiles {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ListFiles { group: self.group })
    }
}
