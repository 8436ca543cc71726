//! `create_user`: makes an account.

use p2p_proto::control::Request;
use p2p_proto::name::UserName;

use super::password::PasswordArguments;
use crate::error::Failure;
use crate::session::Session;

/// Make a new account
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl create_user alice")]
pub struct CreateUser {
    /// Name of the new account
    user: UserName,
    #[command(flatten)]
    password: PasswordArguments,
}

impl CreateUser {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let password = self.password.new_password(&self.user)?;
        session.show(Request::CreateUser { user: self.user, password })
    }
}
