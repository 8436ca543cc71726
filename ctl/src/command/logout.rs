//! `logout`: withdraws the enrolment of this daemon, or of another node of its user.

use p2p_proto::control::{NodePrefix, Request};

use crate::error::Failure;
use crate::session::Session;

/// Log out: shares and downloads stop, and are kept for the user's next login
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  p2pctl logout\n  p2pctl logout --node 77c0d1ee")]
pub struct Logout {
    /// Log out another node of the user, a lost one: its id, or the first digits that `status` shows
    #[arg(long, value_name = "ID")]
    node: Option<NodePrefix>,
}

impl Logout {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(self.node.map_or(Request::Logout, |node| Request::LogoutNode { node }))
    }
}
