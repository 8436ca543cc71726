//! `remove`: takes back what `share` has published.

use std::ffi::OsString;

use p2p_proto::control::{LocalPath, Request};

use crate::error::Failure;
use crate::session::Session;

/// Take your file out of the public listing and out of sharing; the file stays where it is
///
/// Whoever has a copy and its .mtorrent may go on sharing it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl remove beach.jpg.mtorrent")]
pub struct Remove {
    /// The .mtorrent that `share` wrote
    mtorrent: OsString,
}

impl Remove {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Remove { mtorrent: mtorrent_path(&self.mtorrent)? })
    }
}

/// MTORRENT as an absolute path; what it is, the daemon sees.
pub fn mtorrent_path(word: &OsString) -> Result<LocalPath, Failure> {
    std::path::absolute(word).map(LocalPath).map_err(|error| Failure::file("MTORRENT", &error))
}
