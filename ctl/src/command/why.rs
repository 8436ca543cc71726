//! `why`: what keeps a download from going on, or from going faster.

use p2p_proto::control::{DownloadPrefix, Request};

use crate::error::Failure;
use crate::session::Session;

/// Say what holds a download up at this moment
///
/// The one bottleneck with its figures: a limit, a queue, a disk, a tracker, or those who have the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl why a91f")]
pub struct Why {
    /// The download's id, or enough of its first digits
    id: DownloadPrefix,
}

impl Why {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Why { id: self.id })
    }
}
