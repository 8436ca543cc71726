//! `set_policy`: changes who may join a group.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;

use super::create_group::Policy;
use crate::error::Failure;
use crate::session::Session;

/// Change who may join your group
///
/// With `open` or `public` whoever waits is let in. A group that is no longer `public` is read by its members only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl set_policy genomics open")]
pub struct SetPolicy {
    /// Name of the group
    group: GroupName,
    /// Who may join from now on
    #[arg(value_enum)]
    policy: Policy,
}

impl SetPolicy {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::SetPolicy { group: self.group, policy: self.policy.into() })
    }
}
