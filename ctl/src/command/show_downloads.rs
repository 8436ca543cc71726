//! `show_downloads`: every download and its state.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Show every download and its state
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl show_downloads")]
pub struct ShowDownloads {}

impl ShowDownloads {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::ShowDownloads)
    }
}
