//! `download`: fetches a file of the built-in group `public` by its name.

use p2p_proto::name::GroupName;

use super::file_argument::FileArgument;
use super::target::Target;
use crate::error::Failure;
use crate::session::Session;

/// Download a file that anybody has shared
///
/// `list_files public` lists them. Follows the download until it is done; when interrupted, it goes on in the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl download beach.jpg ~/pictures")]
pub struct Download {
    #[command(flatten)]
    file: FileArgument,
    #[command(flatten)]
    target: Target,
}

impl Download {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let file = self.file.selector()?;
        self.target.download_file(session, GroupName::public(), file, Vec::new())
    }
}
