//! `login`: enrols this daemon's key under a user.

use p2p_proto::control::Request;
use p2p_proto::name::UserName;

use super::password::PasswordArguments;
use crate::error::Failure;
use crate::session::Session;

/// Log this daemon in; sharing and unfinished downloads resume
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl login alice")]
pub struct Login {
    /// Name of the account
    user: UserName,
    #[command(flatten)]
    password: PasswordArguments,
}

impl Login {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let password = self.password.password(&self.user)?;
        session.show(Request::Login { user: self.user, password })
    }
}
