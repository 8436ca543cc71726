//! `create_group`: makes a group that the user owns.

use p2p_proto::control::Request;
use p2p_proto::name::GroupName;
use p2p_proto::tracker::JoinPolicy;

use crate::error::Failure;
use crate::session::Session;

/// Make a group that you own
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl create_group photos --policy public")]
pub struct CreateGroup {
    /// Name of the new group
    group: GroupName,
    /// Who may join
    #[arg(long, value_enum, default_value = "approval")]
    policy: Policy,
}

/// Who may join, as a person types it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Policy {
    /// Its owner decides
    Approval,
    /// Anybody with an account joins at once
    Open,
    /// Anybody with an account reads without joining
    Public,
}

impl From<Policy> for JoinPolicy {
    fn from(policy: Policy) -> JoinPolicy {
        match policy {
            Policy::Approval => JoinPolicy::Approval,
            Policy::Open => JoinPolicy::Open,
            Policy::Public => JoinPolicy::Public,
        }
    }
}

impl CreateGroup {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::CreateGroup { group: self.group, policy: self.policy.into() })
    }
}
