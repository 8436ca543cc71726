//! `change_password`: another password for who is logged in.

use p2p_proto::control::Request;

use super::password::ChangeArguments;
use crate::error::Failure;
use crate::session::Session;

/// Change the password of who is logged in here; other nodes stay logged in
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  p2pctl change_password\n  p2pctl change_password --log-out-everywhere\n  \
                        printf '%s\\n' \"$OLD\" \"$NEW\" | p2pctl change_password --old-password-file - --password-file -")]
pub struct ChangePassword {
    #[command(flatten)]
    passwords: ChangeArguments,
    /// Also log out every other node of the user: a lost one, or whoever else knew the old password
    #[arg(long)]
    log_out_everywhere: bool,
}

impl ChangePassword {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let (old, new) = self.passwords.passwords()?;
        session.show(Request::ChangePassword { old, new, log_out_everywhere: self.log_out_everywhere })
    }
}
