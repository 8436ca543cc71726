//! `file_info`: one file in detail.

use p2p_proto::control::{Answer, Request};
use p2p_proto::name::GroupName;

use super::file_argument::FileArgument;
use crate::error::Failure;
use crate::render::human;
use crate::session::Session;

/// Show a file's length, pieces and digests, and who has how much of it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl file_info genomics genome.tar --digests")]
pub struct FileInfo {
    /// Name of the group
    group: GroupName,
    #[command(flatten)]
    file: FileArgument,
    /// Also show the digest of every piece
    #[arg(long)]
    digests: bool,
}

impl FileInfo {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = session.ask(Request::FileInfo { group: self.group, file: self.file.selector()? })?;
        session.screen.answer(&answer, |view| match &answer {
            Answer::FileInfo(info) => human::file_info(info, self.digests, view),
            other => human::answer(other, view),
        })
    }
}
