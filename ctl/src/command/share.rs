//! `share`: publishes a file for everybody, and writes the `.mtorrent` that others `get` it by.

use std::ffi::OsString;

use p2p_proto::control::{LocalPath, Request};
use p2p_proto::mtorrent;
use p2p_proto::reject::{ErrorCode, Reject};

use super::remove::mtorrent_path;
use super::upload_file::existing_file;
use crate::error::Failure;
use crate::session::Session;

/// Share a file with everybody, in the built-in group `public`, and write its .mtorrent
///
/// Everybody with an account at the tracker can download it then, by its name or with the .mtorrent, in which FILE stands
/// as it is typed here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl share beach.jpg")]
pub struct Share {
    /// The file; it stays where it is and must stay as it is
    file: OsString,
    /// The .mtorrent to write; without it, FILE's name and `.mtorrent` in the current folder
    mtorrent: Option<OsString>,
}

impl Share {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = LocalPath(existing_file(&self.file)?);
        let given = self.file.into_string().map_err(|file| {
            let message = format!("the path `{}` is not UTF-8 text, as a .mtorrent is", file.display());
            Failure::new(ErrorCode::BAD_NAME, message)
        })?;
        let name = mtorrent::file_name(&given).map_err(Reject::from)?;
        let mtorrent = self.mtorrent.unwrap_or_else(|| format!("{name}{}", mtorrent::SUFFIX).into());
        session.follow(Request::Share { path, given, mtorrent: mtorrent_path(&mtorrent)? }).map(drop)
    }
}
