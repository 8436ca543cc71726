//! `events`: follows what happens, until interrupted.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Print a line for each thing that happens, until interrupted
///
/// With --json one document a line: `started` when it begins, then `event`s.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl events\n  p2pctl events --json | jq 'select(.event == \"join_requested\")'")]
pub struct Events {}

impl Events {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.listen(&Request::Events)
    }
}
