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
}

/// Users by name, nodes by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Users {
    pub by_key: BTreeMap<UserKey, User>,
    pub nodes: BTreeMap<NodeId, UserKey>,
}

impl Users {
    pub fn find(&self, user: &UserName) -> Option<(UserKey, &User)> {
        self.by_key.get_key_value(&UserKey::from(user)).map(|(key, user)| (key.clone(), user))
    }

    pub fn of_node(&self, node: NodeId) -> Option<(UserKey, &User)> {
        let key = self.nodes.get(&node)?;
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
        let user =
            User { name, record, created, nodes: BTreeSet::new(), groups: BTreeSet::new(), requested: BTreeSet::new() };
        self.by_key.insert(UserKey::from(&user.name), user);
    }

    pub fn enrol(&mut self, node: NodeId, user: UserKey) {
        self.get_mut(&user).nodes.insert(node);
        self.nodes.insert(node, user);
    }

    pub fn invariant(&self) {
        assert!(self.by_key.len() <= USERS_MAX, "more users than allowed");
        for (key, user) in &self.by_key {
            assert_eq!(*key, UserKey::from(&user.name), "a user is filed under another name's key");
            assert!(user.nodes.len() <= NODES_PER_USER_MAX, "a user has more nodes than allowed");
            for node in &user.nodes {
                assert_eq!(self.nodes.get(node), Some(key), "a user's node is not enrolled under that user");
            }
        }
        for (node, key) in &self.nodes {
            assert!(self.by_key.get(key).is_some_and(|user| user.nodes.contains(node)), "a node's user lacks it");
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
        if record.len() > RECORD_BYTES_MAX {
            return Err(refusal::full(format!("a registration record has {RECORD_BYTES_MAX} bytes")));
        }
        self.users.insert(user.clone(), record.to_vec(), at);
        changes.push(Change::UserCreated { user: user.clone() });
        Ok(Outcome::Done)
    }

    pub(super) fn enrol_node(
        &mut self,
        node: NodeId,
        user: &UserName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        // Who proves a password proves it against a record: without one there is nothing that could have been right.
        let (key, found) = self.users.find(user).ok_or_else(refusal::login_refused)?;
        match self.users.of_node(node) {
            Some((of, _)) if of == key => return Ok(Outcome::Done),
            Some((_, other)) => return Err(refusal::already_logged_in(&other.name)),
            None => {}
        }
        if found.nodes.len() >= NODES_PER_USER_MAX {
            return Err(refusal::full(format!("`{}` is logged in on {NODES_PER_USER_MAX} nodes", found.name)));
        }
        changes.push(Change::Enrolled { node, user: found.name.clone() });
        self.users.enrol(node, key);
        Ok(Outcome::Done)
    }

    pub(super) fn withdraw_node(&mut self, node: NodeId, changes: &mut Vec<Change>) -> Result<Outcome, Reject> {
        let (key, user) = policy::actor(self, node)?;
        changes.push(Change::Withdrawn { node, user: user.name.clone() });
        let groups: Vec<_> = user.groups.iter().map(|group| self.groups.get(group).name.clone()).collect();
        // Also where the user belongs to no group: public ones are read without.
        self.begin_epoch();
        for group in groups {
            self.revoke_access(group, vec![node], changes);
        }
        self.users.nodes.remove(&node);
        self.users.get_mut(&key).nodes.remove(&node);
        Ok(Outcome::Done)
    }
}
