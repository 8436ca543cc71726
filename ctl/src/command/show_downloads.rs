//! `show_downloads`: every download and its state.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Show every download and its state
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl show_downloads\n  p2pctl show_downloads --watch")]
pub struct ShowDownloads {
    /// Show it again every second, until interrupted; with --json a document a line
    #[arg(long)]
    watch: bool,
}

impl ShowDownloads {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if self.watch { session.watch(&Request::ShowDownloads) } else { session.show(Request::ShowDownloads) }
    }
}
