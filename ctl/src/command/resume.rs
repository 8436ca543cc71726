//! `resume`: lets a paused or failed download go on.

use p2p_proto::control::{DownloadPrefix, Request};

use crate::error::Failure;
use crate::session::Session;

/// Let a paused or failed download go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl resume a91f")]
pub struct Resume {
    /// The download's id, or enough of its first digits
    id: DownloadPrefix,
}

impl Resume {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Resume { id: self.id })
    }
}
