//! The table of groups with their members and requests, and the commands on it.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::name::{GroupName, PUBLIC, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{BUILT_IN_BORN, JoinPolicy, Standing};

use super::bound::{
    GROUPS_MAX, GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, REQUESTS_PER_GROUP_MAX, REQUESTS_PER_USER_MAX,
};
use super::command::{Change, Outcome};
use super::files::Files;
use super::key::{GroupKey, UserKey};
use super::policy::{self, Right};
use super::{State, refusal};

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// As it was given when the group was made.
    pub name: GroupName,
    /// One of the members; `None` for the built-in group, which has none either.
    pub owner: Option<UserKey>,
    pub policy: JoinPolicy,
    /// When it was made, later than any group before it: no other group of its name has the same, not even after a
    /// restart from an older snapshot, which a count would repeat.
    pub born: UnixMillis,
    /// Since when each belongs to it.
    pub members: BTreeMap<UserKey, UnixMillis>,
    /// Since when each waits.
    pub requests: BTreeMap<UserKey, UnixMillis>,
    pub files: Files,
}

impl Group {
    /// Whether it is the built-in group: it belongs to nobody.
    pub fn is_built_in(&self) -> bool {
        self.owner.is_none()
    }

    pub fn standing(&self, user: &UserKey) -> Standing {
        if self.owner.as_ref() == Some(user) {
            Standing::Owner
        } else if self.members.contains_key(user) {
            Standing::Member
        } else if self.requests.contains_key(user) {
            Standing::Requested
        } else {
            Standing::None
        }
    }
}

/// Groups by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Groups {
    pub by_key: BTreeMap<GroupKey, Group>,
}

impl Groups {
    pub fn find(&self, group: &GroupName) -> Result<(GroupKey, &Group), Reject> {
        let key = GroupKey::from(group);
        let found = self.by_key.get(&key).ok_or_else(|| refusal::group_not_found(group))?;
        Ok((key, found))
    }

    /// The group behind a key of a user's row.
    pub fn get(&self, key: &GroupKey) -> &Group {
        self.by_key.get(key).expect("a group in a user's row is in the groups' table")
    }

    /// As [`Groups::get`], to change it.
    pub fn get_mut(&mut self, key: &GroupKey) -> &mut Group {
        self.by_key.get_mut(key).expect("a group in a user's row is in the groups' table")
    }

    /// When the latest of those that are here was born.
    pub fn last_birth(&self) -> UnixMillis {
        self.by_key.values().map(|group| group.born).max().unwrap_or_default()
    }

    pub fn invariant(&self) {
        assert!(self.by_key.len() <= GROUPS_MAX, "more groups than allowed");
        for (key, group) in &self.by_key {
            assert_eq!(*key, GroupKey::from(&group.name), "a group is filed under another name's key");
            match &group.owner {
                Some(owner) => assert!(group.members.contains_key(owner), "an owner is not a member"),
                None => {
                    assert_eq!(
                        (group.name.as_str(), group.policy),
                        (PUBLIC, JoinPolicy::Public),
                        "a group lacks an owner"
                    );
                    assert!(group.members.is_empty() && group.requests.is_empty(), "the built-in group has members");
                }
            }
            assert_eq!(
                group.is_built_in(),
                group.born == BUILT_IN_BORN,
                "only the built-in group is born before all others"
            );
            assert!(group.members.keys().all(|user| !group.requests.contains_key(user)), "a member waits to join");
            assert!(group.members.len() <= MEMBERS_PER_GROUP_MAX, "a group has more members than allowed");
            assert!(group.requests.len() <= REQUESTS_PER_GROUP_MAX, "a group has more requests than allowed");
            group.files.invariant();
            assert!(
                group.is_built_in() || group.files.owners().all(|(owner, _)| group.members.contains_key(owner)),
                "a listing's owner is not a member"
            );
        }
    }
}

impl State {
    pub(super) fn create_group(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        policy: JoinPolicy,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (owner, user) = policy::actor(self, actor)?;
        if let Ok((_, standing)) = self.groups.find(group) {
            return Err(refusal::group_exists(group, &standing.name));
        }
        if self.groups.by_key.len() >= GROUPS_MAX {
            return Err(refusal::full(format!("this tracker has {GROUPS_MAX} groups")));
        }
        self.room_for_group(&owner)?;
        changes.push(Change::GroupCreated { group: group.clone(), owner: user.name.clone(), policy });
        changes.push(Change::Membership { group: group.clone(), user: user.name.clone(), standing: Standing::Owner });
        let key = GroupKey::from(group);
        // The proposer's clock may stand still or go back.
        self.last_birth = at.max(self.last_birth.plus(Duration::from_millis(1)));
        self.users.get_mut(&owner).groups.insert(key.clone());
        let row = Group {
            name: group.clone(),
            members: BTreeMap::from([(owner.clone(), at)]),
            owner: Some(owner),
            policy,
            born: self.last_birth,
            requests: BTreeMap::new(),
            files: Files::default(),
        };
        self.groups.by_key.insert(key, row);
        Ok(Outcome::Done)
    }

    pub(super) fn join_group(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (user, row) = policy::actor(self, actor)?;
        let (key, found) = self.groups.find(group)?;
        let owner = self.users.name(policy::owner_of_joinable(found)?).clone();
        match found.standing(&user) {
            Standing::Owner | Standing::Member => return Err(refusal::already_member(&row.name, &found.name)),
            Standing::Requested => return Err(refusal::already_requested(&found.name, &owner)),
            Standing::None => {}
        }
        if found.policy != JoinPolicy::Approval {
            self.admit(&key, &user, at, changes)?;
            return Ok(Outcome::Joined);
        }
        if found.requests.len() >= REQUESTS_PER_GROUP_MAX {
            return Err(refusal::full(format!("group `{}` has {REQUESTS_PER_GROUP_MAX} requests", found.name)));
        }
        if row.requested.len() >= REQUESTS_PER_USER_MAX {
            return Err(refusal::full(format!("`{}` has asked to join {REQUESTS_PER_USER_MAX} groups", row.name)));
        }
        let (group, name) = (found.name.clone(), row.name.clone());
        changes.push(Change::Membership { group: group.clone(), user: name.clone(), standing: Standing::Requested });
        changes.push(Change::JoinRequested { group, owner: owner.clone(), user: name });
        self.users.get_mut(&user).requested.insert(key.clone());
        self.groups.get_mut(&key).requests.insert(user, at);
        Ok(Outcome::Waiting { owner })
    }

    pub(super) fn leave_group(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        force: bool,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (user, row) = policy::actor(self, actor)?;
        let (key, found) = self.groups.find(group)?;
        policy::owner_of_joinable(found)?;
        match found.standing(&user) {
            Standing::None => return Err(refusal::nothing_to_leave(&row.name, &found.name)),
            Standing::Requested => self.drop_request(&key, &user, changes),
            Standing::Member => self.drop_member(&key, &user, changes),
            Standing::Owner if found.members.len() > 1 => return Err(refusal::owner_must_hand_over(&found.name)),
            Standing::Owner if !force => return Err(refusal::last_member(&found.name)),
            Standing::Owner => self.end_group(&key, changes),
        }
        Ok(Outcome::Done)
    }

    pub(super) fn accept_request(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        user: &UserName,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, user) = self.waiting(actor, group, user)?;
        self.admit(&key, &user, at, changes)?;
        Ok(Outcome::Done)
    }

    pub(super) fn reject_request(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        user: &UserName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, user) = self.waiting(actor, group, user)?;
        self.drop_request(&key, &user, changes);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_member(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        user: &UserName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, user) = self.member(actor, group, user)?;
        let found = self.groups.get(&key);
        if found.owner.as_ref() == Some(&user) {
            return Err(refusal::owner_must_hand_over(&found.name));
        }
        self.drop_member(&key, &user, changes);
        Ok(Outcome::Done)
    }

    pub(super) fn transfer_group(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        user: &UserName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, new) = self.member(actor, group, user)?;
        let found = self.groups.get_mut(&key);
        if found.owner.as_ref() != Some(&new) {
            let old = found.owner.replace(new.clone());
            let changed = old.into_iter().map(|old| (old, Standing::Member)).chain([(new, Standing::Owner)]);
            for (user, standing) in changed {
                let user = self.users.name(&user).clone();
                changes.push(Change::Membership { group: found.name.clone(), user, standing });
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn delete_group(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let key = self.owned(actor, group)?;
        self.end_group(&key, changes);
        Ok(Outcome::Done)
    }

    /// The group that the actor's user owns.
    pub(super) fn owned(&self, actor: NodeId, group: &GroupName) -> Result<GroupKey, Reject> {
        let (user, _) = policy::actor(self, actor)?;
        let (key, found) = self.groups.find(group)?;
        policy::require(self, Right::Decide, found, &user)?;
        Ok(key)
    }

    /// Somebody who waits at a group that the actor's user owns.
    fn waiting(&self, actor: NodeId, group: &GroupName, user: &UserName) -> Result<(GroupKey, UserKey), Reject> {
        let key = self.owned(actor, group)?;
        let (user, row) = self.users.find(user).ok_or_else(|| refusal::user_not_found(user))?;
        let found = self.groups.get(&key);
        match found.standing(&user) {
            Standing::Requested => Ok((key, user)),
            Standing::None => Err(refusal::request_not_found(&row.name, &found.name)),
            Standing::Owner | Standing::Member => Err(refusal::already_member(&row.name, &found.name)),
        }
    }

    /// A member of a group that the actor's user owns.
    fn member(&self, actor: NodeId, group: &GroupName, user: &UserName) -> Result<(GroupKey, UserKey), Reject> {
        let key = self.owned(actor, group)?;
        let (user, row) = self.users.find(user).ok_or_else(|| refusal::user_not_found(user))?;
        let found = self.groups.get(&key);
        if !found.members.contains_key(&user) {
            return Err(refusal::no_such_member(&row.name, &found.name));
        }
        Ok((key, user))
    }

    /// Refuses a user who belongs to as many groups as are allowed.
    fn room_for_group(&self, user: &UserKey) -> Result<(), Reject> {
        let row = self.users.get(user);
        if row.groups.len() >= GROUPS_PER_USER_MAX {
            return Err(refusal::full(format!("`{}` belongs to {GROUPS_PER_USER_MAX} groups", row.name)));
        }
        Ok(())
    }

    /// Makes a user a member who is none; a request of theirs is answered by it.
    pub(super) fn admit(
        &mut self,
        key: &GroupKey,
        user: &UserKey,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<(), Reject> {
        self.room_for_group(user)?;
        let group = self.groups.get_mut(key);
        if group.members.len() >= MEMBERS_PER_GROUP_MAX {
            return Err(refusal::full(format!("group `{}` has {MEMBERS_PER_GROUP_MAX} members", group.name)));
        }
        group.requests.remove(user);
        group.members.insert(user.clone(), at);
        let row = self.users.get_mut(user);
        row.requested.remove(key);
        row.groups.insert(key.clone());
        changes.push(Change::Membership {
            group: group.name.clone(),
            user: row.name.clone(),
            standing: Standing::Member,
        });
        Ok(())
    }

    /// Takes back or turns away a request.
    fn drop_request(&mut self, key: &GroupKey, user: &UserKey, changes: &mut Vec<Change>) {
        let group = self.groups.get_mut(key);
        group.requests.remove(user);
        let row = self.users.get_mut(user);
        row.requested.remove(key);
        changes.push(Change::Membership {
            group: group.name.clone(),
            user: row.name.clone(),
            standing: Standing::None,
        });
    }

    /// Takes a member out who is not the owner. The member's listings go too: who leaves takes back what they offered,
    /// and nobody would be left who could take it out. Copies that others have stay theirs, to list themselves.
    fn drop_member(&mut self, key: &GroupKey, user: &UserKey, changes: &mut Vec<Change>) {
        let group = self.groups.get_mut(key);
        group.members.remove(user);
        let listings = group.files.remove_owner(user);
        self.discount_listings(user, listings);
        let group = self.groups.get(key);
        let row = self.users.get_mut(user);
        row.groups.remove(key);
        changes.push(Change::Membership {
            group: group.name.clone(),
            user: row.name.clone(),
            standing: Standing::None,
        });
        if !policy::allows(Right::Read, group, user) {
            let (group, nodes) = (group.name.clone(), row.nodes.iter().copied().collect());
            self.revoke_access(group, nodes, changes);
        }
    }

    /// Takes a group out with its members, requests and listings. Where it stood in the place of the built-in group, that
    /// one comes into being.
    fn end_group(&mut self, key: &GroupKey, changes: &mut Vec<Change>) {
        let Some(group) = self.groups.by_key.remove(key) else { return };
        for (owner, count) in group.files.owners() {
            self.discount_listings(owner, count);
        }
        for user in group.members.keys().chain(group.requests.keys()) {
            let row = self.users.get_mut(user);
            row.groups.remove(key);
            row.requested.remove(key);
            changes.push(Change::Membership {
                group: group.name.clone(),
                user: row.name.clone(),
                standing: Standing::None,
            });
        }
        let nodes = group.members.keys().map(|user| self.users.get(user).nodes.len()).sum();
        changes.push(Change::GroupEnded { group: group.name.clone(), nodes });
        self.void_grants(group.name, changes);
        if self.public_made && *key == GroupKey::from(&GroupName::public()) {
            self.insert_public(Files::default());
            changes.push(Change::PublicGroupMade);
        }
    }

    /// Takes the name of the built-in group, and makes it unless somebody's group has had that name before.
    pub(super) fn make_public_group(&mut self, changes: &mut Vec<Change>) -> Outcome {
        if !std::mem::replace(&mut self.public_made, true) && self.groups.find(&GroupName::public()).is_err() {
            self.insert_public(Files::default());
            changes.push(Change::PublicGroupMade);
        }
        Outcome::Done
    }

    /// Puts the built-in group into the table.
    pub(super) fn insert_public(&mut self, files: Files) {
        for (owner, count) in files.owners() {
            self.count_listings(owner, count);
        }
        let row = Group {
            name: GroupName::public(),
            owner: None,
            policy: JoinPolicy::Public,
            born: BUILT_IN_BORN,
            members: BTreeMap::new(),
            requests: BTreeMap::new(),
            files,
        };
        self.groups.by_key.insert(GroupKey::from(&row.name), row);
    }
}
