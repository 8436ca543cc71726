//! Grants: the tracker's word that this node may read a group, asked for before it is needed and renewed before it ends.

use std::time::Duration;

use p2p_proto::control::Happening;
use p2p_proto::grant::Grant;
use p2p_proto::name::GroupName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Request, Standing};

use super::input::InterestId;
use super::steps::Step;
use super::{Engine, Output, Timer};

/// How long after a failure a grant is asked for again.
const RETRY_MS: u64 = 5_000;

/// A group's grant.
#[derive(Debug, Default)]
pub(super) struct GroupGrant {
    /// The newest one.
    pub grant: Option<Grant>,
    /// When it came.
    came: Duration,
    /// Whether one is asked for, now or by the timer that is set.
    asking: bool,
    /// Why the last one was not given.
    refusal: Option<Reject>,
}

impl Engine {
    /// The grant for the group of a transfer; asks for one if there is none, or if it is for another group of that name:
    /// which of them there is, its answer tells.
    pub(super) fn grant_for(&mut self, group: &GroupName, born: Option<UnixMillis>) -> Option<Grant> {
        let entry = self.grants.entry(group.clone()).or_default();
        let fits = |grant: &&Grant| grant.peek().is_ok_and(|body| Some(body.born) == born);
        let grant = entry.grant.as_ref().filter(fits).cloned();
        if grant.is_none() && !entry.asking {
            self.ask_grant(group.clone());
        }
        grant
    }

    /// Asks for a (fresh) grant, if anything still needs it.
    pub(super) fn ask_grant(&mut self, group: GroupName) {
        let needed = self.transfers.values().any(|transfer| transfer.group == group);
        if !needed {
            self.grants.remove(&group);
            return;
        }
        let asked = self.ask_now(Step::Granted(group.clone()), Request::Grant { group: group.clone() });
        self.grants.entry(group.clone()).or_default().asking = true;
        if !asked {
            let at = self.after(Duration::from_millis(RETRY_MS));
            self.timers.set(Timer::Grant(group), at);
        }
    }

    /// A tracker answers again: what it could not be asked for is asked for now.
    pub(super) fn ask_missing_grants(&mut self) {
        let missing = self.grants.iter().filter(|(_, entry)| entry.grant.is_none());
        let missing: Vec<GroupName> = missing.map(|(group, _)| group.clone()).collect();
        missing.into_iter().for_each(|group| self.ask_grant(group));
    }

    /// A grant came: interests are opened, or renewed, with it. Or it was refused: downloads of the group stop.
    pub(super) fn granted(&mut self, group: GroupName, result: Result<Grant, Reject>) {
        let now = self.now.monotonic;
        let Some(entry) = self.grants.get_mut(&group) else { return };
        entry.asking = false;
        match result {
            Ok(grant) => {
                entry.grant = Some(grant.clone());
                entry.came = now;
                entry.refusal = None;
                // Who is granted to read a group may serve it too.
                if self.left_groups.remove(&group) {
                    self.announce_soon();
                }
                let body = grant.peek();
                let renew_after = body.as_ref().map_or(Duration::ZERO, |body| body.renew_after());
                let at = self.after(renew_after.max(Duration::from_millis(RETRY_MS)));
                self.timers.set(Timer::Grant(group.clone()), at);
                if let Ok(body) = body {
                    self.keep_downloads_of(&group, body.born);
                }
                for interest in self.interests_of(&group) {
                    self.outputs.push_back(Output::RenewInterest(interest, grant.clone()));
                }
                self.review_group(&group);
            }
            Err(reject) if is_final(reject.code) => {
                self.group_lost(&group, &reject);
            }
            Err(reject) => {
                entry.refusal = Some(reject);
                // Counts as being asked for until the timer asks, or every review would.
                entry.asking = true;
                let at = self.after(Duration::from_millis(RETRY_MS));
                self.timers.set(Timer::Grant(group), at);
            }
        }
    }

    /// This user's standing in a group changed: what was granted may no longer hold.
    pub(super) fn membership_changed(&mut self, group: &GroupName, standing: Standing) {
        if standing == Standing::None {
            self.stop_serving_group(group);
        } else {
            self.left_groups.remove(group);
        }
        // The tracker forgets what a node announced in a group that it leaves.
        for tracker in &mut self.trackers {
            tracker.announced.forget_group(group);
            tracker.standby.forget_group(group);
        }
        self.announce_soon();
        self.ask_share_group(group);
        // This user may own the group now, with those who wait at it, or no longer.
        self.ask_join_requests();
        self.happened(Happening::Membership { group: group.clone(), standing });
        if self.transfers.values().any(|transfer| transfer.group == *group) {
            // A public group is read by others too: whether this one still is, the tracker says.
            self.grants.remove(group);
            self.ask_grant(group.clone());
        }
    }

    /// A tracker has voided everybody's grants of earlier epochs: ours too, if it is one of them.
    pub(super) fn own_grant_void(&mut self, group: &GroupName, epoch: u64) {
        let Some(entry) = self.grants.get_mut(group) else { return };
        let void = entry.grant.as_ref().is_some_and(|grant| grant.peek().is_ok_and(|body| body.epoch < epoch));
        if void {
            entry.grant = None;
            self.ask_grant(group.clone());
        }
    }

    /// A provider does not believe the grant, or says that this node may not read the group any more: a fresh one may
    /// help, and only a tracker knows.
    pub(super) fn grant_disbelieved(&mut self, group: &GroupName) {
        let Some(entry) = self.grants.get_mut(group) else { return };
        entry.grant = None;
        if !entry.asking {
            entry.asking = true;
            // Not at once after the last one: one provider may disbelieve every grant.
            let at = entry.came.saturating_add(Duration::from_millis(RETRY_MS)).max(self.now.monotonic);
            self.timers.set(Timer::Grant(group.clone()), at);
        }
    }

    /// Whether this node has been granted to read a group, as far as it knows.
    pub(super) fn is_granted(&self, group: &GroupName) -> bool {
        self.grants.get(group).is_some_and(|entry| entry.grant.is_some())
    }

    /// Why there is no grant for a group, where a tracker has said so.
    pub(super) fn grant_refusal(&self, group: &GroupName) -> Option<&Reject> {
        self.grants.get(group)?.refusal.as_ref()
    }

    /// The interests opened for a group's downloads.
    fn interests_of(&self, group: &GroupName) -> Vec<InterestId> {
        let transfers = self.transfers.values().filter(|transfer| transfer.group == *group);
        transfers.flat_map(|transfer| transfer.peers.values().filter_map(|peer| peer.interest)).collect()
    }
}

/// Whether asking again cannot help.
pub(super) fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NOT_MEMBER | ErrorCode::NOT_ALLOWED | ErrorCode::GROUP_NOT_FOUND)
}
