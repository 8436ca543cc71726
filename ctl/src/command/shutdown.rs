//! `shutdown`: ends the daemon. The one verb that never starts it.

use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Stop the daemon cleanly; its shares and downloads go on when it starts again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl shutdown")]
pub struct Shutdown {}

impl Shutdown {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = session.ask_running(Request::Shutdown)?;
        session.screen.answer(&answer, |view| crate::render::human::answer(&answer, view))
    }
}
