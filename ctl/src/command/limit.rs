//! `limit`: how fast this node sends and receives at the most.

use p2p_proto::control::{Request, parse_rate};

use crate::error::Failure;
use crate::session::Session;

/// Show or change how fast this node sends and receives at the most
///
/// RATE is in bytes per second, as 500KB, 10MB, or 1.5MiB; 0 is no limit. A change takes effect at once, also for what is
/// under way, and is kept. Without options, the limits are shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl limit --up 2MB --down 10MB\n  p2pctl limit --up 0")]
pub struct Limit {
    /// What goes out to all peers together
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    up: Option<u64>,
    /// What comes in from all peers together
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    down: Option<u64>,
}

impl Limit {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Limit { up: self.up, down: self.down })
    }
}
