//! Revocations: the one place that voids grants, and the table of those that somebody may not have heard of yet.
//!
//! Grants carry the epoch: how often any node had lost access to any group when they were issued. Who loses access
//! begins a new epoch, and what was issued to them before is void. So whoever comes back is granted anew at once.
//!
//! Nodes online are told when it happens. One that was away (or whose tracker was) is told what it missed as soon as it
//! announces anything in the group; the table keeps each revocation for as long as a grant from before it may live.
//!
//! A node that is logged out loses its user's groups, and every public one: that stands in the table as a revocation of the
//! built-in group, which nobody loses otherwise, and is told once and not for each group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::limit::REVOCATION_SECONDS;
use p2p_proto::name::GroupName;
use p2p_proto::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::State;
use super::bound::REVOCATIONS_MAX;
use super::command::Change;

/// How long a revocation is kept.
const KEPT: Duration = Duration::from_secs(REVOCATION_SECONDS);

/// Grants that are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose; `None` for every node's.
    pub node: Option<NodeId>,
    /// Void are those with an earlier epoch.
    pub epoch: u64,
}

/// The most recent revocations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Revocations {
    /// Each group's with their times, oldest first; no queue is empty.
    by_group: BTreeMap<GroupName, VecDeque<(UnixMillis, Revocation)>>,
    /// The group of each, oldest first.
    order: VecDeque<GroupName>,
    /// When and with which epoch the last one happened that had to make room before its time.
    pushed_out: Option<(UnixMillis, u64)>,
}

/// A revocation in a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct RevocationRow {
    group: GroupName,
    at: UnixMillis,
    revocation: Revocation,
}

/// The whole table in a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct RevocationRows {
    rows: Vec<RevocationRow>,
    pushed_out: Option<(UnixMillis, u64)>,
}

impl Revocations {
    fn insert(&mut self, group: &GroupName, at: UnixMillis, revocation: Revocation) {
        self.by_group.entry(group.clone()).or_default().push_back((at, revocation));
        self.order.push_back(group.clone());
        while let Some((oldest, epoch)) = self.oldest()
            && (oldest.plus(KEPT) < at || self.order.len() > REVOCATIONS_MAX)
        {
            if oldest.plus(KEPT) >= at {
                self.pushed_out = Some((oldest, epoch));
            }
            self.remove_oldest();
        }
    }

    /// When the oldest happened, and its epoch.
    fn oldest(&self) -> Option<(UnixMillis, u64)> {
        let (at, revocation) = self.by_group.get(self.order.front()?)?.front()?;
        Some((*at, revocation.epoch))
    }

    fn remove_oldest(&mut self) {
        let Some(group) = self.order.pop_front() else { return };
        let Some(of_group) = self.by_group.get_mut(&group) else { return };
        of_group.pop_front();
        if of_group.is_empty() {
            self.by_group.remove(&group);
        }
    }

    /// The whole table. Rows stand in the order in which they came.
    pub fn rows(&self) -> RevocationRows {
        let mut next: BTreeMap<&GroupName, usize> = BTreeMap::new();
        let rows = self.order.iter().filter_map(|group| {
            let (name, of_group) = self.by_group.get_key_value(group)?;
            let place = next.entry(name).or_default();
            let (at, revocation) = *of_group.get(*place)?;
            *place += 1;
            Some(RevocationRow { group: name.clone(), at, revocation })
        });
        RevocationRows { rows: rows.collect(), pushed_out: self.pushed_out }
    }

    pub fn from_rows(rows: RevocationRows) -> Revocations {
        let mut revocations = Revocations { pushed_out: rows.pushed_out, ..Revocations::default() };
        for RevocationRow { group, at, revocation } in rows.rows {
            revocations.by_group.entry(group.clone()).or_default().push_back((at, revocation));
            revocations.order.push_back(group);
        }
        revocations
    }

    pub fn invariant(&self, epoch: u64) {
        assert!(self.order.len() <= REVOCATIONS_MAX, "more revocations than allowed are kept");
        assert_eq!(self.order.len(), self.by_group.values().map(VecDeque::len).sum::<usize>());
        for (group, of_group) in &self.by_group {
            assert_eq!(of_group.len(), self.order.iter().filter(|other| *other == group).count());
            assert!(!of_group.is_empty(), "a group without revocations is kept");
            assert!(of_group.iter().is_sorted_by_key(|(_, revocation)| revocation.epoch), "epochs go back");
            assert!(of_group.iter().all(|(_, revocation)| revocation.epoch <= epoch), "an epoch has not begun");
        }
    }
}

impl State {
    /// Nodes may not read a group any more: what they were granted before is void from now on. Every command that takes
    /// access away says so here.
    pub(super) fn revoke_access(&mut self, group: GroupName, nodes: Vec<NodeId>, changes: &mut Vec<Change>) {
        if !nodes.is_empty() {
            let epoch = self.begin_epoch();
            changes.push(Change::AccessLost { group, nodes, epoch });
        }
    }

    /// Everybody who reads a group has to ask again whether they may: what was granted before is void from now on, also to
    /// those who may. For when those who may not are more than can be named: readers of a public group.
    pub(super) fn void_grants(&mut self, group: GroupName, changes: &mut Vec<Change>) {
        let epoch = self.begin_epoch();
        changes.push(Change::GrantsVoided { group, epoch });
    }

    /// Voids what was granted before, for those that a change names.
    pub(super) fn begin_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Counts on from `least`, where the count is not there yet: another tracker may go on counting from here, and what it
    /// grants meanwhile is void for whoever loses access from now on.
    pub(crate) fn void_earlier_counts(&mut self, least: u64) {
        self.epoch = self.epoch.max(least);
    }

    /// How often any node has lost access to any group. Goes into grants.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Keeps what an entry revoked, for those who do not hear of it now.
    pub(super) fn remember_revocations(&mut self, at: UnixMillis, changes: &[Change]) {
        for change in changes {
            match change {
                Change::AccessLost { group, nodes, epoch } => {
                    for node in nodes {
                        let revocation = Revocation { node: Some(*node), epoch: *epoch };
                        self.revocations.insert(group, at, revocation);
                    }
                }
                Change::GrantsVoided { group, epoch } => {
                    self.revocations.insert(group, at, Revocation { node: None, epoch: *epoch });
                }
                Change::Withdrawn { node, epoch, .. } => {
                    let revocation = Revocation { node: Some(*node), epoch: *epoch };
                    self.revocations.insert(&GroupName::public(), at, revocation);
                }
                _ => {}
            }
        }
    }

    /// What was revoked in a group and may still matter at `now`, oldest first: one at most for each node.
    pub fn revocations(&self, group: &GroupName, now: UnixMillis) -> Vec<Revocation> {
        let matters = |at: UnixMillis| at.plus(KEPT) >= now;
        let of_group = self.revocations.by_group.get(group).into_iter().flatten();
        let recent = of_group.filter(|(at, _)| matters(*at)).map(|(_, revocation)| *revocation);
        let recent = recent.filter(|revocation| revocation.node.is_none() || !self.stands_for_logouts(group));
        // What is not known any more may have been of this group and of anybody.
        let pushed_out = self.revocations.pushed_out.filter(|(at, _)| matters(*at));
        let unknown = pushed_out.map(|(_, epoch)| Revocation { node: None, epoch });
        let mut last: BTreeMap<Option<NodeId>, u64> = BTreeMap::new();
        for Revocation { node, epoch } in unknown.into_iter().chain(recent) {
            if node.is_none() {
                last.clear();
            }
            last.insert(node, epoch);
        }
        let mut last: Vec<Revocation> = last.into_iter().map(|(node, epoch)| Revocation { node, epoch }).collect();
        last.sort_by_key(|revocation| revocation.epoch);
        last
    }

    /// Nodes that were logged out, which may still matter at `now`, and the epochs that began then.
    pub fn logouts(&self, now: UnixMillis) -> Vec<(NodeId, u64)> {
        let public = GroupName::public();
        let kept = self.revocations.by_group.get(&public).into_iter().flatten();
        let recent = kept.filter(|(at, _)| at.plus(KEPT) >= now && self.stands_for_logouts(&public));
        let last: BTreeMap<NodeId, u64> =
            recent.filter_map(|(_, revocation)| Some((revocation.node?, revocation.epoch))).collect();
        last.into_iter().collect()
    }

    /// Whether what nodes have lost of a group is that they were logged out. Not of a group of that name from before there
    /// was a built-in one: where there still is such a group, who was away is not told of logouts.
    fn stands_for_logouts(&self, group: &GroupName) -> bool {
        *group == GroupName::public() && self.owner_of_older_public().is_none()
    }
}
