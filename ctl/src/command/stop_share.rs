//! `stop_share`: takes a file out of sharing.

use p2p_proto::control::Request;
use p2p_proto::name::{FileName, GroupName};

use crate::error::Failure;
use crate::session::Session;

/// Stop sharing a file until it is uploaded again; the file stays where it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl stop_share genomics genome.tar")]
pub struct StopShare {
    /// Name of the group
    group: GroupName,
    /// The file's name in the group
    name: FileName,
}

impl StopShare {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::StopShare { group: self.group, name: self.name, until_requested: false })
    }
}
