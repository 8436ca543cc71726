//! Who is online, where, and with which contents: soft state, in memory only, made anew from what the daemons announce.
//!
//! Invariant: whatever stands here under a group, its node may read the group. The server checks it when an announcement
//! comes and takes out what is lost by [`Presence::revoke`], so nobody is told of, or sent to, a node that may not.
//!
//! Who announces anything in a group may serve there, and listens: it has to hear what is revoked. That does not depend on
//! whether others find what it announces, nor on room for it.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;

use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::limit::{LOOKUP_PROVIDERS_MAX, NODE_ADDRESSES_MAX};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Event, Provider, Providers};
use serde::{Deserialize, Serialize};

use crate::state::bound::GROUPS_PER_USER_MAX;
use crate::state::{Found, GroupKey};

/// Contents that one node may announce: several times what a daemon is made for. About 200 bytes of memory each.
pub const ITEMS_PER_NODE_MAX: usize = 50_000;

/// Contents that the nodes of one user may announce together: a fleet under one account, and a twentieth of
/// [`ITEMS_MAX`], so that no account keeps all others from announcing.
pub const ITEMS_PER_USER_MAX: usize = 200_000;

/// The same of contents that no listing tells of, for which any id will do: what somebody shares of files whose publishers have
/// taken them out. Four hundred accounts fill [`ITEMS_MAX`], and making accounts is slowed down.
pub const UNLISTED_PER_USER_MAX: usize = 10_000;

/// Contents that all nodes together may announce: 800 MiB of memory.
pub const ITEMS_MAX: usize = 4_000_000;

/// Groups that one node may announce anything in while it is connected: as many as a user may belong to, and some public
/// ones that it only reads. About 100 bytes of memory each, so some 100 KiB a connection at the most.
pub const GROUPS_PER_NODE_MAX: usize = GROUPS_PER_USER_MAX + 24;

/// Contents whose last seeder is remembered, the most recently left; about 200 bytes of memory each.
const LAST_SEEDERS_MAX: usize = 100_000;

/// Nodes told of one newcomer that is not the first seeder: who downloads has others already, and asks again by lookup.
const NOTIFIED_MAX: usize = LOOKUP_PROVIDERS_MAX;

/// Nodes told at once of a content that is wanted and that only they could share again: enough that one of them answers,
/// few enough that not all of them come back for one download. The next ones follow when it is asked for again.
const WOKEN_MAX: usize = 3;

/// Ports below are not used by daemons; no dial is aimed at a well-known service.
const PORT_MIN: u16 = 1024;

/// One content as one group has it.
type Item = (GroupKey, ContentId);

/// A node, or all of them, has announced as much as is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In [`GROUPS_PER_NODE_MAX`] groups.
    #[error("this node announces contents in more than {GROUPS_PER_NODE_MAX} groups")]
    Groups,
    /// [`ITEMS_PER_NODE_MAX`] contents.
    #[error("this node announces more than {ITEMS_PER_NODE_MAX} contents")]
    OfNode,
    /// [`ITEMS_PER_USER_MAX`] contents, by all nodes of its user.
    #[error("the nodes of this user announce more than {ITEMS_PER_USER_MAX} contents")]
    OfUser,
    /// [`UNLISTED_PER_USER_MAX`] contents without a listing, by all nodes of its user.
    #[error("the nodes of this user announce more than {UNLISTED_PER_USER_MAX} contents that are not listed")]
    Unlisted,
    /// [`ITEMS_MAX`] contents, by all nodes.
    #[error("all nodes together announce more than {ITEMS_MAX} contents")]
    OfAll,
}

/// An event and the node that it is for.
pub type Notice = (NodeId, Event);

/// All nodes that are online.
#[derive(Debug, Default)]
pub struct Presence {
    nodes: HashMap<NodeId, Node>,
    contents: HashMap<Item, Holders>,
    groups: HashMap<GroupKey, Listeners>,
    /// What the nodes of each user have announced, of those that have.
    users: HashMap<UserName, Announced>,
    last_seeders: HashMap<Item, (UserName, UnixMillis)>,
    /// Oldest first; one for each of `last_seeders`.
    last_seeders_order: VecDeque<Item>,
    /// Items of all nodes.
    items: usize,
}

#[derive(Debug)]
struct Node {
    user: Option<UserName>,
    /// Where its packets come from.
    observed: SocketAddr,
    /// Where it says that its own network finds it; checked, at most [`NODE_ADDRESSES_MAX`].
    local: Vec<SocketAddr>,
    items: BTreeMap<Item, Held>,
    /// Where it listens.
    groups: BTreeSet<GroupKey>,
}

/// How a node has a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Have {
    /// All of it: a seeder.
    Complete,
    /// Some of it, or none yet: a leecher.
    Partial,
    /// All of it, to be shared again if somebody asks while no seeder is online. Nobody is sent there before.
    Standby,
}

/// A content that a node has announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    have: Have,
    /// As it was found when it was first announced.
    found: Found,
}

/// How much a user's nodes have announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Announced {
    items: usize,
    /// Those of them that no listing told of.
    unlisted: usize,
}

impl Have {
    /// As a daemon announces it.
    pub fn announced(complete: bool) -> Have {
        if complete { Have::Complete } else { Have::Partial }
    }

    /// Whether both are told by the same kind of announcement, so that one replaces the other's list.
    fn is_told_with(self, other: Have) -> bool {
        (self == Have::Standby) == (other == Have::Standby)
    }
}

/// A group that anybody listens in.
#[derive(Debug)]
struct Listeners {
    name: GroupName,
    nodes: HashSet<NodeId>,
}

/// Who has a content.
#[derive(Debug, Default)]
struct Holders {
    complete: Ring,
    partial: Ring,
    standby: Ring,
}

impl Holders {
    fn ring(&mut self, have: Have) -> &mut Ring {
        match have {
            Have::Complete => &mut self.complete,
            Have::Partial => &mut self.partial,
            Have::Standby => &mut self.standby,
        }
    }

    fn count(&self) -> usize {
        self.complete.nodes.len() + self.partial.nodes.len() + self.standby.nodes.len()
    }
}

impl Announced {
    /// With another content.
    fn with(self, found: Found) -> Result<Announced, Full> {
        if self.items >= ITEMS_PER_USER_MAX {
            return Err(Full::OfUser);
        }
        let unlisted = usize::from(found == Found::ById);
        if self.unlisted + unlisted > UNLISTED_PER_USER_MAX {
            return Err(Full::Unlisted);
        }
        Ok(Announced { items: self.items + 1, unlisted: self.unlisted + unlisted })
    }
}

/// Nodes that are given out in turn: ids are as good as random, so the order tells nothing and favours nobody.
#[derive(Debug, Default)]
struct Ring {
    nodes: BTreeSet<NodeId>,
    /// Given out last.
    last: Option<NodeId>,
}

impl Ring {
    /// The next `count` nodes in turn, without `except`.
    fn next(&mut self, count: usize, except: Option<NodeId>) -> Vec<NodeId> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let before = self.last.map_or(Bound::Excluded(NodeId([0; 32])), Bound::Included);
        let turn = self.nodes.range((behind, Bound::Unbounded)).chain(self.nodes.range((Bound::Unbounded, before)));
        let given: Vec<NodeId> = turn.copied().filter(|node| Some(*node) != except).take(count).collect();
        self.last = given.last().copied().or(self.last);
        given
    }
}

impl Presence {
    /// Everything that anybody has announced: in which group, what, whose node, and how it has it.
    pub fn rows(&self) -> impl Iterator<Item = (&GroupName, ContentId, Option<&UserName>, NodeId, Have)> {
        self.nodes.iter().flat_map(|(node, entry)| {
            entry.items.iter().filter_map(|((group, content), held)| {
                // Who announces in a group listens there.
                let name = &self.groups.get(group)?.name;
                Some((name, *content, entry.user.as_ref(), *node, held.have))
            })
        })
    }

    /// A node is there, with nothing announced; what an earlier connection announced is forgotten.
    pub fn connect(
        &mut self,
        node: NodeId,
        user: Option<UserName>,
        observed: SocketAddr,
        local: &[SocketAddr],
        now: UnixMillis,
    ) {
        self.disconnect(node, now);
        let observed = SocketAddr::new(observed.ip().to_canonical(), observed.port());
        let local = local.iter().filter(|address| usable(address)).copied().take(NODE_ADDRESSES_MAX).collect();
        self.nodes.insert(node, Node { user, observed, local, items: BTreeMap::new(), groups: BTreeSet::new() });
    }

    /// Where a node's packets come from now; whether that is another address than before (it moved, or its router did).
    pub fn observe(&mut self, node: NodeId, observed: SocketAddr) -> bool {
        let Some(row) = self.nodes.get_mut(&node) else { return false };
        let observed = SocketAddr::new(observed.ip().to_canonical(), observed.port());
        std::mem::replace(&mut row.observed, observed) != observed
    }

    /// A node is gone, and what it announced with it.
    pub fn disconnect(&mut self, node: NodeId, now: UnixMillis) {
        self.withdraw_all(node, now);
        self.nodes.remove(&node);
    }

    /// A node belongs to another user than before; what it announced for the old one is forgotten.
    pub fn set_user(&mut self, node: NodeId, user: Option<UserName>, now: UnixMillis) {
        self.withdraw_all(node, now);
        if let Some(row) = self.nodes.get_mut(&node) {
            row.user = user;
        }
    }

    /// How many contents of groups somebody here has announced.
    pub fn announced(&self) -> usize {
        self.contents.len()
    }

    /// Whether a node is there.
    pub fn is_online(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// A node may serve in a group: it is told what is revoked there until it is gone, or may not read the group any more.
    /// Says whether it listens only from now on, and has to be told what it missed.
    ///
    /// # Errors
    /// [`Full::Groups`]; nothing has changed then.
    pub fn listen(&mut self, node: NodeId, group: &GroupName) -> Result<bool, Full> {
        let Some(row) = self.nodes.get_mut(&node) else { return Ok(false) };
        let key = GroupKey::from(group);
        if row.groups.contains(&key) {
            return Ok(false);
        }
        if row.groups.len() >= GROUPS_PER_NODE_MAX {
            return Err(Full::Groups);
        }
        // The group's text is kept once, however many nodes and items name it.
        let key = match self.groups.entry(key) {
            MapEntry::Occupied(mut entry) => {
                entry.get_mut().nodes.insert(node);
                entry.key().clone()
            }
            MapEntry::Vacant(entry) => {
                let key = entry.key().clone();
                entry.insert(Listeners { name: group.clone(), nodes: HashSet::from([node]) });
                key
            }
        };
        row.groups.insert(key);
        Ok(true)
    }

    /// Nodes that listen in a group.
    pub fn listeners(&self, group: &GroupName) -> Vec<NodeId> {
        self.groups.get(&GroupKey::from(group)).map(|row| row.nodes.iter().copied().collect()).unwrap_or_default()
    }

    /// Nodes that listen in any group that `picked` picks.
    pub fn nodes_that_listen(&self, picked: impl Fn(&GroupName) -> bool) -> BTreeSet<NodeId> {
        let groups = self.groups.values().filter(|row| picked(&row.name));
        groups.flat_map(|row| row.nodes.iter().copied()).collect()
    }

    /// Whether a node listens in any group.
    pub fn listens(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|row| !row.groups.is_empty())
    }

    /// Forgets everything that a node announced.
    pub fn withdraw_all(&mut self, node: NodeId, now: UnixMillis) {
        let Some(row) = self.nodes.get_mut(&node) else { return };
        let items: Vec<Item> = row.items.keys().cloned().collect();
        let groups = std::mem::take(&mut row.groups);
        for item in items {
            self.remove(node, &item, now);
        }
        groups.iter().for_each(|group| self.remove_listener(node, group));
    }

    /// Forgets what a node announced in a group, where it does not listen any more.
    pub fn revoke(&mut self, node: NodeId, group: &GroupName, now: UnixMillis) {
        let Some(row) = self.nodes.get_mut(&node) else { return };
        let from = (GroupKey::from(group), ContentId([0; 32]));
        let items: Vec<Item> = row
            .items
            .range(from.clone()..)
            .take_while(|(item, _)| item.0 == from.0)
            .map(|(item, _)| item.clone())
            .collect();
        row.groups.remove(&from.0);
        for item in items {
            self.remove(node, &item, now);
        }
        self.remove_listener(node, &from.0);
    }

    /// Forgets what a node announced in the way of `told`, but these: an announcement replaces the rest by them.
    pub fn keep_only(&mut self, node: NodeId, kept: &[(GroupName, ContentId)], told: Have, now: UnixMillis) {
        let Some(row) = self.nodes.get(&node) else { return };
        let kept: BTreeSet<Item> = kept.iter().map(|(group, content)| (GroupKey::from(group), *content)).collect();
        let replaced = row.items.iter().filter(|(item, held)| held.have.is_told_with(told) && !kept.contains(item));
        let items: Vec<Item> = replaced.map(|(item, _)| item.clone()).collect();
        for item in items {
            self.remove(node, &item, now);
        }
    }

    /// A node no longer has a content as it announced in the way of `told`; what it says of it in the other way stays.
    pub fn withdraw(&mut self, node: NodeId, group: &GroupName, content: ContentId, told: Have, now: UnixMillis) {
        let item = (GroupKey::from(group), content);
        if self.nodes.get(&node).and_then(|row| row.items.get(&item)).is_some_and(|held| held.have.is_told_with(told)) {
            self.remove(node, &item, now);
        }
    }

    /// A node has a content, which others find as `found` says. Says who is to be told: those who download it, when the node is new to it or has become
    /// complete; and those on standby, when it is wanted now and nobody has all of it. It listens in the group as by
    /// [`Presence::listen`].
    ///
    /// # Errors
    /// [`Full`]; the content is not announced then.
    pub fn announce(
        &mut self,
        node: NodeId,
        group: &GroupName,
        content: ContentId,
        found: Found,
        have: Have,
        now: UnixMillis,
    ) -> Result<Vec<Notice>, Full> {
        self.listen(node, group)?;
        let Some(row) = self.nodes.get_mut(&node) else { return Ok(Vec::new()) };
        let Some((key, _)) = self.groups.get_key_value(&GroupKey::from(group)) else { return Ok(Vec::new()) };
        let item = (key.clone(), content);
        let before = row.items.get(&item).copied();
        match before {
            Some(before) if before.have == have => return Ok(Vec::new()),
            Some(_) => {}
            None if row.items.len() >= ITEMS_PER_NODE_MAX => return Err(Full::OfNode),
            None if self.items >= ITEMS_MAX => return Err(Full::OfAll),
            None => {
                if let Some(user) = &row.user {
                    let announced = self.users.get(user).copied().unwrap_or_default();
                    self.users.insert(user.clone(), announced.with(found)?);
                }
                self.items += 1;
            }
        }
        let found = before.map_or(found, |before| before.found);
        row.items.insert(item.clone(), Held { have, found });
        let before = before.map(|before| before.have);
        let holders = self.contents.entry(item.clone()).or_default();
        if let Some(before) = before {
            holders.ring(before).nodes.remove(&node);
        }
        holders.ring(have).nodes.insert(node);
        if before == Some(Have::Complete) {
            self.remember_seeder(node, &item, now);
        }
        let mut notices = match have {
            // Who was a seeder is known already to those who download it.
            Have::Partial if before == Some(Have::Complete) => Vec::new(),
            Have::Standby => Vec::new(),
            _ => self.notices(node, group, &item, have == Have::Complete),
        };
        notices.extend(self.wanted(group, &item));
        Ok(notices)
    }

    /// Whom to tell that a node which downloads a content asks for it: those on standby, while nobody has all of it. Who
    /// only looks wakes nobody.
    pub fn ask(&mut self, asker: NodeId, group: &GroupName, content: ContentId) -> Vec<Notice> {
        let item = (GroupKey::from(group), content);
        let downloads = self
            .nodes
            .get(&asker)
            .is_some_and(|row| row.items.get(&item).is_some_and(|held| held.have == Have::Partial));
        if downloads { self.wanted(group, &item) } else { Vec::new() }
    }

    /// Who has a content, for a node that asks.
    pub fn lookup(&mut self, asker: NodeId, group: &GroupName, content: ContentId) -> Providers {
        let item = (GroupKey::from(group), content);
        let mut providers = Vec::new();
        if let Some(holders) = self.contents.get_mut(&item) {
            for (complete, ring) in [(true, &mut holders.complete), (false, &mut holders.partial)] {
                for node in ring.next(LOOKUP_PROVIDERS_MAX - providers.len(), Some(asker)) {
                    providers.extend(provider(&self.nodes, node, asker, complete));
                }
            }
        }
        let seeded = providers.iter().any(|provider| provider.complete);
        let last_seeder = if seeded { None } else { self.last_seeders.get(&item).cloned() };
        Providers { providers, last_seeder }
    }

    /// How many nodes have all of a content, and how many some.
    pub fn counts(&self, group: &GroupName, content: ContentId) -> (u32, u32) {
        let count = |ring: &Ring| u32::try_from(ring.nodes.len()).unwrap_or(u32::MAX);
        let holders = self.contents.get(&(GroupKey::from(group), content));
        holders.map_or((0, 0), |holders| (count(&holders.complete), count(&holders.partial)))
    }

    /// Wakes some of those on standby for an item that is downloaded and that nobody has all of.
    fn wanted(&mut self, group: &GroupName, item: &Item) -> Vec<Notice> {
        let Some(holders) = self.contents.get_mut(item) else { return Vec::new() };
        if holders.partial.nodes.is_empty() || !holders.complete.nodes.is_empty() {
            return Vec::new();
        }
        let woken = holders.standby.next(WOKEN_MAX, None);
        woken.into_iter().map(|node| (node, Event::Wanted { group: group.clone(), content: item.1 })).collect()
    }

    /// Tells those who download an item of a node that is new to it or complete now. A first seeder is told to all, since
    /// their downloads may be waiting for it.
    fn notices(&mut self, newcomer: NodeId, group: &GroupName, item: &Item, complete: bool) -> Vec<Notice> {
        let Some(holders) = self.contents.get_mut(item) else { return Vec::new() };
        let first_seeder = complete && holders.complete.nodes.len() == 1;
        let count = if first_seeder { usize::MAX } else { NOTIFIED_MAX };
        let told = holders.partial.next(count, Some(newcomer)).into_iter().filter_map(|node| {
            let provider = provider(&self.nodes, newcomer, node, complete)?;
            Some((node, Event::Provider { group: group.clone(), content: item.1, provider }))
        });
        told.collect()
    }

    /// Takes an item from a node.
    fn remove(&mut self, node: NodeId, item: &Item, now: UnixMillis) {
        let Some(row) = self.nodes.get_mut(&node) else { return };
        let Some(Held { have, found }) = row.items.remove(item) else { return };
        self.items -= 1;
        if let Some(user) = &row.user
            && let Some(announced) = self.users.get_mut(user)
        {
            announced.items -= 1;
            announced.unlisted -= usize::from(found == Found::ById);
            if announced.items == 0 {
                self.users.remove(user);
            }
        }
        if let Some(holders) = self.contents.get_mut(item) {
            holders.ring(have).nodes.remove(&node);
        }
        if have == Have::Complete {
            self.remember_seeder(node, item, now);
        }
        if self.contents.get(item).is_some_and(|holders| holders.count() == 0) {
            self.contents.remove(item);
        }
    }

    /// Takes a node from those who listen in a group.
    fn remove_listener(&mut self, node: NodeId, group: &GroupKey) {
        let Some(row) = self.groups.get_mut(group) else { return };
        row.nodes.remove(&node);
        if row.nodes.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Remembers a seeder that left an item without any other.
    fn remember_seeder(&mut self, node: NodeId, item: &Item, now: UnixMillis) {
        if self.contents.get(item).is_some_and(|holders| !holders.complete.nodes.is_empty()) {
            return;
        }
        let Some(user) = self.nodes.get(&node).and_then(|row| row.user.clone()) else { return };
        if self.last_seeders.insert(item.clone(), (user, now)).is_none() {
            self.last_seeders_order.push_back(item.clone());
        }
        if self.last_seeders_order.len() > LAST_SEEDERS_MAX
            && let Some(oldest) = self.last_seeders_order.pop_front()
        {
            self.last_seeders.remove(&oldest);
        }
    }

    /// Panics unless the tables fit each other.
    #[cfg(test)]
    fn invariant(&self) {
        let mut items = 0;
        let mut users: HashMap<UserName, Announced> = HashMap::new();
        for (id, node) in &self.nodes {
            items += node.items.len();
            assert!(node.groups.iter().all(|group| self.groups[group].nodes.contains(id)));
            for (item, Held { have, found }) in &node.items {
                if let Some(user) = &node.user {
                    let announced = users.entry(user.clone()).or_default();
                    announced.items += 1;
                    announced.unlisted += usize::from(*found == Found::ById);
                }
                assert!(node.groups.contains(&item.0), "who announces in a group listens there");
                let holders = self.contents.get(item).expect("an announced item has holders");
                assert_eq!(holders.complete.nodes.contains(id), *have == Have::Complete);
                assert_eq!(holders.partial.nodes.contains(id), *have == Have::Partial);
                assert_eq!(holders.standby.nodes.contains(id), *have == Have::Standby);
            }
        }
        assert_eq!(users, self.users);
        assert_eq!((items, items), (self.items, self.contents.values().map(Holders::count).sum()));
        let listening: usize = self.nodes.values().map(|node| node.groups.len()).sum();
        assert_eq!(listening, self.groups.values().map(|row| row.nodes.len()).sum::<usize>());
        assert!(self.contents.values().all(|holders| holders.count() > 0), "an item without holders is kept");
        assert!(self.groups.values().all(|row| !row.nodes.is_empty()), "a group without listeners is kept");
        assert_eq!(self.last_seeders.len(), self.last_seeders_order.len());
    }
}

/// A node as it is told to another; `None` for one that cannot be reached.
fn provider(nodes: &HashMap<NodeId, Node>, node: NodeId, asker: NodeId, complete: bool) -> Option<Provider> {
    let (row, asker) = (nodes.get(&node)?, nodes.get(&asker)?);
    let addresses = candidates(row, asker.observed.ip());
    if addresses.is_empty() {
        return None;
    }
    Some(Provider { node, user: row.user.clone()?, addresses, complete })
}

/// Where a node may be reached from `asker`: the address that it is seen at first.
///
/// What a node says of itself is told only where it can do no harm to others: to those that are seen at the same address
/// (the same machine, or behind the same router). A node on the tracker's own machine is seen at a loopback address, which
/// means nothing to others; those get what it says of itself in its stead.
fn candidates(node: &Node, asker: IpAddr) -> Vec<SocketAddr> {
    let seen_at = node.observed.ip();
    let observed = (!seen_at.is_loopback() || asker.is_loopback()).then_some(node.observed);
    let local = node.local.iter().copied().filter(|address| {
        let here = address.ip().is_loopback();
        if asker == seen_at {
            !here || seen_at.is_loopback()
        } else {
            seen_at.is_loopback() && !asker.is_loopback() && !here
        }
    });
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in observed.into_iter().chain(local).filter(usable) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(NODE_ADDRESSES_MAX);
    addresses
}

/// Whether an address may be dialled at all: one machine's, at a port that no well-known service has.
fn usable(address: &SocketAddr) -> bool {
    let one_machine = match address.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && ip.octets()[0] != 0,
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    one_machine && address.port() >= PORT_MIN
}

#[cfg(test)]
mod tests;
