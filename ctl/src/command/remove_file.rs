//! `remove_file`: takes a listing out of a group.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use super::file_argument::FileArgument;
use crate::error::Failure;
use crate::session::Session;

/// Take a file off a group's list: your own, or, as the group's owner, anybody's
///
/// It is no longer shared from here either; the file stays where it is. Downloads of it that others have begun may
/// finish from whoever still serves it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  p2pctl remove_file genomics genome.tar\n  p2pctl remove_file genomics bob:genome.tar"
)]
pub struct RemoveFile {
    /// Name of the group
    group: GroupName,
    #[command(flatten)]
    file: FileArgument,
}

impl RemoveFile {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let file = self.file.selector()?;
        session.show(Request::RemoveFile { group: self.group, file })
    }
}
