//! `stop_share`: takes a file out of sharing.

use p2p_proto::control::Request;
use p2p_proto::name::{FileName, GroupName};

use crate::error::Failure;
use crate::session::Session;

/// Stop sharing a file until it is uploaded again; the file stays where it is
///
/// The group goes on listing it, for those who have it too; `remove_file` ends that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl stop_share genomics genome.tar --until-requested")]
pub struct StopShare {
    /// Name of the group
    group: GroupName,
    /// The file's name in the group
    name: FileName,
    /// Share it again when a member asks for it and nobody else online has it
    #[arg(long)]
    until_requested: bool,
}

impl StopShare {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let StopShare { group, name, until_requested } = self;
        session.show(Request::StopShare { group, name, until_requested })
    }
}
