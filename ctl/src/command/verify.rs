//! `verify`: hashes again what is here of a download.

use p2p_proto::control::{Answer, DownloadPrefix, Request};
use p2p_proto::reject::ErrorCode;

use crate::error::Failure;
use crate::session::Session;

/// Hash again what is here of a download, and say what was found
///
/// Pieces that are bad are fetched again where the download goes on; a finished file is marked as damaged and no longer
/// shared. Fails where anything is bad.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl verify a91f")]
pub struct Verify {
    /// The download's id, or enough of its first digits
    id: DownloadPrefix,
}

impl Verify {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match session.follow(Request::Verify { id: self.id })? {
            Answer::Verified(verified) if !verified.bad_pieces.is_empty() => {
                let (bad, name) = (verified.bad_pieces.len(), &verified.download.name);
                let message = format!("{bad} of {} pieces of {name} were bad", verified.checked_pieces);
                Err(Failure::new(ErrorCode::INTEGRITY, message))
            }
            _ => Ok(()),
        }
    }
}
