//! `cancel`: ends a download for good.

use p2p_proto::control::{Answer, DownloadPrefix, Request};

use crate::error::Failure;
use crate::render::human;
use crate::session::Session;

/// End a download for good and delete its part file; a finished file stays, unless --delete-data
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl cancel a91f --delete-data")]
pub struct Cancel {
    /// The download's id, or enough of its first digits
    id: DownloadPrefix,
    /// Also delete the finished file, if nobody has changed it since
    #[arg(long)]
    delete_data: bool,
}

impl Cancel {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = session.ask(Request::Cancel { id: self.id, delete_data: self.delete_data })?;
        session.screen.answer(&answer, |view| match &answer {
            Answer::DownloadChanged(download) => human::cancelled(download, self.delete_data),
            other => human::answer(other, view),
        })
    }
}
