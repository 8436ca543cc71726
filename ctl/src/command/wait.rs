//! `wait`: follows downloads that were begun before.

use p2p_proto::control::{DownloadPrefix, Request};
use p2p_proto::reject::ErrorCode;

use crate::error::{self, Failure};
use crate::session::Session;

/// Follow downloads until they are done, one after another
///
/// Fails if one of them does, with the exit code of the first that did, but not before all have ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl wait a91f")]
pub struct Wait {
    /// The downloads' ids, or enough of their first digits
    #[arg(required = true, value_name = "ID")]
    ids: Vec<DownloadPrefix>,
}

/// Whether there is no daemon, no patience or no time for the other downloads either.
fn ends_all(code: ErrorCode) -> bool {
    [ErrorCode::INTERRUPTED, ErrorCode::TIMED_OUT].contains(&code) || code.exit_code() == 7
}

impl Wait {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let mut first_failure = None;
        for id in self.ids {
            match session.follow(Request::Wait { id }) {
                // Of this download: the next may do better. No daemon, no reader or no patience ends it all.
                Err(Failure::Refused(reject)) if !ends_all(reject.code) => {
                    first_failure.get_or_insert(reject.code);
                    error::tell(session.screen.as_json, Failure::Refused(reject));
                }
                outcome => outcome.map(drop)?,
            }
        }
        first_failure.map_or(Ok(()), |code| Err(Failure::Told(code)))
    }
}
