//! Who may do what: every right there is, the one place that decides it, and the change of a group's policy.
//!
//! | right | approval, open | public | the built-in group `public` |
//! |---|---|---|---|
//! | read: listings, members, lookups, grants | members | everybody with an account | everybody with an account |
//! | publish, take out one's own | members | members | everybody with an account |
//! | decide: requests, members, policy, others' listings, hand over, delete | the owner | the owner | nobody |
//! | join, leave | by the group's policy | at once | nobody: there is nothing to join |
//! | look up and announce a content | that is listed | that is listed | any: its id is enough |
//!
//! Seeing that a group exists, joining it and making one need an account only ([`actor`]).
//!
//! In the built-in group a content needs no listing, since a listing there keeps no secret: everybody reads all of them.
//! So whoever has a `.mtorrent` finds those who still have the file when its publisher has taken the listing out.
//!
//! The built-in group comes into being by a command of its own ([`super::Command::MakePublicGroup`]), which every tracker
//! proposes at its start. From then on the names `public` of groups and users are taken. What had them before stays as it
//! was: a group of that name goes on with its owner, members and listings, and the built-in one takes its place
//! when it ends; a user of that name goes on too, and has no rights in the built-in group but everybody's.

use p2p_proto::id::NodeId;
use p2p_proto::name::GroupName;
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::JoinPolicy;

use super::bound::{LISTINGS_PER_GROUP_MAX, PUBLIC_LISTINGS_PER_USER_MAX};
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
        Right::Publish => group.is_built_in() || group.members.contains_key(user),
        Right::Decide => group.owner.as_ref() == Some(user),
    }
}

/// Refuses unless `user` has a right in a group.
pub(super) fn require(state: &State, right: Right, group: &Group, user: &UserKey) -> Result<(), Reject> {
    if allows(right, group, user) {
        return Ok(());
    }
    match (right, &group.owner) {
        (Right::Read | Right::Publish, _) => Err(refusal::not_member(&group.name)),
        (Right::Decide, Some(owner)) => Err(refusal::not_owner(&group.name, state.users.name(owner))),
        (Right::Decide, None) => Err(refusal::built_in(&group.name)),
    }
}

/// Who owns a group that can be joined and left; refuses the built-in one, which cannot.
pub(super) fn owner_of_joinable(group: &Group) -> Result<&UserKey, Reject> {
    group.owner.as_ref().ok_or_else(|| refusal::built_in(&group.name))
}

/// Whether a content can be found, and announced, through a group that lists no file with it.
pub(super) fn finds_unlisted(group: &Group) -> bool {
    group.is_built_in()
}

/// How many files one user may list in a group.
pub(super) fn listings_max(group: &Group) -> usize {
    if group.is_built_in() { PUBLIC_LISTINGS_PER_USER_MAX } else { LISTINGS_PER_GROUP_MAX }
}

impl State {
    /// Gives a group another policy. From `public` to another, whoever reads it has to be granted it anew.
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
        let found = self.groups.get_mut(&key);
        let before = std::mem::replace(&mut found.policy, policy);
        if before == policy {
            return Ok(Outcome::Done);
        }
        changes.push(Change::PolicyChanged { group: found.name.clone(), policy });
        if policy != JoinPolicy::Approval {
            let mut waiting: Vec<_> = found.requests.iter().map(|(user, since)| (*since, user.clone())).collect();
            waiting.sort();
            for (_, user) in waiting {
                // Refused where the user or the group has no room.
                let _ = self.admit(&key, &user, at, changes);
            }
        }
        if before == JoinPolicy::Public {
            self.void_grants(self.groups.get(&key).name.clone(), changes);
        }
        Ok(Outcome::Done)
    }
}
