//! `pause`: stops a download until it is resumed.

use p2p_proto::control::{DownloadPrefix, Request};

use crate::error::Failure;
use crate::session::Session;

/// Pause a download
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl pause a91f")]
pub struct Pause {
    /// The download's id, or enough of its first digits
    id: DownloadPrefix,
}

impl Pause {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Pause { id: self.id })
    }
}
