//! Access: whose grants hold here, and what ends when one does not any more.
//!
//! A grant ends by itself, at a moment that it names, or before that when a tracker revokes it. Either way everything that
//! is served by it ends at once: the interest is refused with the reason, what waits is refused, what is being sent is
//! stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::grant::{ClusterKey, Grant, GrantBody};
use p2p_proto::id::NodeId;
use p2p_proto::limit::REVOCATION_SECONDS;
use p2p_proto::name::GroupName;
use p2p_proto::peer::FromProvider;
use p2p_proto::reject::{ErrorCode, Reject};

use super::input::ServedId;
use super::serving::{Served, no_longer_served};
use super::{Engine, Output, Timer};

/// How long a revocation is remembered.
const KEPT: Duration = Duration::from_secs(REVOCATION_SECONDS);

/// Revocations remembered, some 200 bytes each. More of them within [`KEPT`] void more grants than they name, whose
/// holders ask for new ones.
const REVOKED_MAX: usize = 16_384;

/// Which grants are void before their end.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// Whose epochs these are.
    cluster: Option<ClusterKey>,
    /// By group (or all groups) and node (or all nodes): void are grants of earlier epochs; since when that is known here.
    rows: BTreeMap<(Option<GroupName>, Option<NodeId>), (u64, Duration)>,
    /// The same for every group and node: what rows said that had to make room.
    floor: Option<(u64, Duration)>,
}

impl Revoked {
    /// Forgets what another cluster of trackers said: it counts by itself.
    pub fn keep_for(&mut self, cluster: ClusterKey) {
        if self.cluster != Some(cluster) {
            *self = Revoked { cluster: Some(cluster), ..Revoked::default() };
        }
    }

    /// Grants of earlier epochs are void for that node, or for all, of that group, or of all.
    pub fn insert(&mut self, group: Option<&GroupName>, node: Option<NodeId>, epoch: u64, now: Duration) {
        let row = self.rows.entry((group.cloned(), node)).or_insert((epoch, now));
        *row = (row.0.max(epoch), now);
        if self.rows.len() > REVOKED_MAX {
            self.rows.retain(|_, (_, since)| is_recent(*since, now));
        }
        if self.rows.len() > REVOKED_MAX
            && let Some((oldest, (epoch, _))) = self.rows.iter().min_by_key(|(_, (epoch, _))| *epoch)
        {
            let (oldest, epoch) = (oldest.clone(), *epoch);
            self.rows.remove(&oldest);
            // What was pushed out before may have been revoked later than this.
            let floor =
                self.floor.filter(|(_, since)| is_recent(*since, now)).map_or(epoch, |(floor, _)| floor.max(epoch));
            self.floor = Some((floor, now));
        }
    }

    /// Whether a grant of that epoch is void.
    pub fn voids(&self, group: &GroupName, node: NodeId, epoch: u64, now: Duration) -> bool {
        let of = |group: Option<&GroupName>, node: Option<NodeId>| self.rows.get(&(group.cloned(), node)).copied();
        let revoked = [of(Some(group), Some(node)), of(Some(group), None), of(None, Some(node)), self.floor];
        let revoked = revoked.into_iter().flatten();
        revoked.filter(|(_, since)| is_recent(*since, now)).any(|(first, _)| epoch < first)
    }
}

fn is_recent(since: Duration, now: Duration) -> bool {
    now.saturating_sub(since) <= KEPT
}

impl Engine {
    /// What a grant says, if it holds for this node and group now.
    pub(super) fn check_grant(&self, grant: &Grant, node: NodeId, group: &GroupName) -> Result<GrantBody, Reject> {
        let account = self.account.as_ref().ok_or_else(|| grant_refused("nobody is logged in here"))?;
        let body = grant.verify(&account.cluster, node, group, self.tracker_time());
        let body = body.map_err(|error| grant_refused(error.to_string()))?;
        if self.revoked.voids(group, node, body.epoch, self.now.monotonic) {
            return Err(grant_refused("the grant was revoked"));
        }
        Ok(body)
    }

    /// A tracker voids grants of earlier epochs: those of a node that may no longer read a group, or everybody's.
    pub(super) fn revoke(&mut self, group: &GroupName, node: Option<NodeId>, epoch: u64) {
        self.revoked.insert(Some(group), node, epoch, self.now.monotonic);
        let reject = match node {
            Some(_) => Reject::new(ErrorCode::NOT_MEMBER, format!("no longer a member of {group}")),
            None => grant_refused("the grant was revoked"),
        };
        let concerns = |served: &Served| node.is_none_or(|node| served.node == node);
        self.refuse_where(|served| served.group == *group && concerns(served) && served.epoch < epoch, &reject);
        if node.is_none() {
            self.ask_share_group(group);
            self.own_grant_void(group, epoch);
        }
    }

    /// A tracker voids the grants of earlier epochs of nodes that are logged out.
    pub(super) fn nodes_logged_out(&mut self, nodes: Vec<(NodeId, u64)>) {
        let reject = Reject::new(ErrorCode::NOT_MEMBER, "no longer logged in");
        for (node, epoch) in nodes {
            self.revoked.insert(None, Some(node), epoch, self.now.monotonic);
            self.refuse_where(|served| served.node == node && served.epoch < epoch, &reject);
        }
    }

    /// This user has left the group, or the group has ended: nobody is served through it from here.
    pub(super) fn stop_serving_group(&mut self, group: &GroupName) {
        self.left_groups.insert(group.clone());
        self.refuse_where(|served| served.group == *group, &no_longer_served());
    }

    /// Nobody is logged in any more: nobody is served.
    pub(super) fn stop_serving(&mut self) {
        self.refuse_where(|_| true, &no_longer_served());
    }

    /// Has the end of a grant looked at when it comes.
    pub(super) fn watch_grant(&mut self, served: ServedId) {
        let Some(entry) = self.served.get(&served) else { return };
        let at = self.after(entry.expires.since(self.tracker_time()));
        self.timers.set(Timer::GrantEnd(served), at);
    }

    /// The tracker's time is known better than before: so are the ends of grants.
    pub(super) fn watch_grants(&mut self) {
        let all: Vec<ServedId> = self.served.keys().copied().collect();
        all.into_iter().for_each(|served| self.watch_grant(served));
    }

    /// A grant has ended, unless it was renewed meanwhile.
    pub(super) fn grant_ended(&mut self, served: ServedId) {
        match self.served.get(&served) {
            Some(entry) if entry.expires <= self.tracker_time() => self.refuse_served(served, grant_over()),
            Some(_) => self.watch_grant(served),
            None => (),
        }
    }

    /// Ends the interests that `ended` picks.
    pub(super) fn refuse_where(&mut self, ended: impl Fn(&Served) -> bool, reject: &Reject) {
        let lost: Vec<ServedId> =
            self.served.iter().filter(|(_, served)| ended(served)).map(|(served, _)| *served).collect();
        lost.into_iter().for_each(|served| self.refuse_served(served, reject.clone()));
    }

    /// Ends one interest with a reason, and all that is served by it.
    pub(super) fn refuse_served(&mut self, served: ServedId, reject: Reject) {
        if self.end_served(served, &reject) {
            self.outputs.push_back(Output::Provide(served, FromProvider::Refused(reject)));
        }
    }

    /// Ends all that is served by an interest: what waits is refused, what is being sent is stopped. False if it has ended
    /// before.
    pub(super) fn end_served(&mut self, served: ServedId, reject: &Reject) -> bool {
        let Some(entry) = self.served.remove(&served) else { return false };
        let key = (entry.connection, entry.content);
        if self.served_by.get(&key) == Some(&served) {
            self.served_by.remove(&key);
        }
        self.timers.clear(&Timer::GrantEnd(served));
        self.load_changed();
        for upload in self.uploads.remove_waiting(served) {
            self.outputs.push_back(Output::RefuseUpload(upload.upload, reject.clone()));
        }
        for upload in self.uploads.being_sent(served) {
            self.outputs.push_back(Output::StopUpload(upload, reject.clone()));
        }
        true
    }
}

/// A grant that does not hold.
pub(super) fn grant_refused(why: impl Into<String>) -> Reject {
    Reject::new(ErrorCode::GRANT_REFUSED, why)
}

/// A grant that held until now.
pub(super) fn grant_over() -> Reject {
    grant_refused("the grant has ended")
}

#[cfg(test)]
mod tests;
