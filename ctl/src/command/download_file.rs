//! `download_file`: fetches a file of a group and follows it until it is there.

use p2p_proto::name::GroupName;

use super::file_argument::FileArgument;
use super::target::Target;
use crate::error::Failure;
use crate::session::Session;

/// Download a file or folder of a group
///
/// Follows the download until it is done; when interrupted, it goes on in the daemon. To standard output (`-`) the bytes go in
/// their order while they come in, verified; then the daemon keeps nothing of it, also when interrupted, or when whoever
/// reads has seen enough.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  p2pctl download_file genomics genome.tar ~/data\n  p2pctl download_file genomics genome.tar - | tar x\n  p2pctl download_file photos holiday ~/pictures --only '*.jpg'"
)]
pub struct DownloadFile {
    /// Name of the group
    group: GroupName,
    #[command(flatten)]
    file: FileArgument,
    /// Only the files of a folder that the pattern means, of all its folders; may be given several times
    ///
    /// `*` and `?` match any characters, `[abc]` one of those; the name of a folder means all that lies in it.
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl DownloadFile {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let file = self.file.selector()?;
        self.target.download_file(session, self.group, file, self.only)
    }
}
