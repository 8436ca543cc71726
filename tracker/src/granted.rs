//! Grants that have been issued and hold still: soft state, in memory only. By it is known in which groups a node may be
//! served that belongs to none of them, is connected no more, or has announced nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::limit::CLOCK_LEEWAY_SECONDS;
use p2p_proto::name::GroupName;
use p2p_proto::time::UnixMillis;

use crate::state::GroupKey;

/// Groups that one node is granted to read at once: many times what a daemon downloads from within a grant's life.
pub const GRANTS_PER_NODE_MAX: usize = 256;

/// Grants of all nodes that are remembered, about 250 bytes of memory each. Of more, those that end first are forgotten:
/// who logs out then is served by them until they end, for some minutes at the most.
const GRANTS_MAX: usize = 500_000;

/// How much longer than its life a grant is remembered: who serves by it may have a clock that is off by as much.
const LEEWAY: Duration = Duration::from_secs(CLOCK_LEEWAY_SECONDS);

/// A node is granted to read as many groups as is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node is granted to read {GRANTS_PER_NODE_MAX} groups")]
pub struct TooMany;

/// What is granted to whom.
#[derive(Debug, Default)]
pub struct Granted {
    /// When each is forgotten.
    nodes: HashMap<NodeId, BTreeMap<GroupKey, UnixMillis>>,
    /// Who is granted to read each; no set is empty.
    groups: HashMap<GroupKey, HashSet<NodeId>>,
    /// All of them, the next to be forgotten first.
    ends: BTreeSet<(UnixMillis, NodeId, GroupKey)>,
}

impl Granted {
    /// A node is to be granted to read a group until `expires`. Says whether it was before, and only renews it.
    ///
    /// # Errors
    /// [`TooMany`]; nothing has changed then.
    pub fn insert(
        &mut self,
        node: NodeId,
        group: &GroupName,
        expires: UnixMillis,
        now: UnixMillis,
    ) -> Result<bool, TooMany> {
        self.forget_ended(now);
        let until = expires.plus(LEEWAY);
        let key = GroupKey::from(group);
        let of_node = self.nodes.entry(node).or_default();
        let before = of_node.get(&key).copied();
        if before.is_none() && of_node.len() >= GRANTS_PER_NODE_MAX {
            return Err(TooMany);
        }
        self.groups.entry(key.clone()).or_default().insert(node);
        let until = before.map_or(until, |before| before.max(until));
        of_node.insert(key.clone(), until);
        if let Some(before) = before {
            self.ends.remove(&(before, node, key.clone()));
        }
        self.ends.insert((until, node, key));
        if self.ends.len() > GRANTS_MAX
            && let Some((_, node, group)) = self.ends.first().cloned()
        {
            self.remove(node, &group);
        }
        Ok(before.is_some())
    }

    /// Nodes that are granted to read a group.
    pub fn readers(&self, group: &GroupName) -> Vec<NodeId> {
        let readers = self.groups.get(&GroupKey::from(group));
        readers.map(|readers| readers.iter().copied().collect()).unwrap_or_default()
    }

    /// What a node was granted for a group is void.
    pub fn revoke(&mut self, node: NodeId, group: &GroupName) {
        self.remove(node, &GroupKey::from(group));
    }

    /// All that a node was granted is void. Says whether it was granted anything.
    pub fn forget(&mut self, node: NodeId) -> bool {
        let groups: Vec<GroupKey> = self.nodes.get(&node).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        groups.iter().for_each(|group| self.remove(node, group));
        !groups.is_empty()
    }

    fn forget_ended(&mut self, now: UnixMillis) {
        while let Some((until, node, group)) = self.ends.first()
            && *until <= now
        {
            let (node, group) = (*node, group.clone());
            self.remove(node, &group);
        }
    }

    fn remove(&mut self, node: NodeId, group: &GroupKey) {
        let Some(of_node) = self.nodes.get_mut(&node) else { return };
        let Some(until) = of_node.remove(group) else { return };
        if of_node.is_empty() {
            self.nodes.remove(&node);
        }
        if let Some(readers) = self.groups.get_mut(group) {
            readers.remove(&node);
            if readers.is_empty() {
                self.groups.remove(group);
            }
        }
        self.ends.remove(&(until, node, group.clone()));
    }

    /// Panics unless the tables fit each other.
    #[cfg(test)]
    fn invariant(&self) {
        assert_eq!(self.ends.len(), self.nodes.values().map(BTreeMap::len).sum::<usize>());
        assert_eq!(self.ends.len(), self.groups.values().map(HashSet::len).sum::<usize>());
        for (until, node, group) in &self.ends {
            assert_eq!(self.nodes[node].get(group), Some(until));
            assert!(self.groups[group].contains(node));
        }
        assert!(self.nodes.values().all(|of_node| !of_node.is_empty()), "a node without grants is kept");
        assert!(self.groups.values().all(|readers| !readers.is_empty()), "a group without readers is kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    fn group(text: &str) -> GroupName {
        text.parse().expect("an allowed name")
    }

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    fn grant(granted: &mut Granted, number: u8, to_read: &str, now: UnixMillis) -> Result<bool, TooMany> {
        let outcome = granted.insert(node(number), &group(to_read), now.plus(LIFE), now);
        granted.invariant();
        outcome
    }

    #[test]
    fn a_grant_is_remembered_until_nobody_takes_it_any_more() {
        let (mut granted, start) = (Granted::default(), UnixMillis(1_000));
        assert_eq!(grant(&mut granted, 1, "g", start), Ok(false));
        let later = start.plus(LIFE / 2);
        assert_eq!(grant(&mut granted, 2, "g", later), Ok(false));
        assert_eq!(grant(&mut granted, 1, "G", later), Ok(true), "renewed");
        let over = start.plus(LIFE + LEEWAY);
        assert_eq!(grant(&mut granted, 3, "h", over), Ok(false));
        assert_eq!(granted.readers(&group("g")).len(), 2);
        assert_eq!(grant(&mut granted, 3, "h", later.plus(LIFE + LEEWAY)), Ok(true));
        assert_eq!(granted.readers(&group("g")), Vec::new());
        assert!(!granted.forget(node(1)));
    }

    #[test]
    fn what_is_revoked_is_granted_anew() {
        let (mut granted, now) = (Granted::default(), UnixMillis(1_000));
        for to_read in ["g", "h"] {
            assert_eq!(grant(&mut granted, 1, to_read, now), Ok(false));
        }
        granted.revoke(node(1), &group("G"));
        granted.invariant();
        assert_eq!((granted.readers(&group("g")), granted.readers(&group("h"))), (Vec::new(), vec![node(1)]));
        assert_eq!(grant(&mut granted, 1, "g", now), Ok(false));
        assert!(granted.forget(node(1)));
        granted.invariant();
        assert_eq!(grant(&mut granted, 1, "h", now), Ok(false));
    }

    #[test]
    fn a_node_is_granted_so_many_groups_at_once_and_no_more() {
        let (mut granted, now) = (Granted::default(), UnixMillis(1_000));
        for number in 0..GRANTS_PER_NODE_MAX {
            assert_eq!(grant(&mut granted, 1, &format!("g{number}"), now), Ok(false));
        }
        assert_eq!(grant(&mut granted, 1, "g", now), Err(TooMany));
        assert_eq!(grant(&mut granted, 1, "g0", now), Ok(true), "what it has is renewed");
        assert_eq!(grant(&mut granted, 2, "g", now), Ok(false), "others have theirs");
        assert_eq!(grant(&mut granted, 1, "g", now.plus(LIFE + LEEWAY)), Ok(false), "and it when those have ended");
    }
}
