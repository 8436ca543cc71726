//! Who may do what: every right there is, and the one place that decides it.
//!
//! | right | approval, open | public |
//! |---|---|---|
//! | read: listings, members, lookups, grants | members | everybody with an account |
//! | publish | members | members |
//! | decide: requests, members, hand over, delete | the owner | the owner |
//!
//! Seeing that a group exists, joining it and making one need an account only ([`actor`]).

use p2p_proto::id::NodeId;
use p2p_proto::reject::Reject;
use p2p_proto::tracker::JoinPolicy;

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
