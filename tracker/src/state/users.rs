//! The tables of users and nodes, and the commands on them.

use std::collections::{BTreeMap, BTreeSet};

use p2p_proto::id::NodeId;
use p2p_proto::name::UserName;
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;

use super::bound::{NODES_PER_USER_MAX, RECORD_BYTES_MAX, USERS_MAX};
use super::command::{Change, Outcome};
use super::key::{GroupKey, UserKey};
use super::policy;
use super::{State, refusal};

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// As it was given when the account was made.
    pub name: UserName,
    /// OPAQUE registration record.
    pub record: Vec<u8>,
    pub created: UnixMillis,
    /// Derived from the nodes' table.
    pub nodes: BTreeSet<NodeId>,
    /// Groups that the user belongs to; derived from the groups' table.
    pub groups: BTreeSet<GroupKey>,
    /// Groups that the user has asked to join; derived from the groups' table.
    pub requested: BTreeSet<GroupKey>,
    /// Number of the user's listings in all groups; derived from the groups' table.
    pub listings: usize,
}

/// Whose a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Enrolment {
    pub user: UserKey,
    /// `None` where a snapshot of version 1 did not tell.
    pub since: Option<UnixMillis>,
}

/// Users by name, nodes by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Users {
    pub by_key: BTreeMap<UserKey, User>,
    pub nodes: BTreeMap<NodeId, Enrolment>,
}

impl Users {
    pub fn find(&self, user: &UserName) -> Option<(UserKey, &User)> {
        self.by_key.get_key_value(&UserKey::from(user)).map(|(key, user)| (key.clone(), user))
    }

    pub fn of_node(&self, node: NodeId) -> Option<(UserKey, &User)> {
        let key = &self.nodes.get(&node)?.user;
        Some((key.clone(), self.get(key)))
    }

    /// The user behind a key of another table. Users are never taken out, so every such key has one.
    pub fn get(&self, key: &UserKey) -> &User {
        self.by_key.get(key).expect("a user in another table is in the users' table")
    }

    /// As [`Users::get`], to change it.
    pub fn get_mut(&mut self, key: &UserKey) -> &mut User {
        self.by_key.get_mut(key).expect("a user in another table is in the users' table")
    }

    pub fn name(&self, key: &UserKey) -> &UserName {
        &self.get(key).name
    }

    pub fn insert(&mut self, name: UserName, record: Vec<u8>, created: UnixMillis) {
        let (nodes, groups, requested) = Default::default();
        let user = User { name, record, created, nodes, groups, requested, listings: 0 };
        self.by_key.insert(UserKey::from(&user.name), user);
    }

    pub fn enrol(&mut self, node: NodeId, user: UserKey, since: Option<UnixMillis>) {
        self.get_mut(&user).nodes.insert(node);
        self.nodes.insert(node, Enrolment { user, since });
    }

    fn withdraw(&mut self, node: &NodeId, user: &UserKey) {
        self.get_mut(user).nodes.remove(node);
        self.nodes.remove(node);
    }

    pub fn invariant(&self) {
        assert!(self.by_key.len() <= USERS_MAX, "more users than allowed");
        for (key, user) in &self.by_key {
            assert_eq!(*key, UserKey::from(&user.name), "a user is filed under another name's key");
            assert!(user.nodes.len() <= NODES_PER_USER_MAX, "a user has more nodes than allowed");
            for node in &user.nodes {
                let of = self.nodes.get(node).map(|enrolment| &enrolment.user);
                assert_eq!(of, Some(key), "a user's node is not enrolled under that user");
            }
        }
        for (node, Enrolment { user, .. }) in &self.nodes {
            assert!(self.by_key.get(user).is_some_and(|user| user.nodes.contains(node)), "a node's user lacks it");
        }
    }
}

impl State {
    pub(super) fn create_user(
        &mut self,
        user: &UserName,
        record: &[u8],
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        self.may_create(user)?;
        if self.users.by_key.len() >= USERS_MAX {
            return Err(refusal::full(format!("this tracker has {USERS_MAX} users")));
        }
        fits(record)?;
        self.users.insert(user.clone(), record.to_vec(), at);
        changes.push(Change::UserCreated { user: user.clone() });
        Ok(Outcome::Done)
    }

    pub(super) fn enrol_node(
        &mut self,
        node: NodeId,
        user: &UserName,
        proved: Option<&[u8]>,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        // Who proves a password proves it against a record: without one there is nothing that could have been right.
        let (key, found) = self.users.find(user).ok_or_else(refusal::login_refused)?;
        if proved.is_some_and(|proved| proved != found.record) {
            return Err(refusal::login_refused());
        }
        match self.users.of_node(node) {
            Some((of, _)) if of == key => return Ok(Outcome::Done),
            Some((_, other)) => return Err(refusal::already_logged_in(&other.name)),
            None => {}
        }
        if found.nodes.len() >= NODES_PER_USER_MAX {
            return Err(refusal::full(format!("`{}` is logged in on {NODES_PER_USER_MAX} nodes", found.name)));
        }
        changes.push(Change::Enrolled { node, user: found.name.clone() });
        self.users.enrol(node, key, Some(at));
        Ok(Outcome::Done)
    }

    pub(super) fn change_password(
        &mut self,
        actor: NodeId,
        proved: &[u8],
        record: &[u8],
        log_out_everywhere: bool,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, user) = policy::actor(self, actor)?;
        if proved != user.record {
            return Err(refusal::old_password_refused());
        }
        fits(record)?;
        changes.push(Change::PasswordChanged { user: user.name.clone() });
        let others: Vec<NodeId> =
            user.nodes.iter().copied().filter(|node| log_out_everywhere && *node != actor).collect();
        self.users.get_mut(&key).record = record.to_vec();
        self.withdraw(&key, &others, changes);
        Ok(Outcome::Done)
    }

    /// Takes a node from the actor's user: its own, or another of that user.
    pub(super) fn withdraw_node(
        &mut self,
        actor: NodeId,
        node: NodeId,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (key, user) = policy::actor(self, actor)?;
        if !user.nodes.contains(&node) {
            return Err(refusal::node_not_found(node, &user.name));
        }
        self.withdraw(&key, &[node], changes);
        Ok(Outcome::Done)
    }

    /// Takes nodes from their user, and with the user what they may read.
    fn withdraw(&mut self, user: &UserKey, nodes: &[NodeId], changes: &mut Vec<Change>) {
        if nodes.is_empty() {
            return;
        }
        // Also where the user belongs to no group: public ones are read without.
        let epoch = self.begin_epoch();
        for node in nodes {
            self.users.withdraw(node, user);
            changes.push(Change::Withdrawn { node: *node, user: self.users.name(user).clone(), epoch });
        }
        let groups = self.users.get(user).groups.iter();
        let groups: Vec<_> = groups.map(|group| self.groups.get(group).name.clone()).collect();
        for group in groups {
            self.revoke_access(group, nodes.to_vec(), changes);
        }
    }
}

/// Refuses a registration record that is longer than any.
fn fits(record: &[u8]) -> Result<(), Reject> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(refusal::full(format!("a registration record has {RECORD_BYTES_MAX} bytes")));
    }
    Ok(())
}
