//! Who may do what: every right there is, the one place that decides it, and the change of a group's policy.
//!
//! | right | approval, open | public |
//! |---|---|---|
//! | read: listings, members, lookups, grants | members | everybody with an account |
//! | publish, take out one's own | members | members |
//! | decide: requests, members, policy, others' listings, hand over, delete | the owner | the owner |
//!
//! Seeing that a group exists, joining it and making one need an account only ([`actor`]).

use p2p_proto::id::NodeId;
use p2p_proto::name::GroupName;
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::JoinPolicy;

use super::command::{Change, Outcome};
use super::groups::Group;
use super::key::UserKey;
use super::users::User;
use super::{State, refusal};

/// What somebody may be allowed in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// See members and listings, look up and be served contents.
    Read,
    /// List files.
    Publish,
    /// All that the owner does.
    Decide,
}

/// The user that a node acts for; a node of nobody may do nothing.
pub(super) fn actor(state: &State, node: NodeId) -> Result<(UserKey, &User), Reject> {
    state.users.of_node(node).ok_or_else(refusal::login_needed)
}

/// Whether `user` has a right in a group.
pub(super) fn allows(right: Right, group: &Group, user: &UserKey) -> bool {
    match right {
        Right::Read => group.policy == JoinPolicy::Public || group.members.contains_key(user),
        Right::Publish => group.members.contains_key(user),
        Right::Decide => group.owner == *user,
    }
}

/// Refuses unless `user` has a right in a group.
pub(super) fn require(state: &State, right: Right, group: &Group, user: &UserKey) -> Result<(), Reject> {
    if allows(right, group, user) {
        return Ok(());
    }
    match right {
        Right::Read | Right::Publish => Err(refusal::not_member(&group.name)),
        Right::Decide => Err(refusal::not_owner(&group.name, state.users.name(&group.owner))),
    }
}

impl State {
    /// Gives a group another policy. From `public` to another, grants of those who only read it are void: a new epoch.
    /// Where nobody has to decide any more, who waits is let in as joining would now do at once, the longest waiting
    /// first; a request stays where there is no room.
    pub(super) fn set_policy(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        policy: JoinPolicy,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let key = self.owned(actor, group)?;
        let (before, epoch) = (self.groups.get(&key).policy, self.groups.get(&key).epoch);
        if before == policy {
            return Ok(Outcome::Done);
        }
        let epoch = if before == JoinPolicy::Public { self.next_epoch() } else { epoch };
        let found = self.groups.get_mut(&key);
        found.epoch = epoch;
        found.policy = policy;
        changes.push(Change::PolicyChanged { group: found.name.clone(), policy });
        if policy != JoinPolicy::Approval {
            let mut waiting: Vec<_> = found.requests.iter().map(|(user, since)| (*since, user.clone())).collect();
            waiting.sort();
            for (_, user) in waiting {
                // Refused where the user or the group has no room.
                let _ = self.admit(&key, &user, at, changes);
            }
        }
        Ok(Outcome::Done)
    }
}
