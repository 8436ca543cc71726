//! `get`: fetches the file that a `.mtorrent` describes.

use std::ffi::OsString;

use p2p_proto::control::Request;

use super::remove::mtorrent_path;
use super::target::Target;
use crate::error::Failure;
use crate::session::Session;

/// Download what a .mtorrent describes
///
/// Works as long as anybody online has the file, whether or not its publisher is there. Follows the download until it
/// is done; when interrupted, it goes on in the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl get beach.jpg.mtorrent ~/pictures")]
pub struct Get {
    /// The .mtorrent
    mtorrent: OsString,
    #[command(flatten)]
    target: Target,
}

impl Get {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let mtorrent = mtorrent_path(&self.mtorrent)?;
        let Target { force, detach, .. } = self.target;
        let destination = self.target.destination()?;
        self.target.download(session, Request::Get { mtorrent, destination, force, detach })
    }
}
