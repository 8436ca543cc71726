//! Who waits to be let into this user's groups, as far as a tracker has told: what `status` shows an owner.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::control::{Answer, Happening};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::tracker::{self, OwnedRequest, Reply, Request};

use super::Engine;
use super::steps::Step;

/// What is known of them. A request may be taken back without anybody being told, so it is asked for again whenever it
/// is shown or may have changed.
#[derive(Debug, Default)]
pub(super) struct JoinRequests {
    /// The first page of them: more than a person reads at once.
    pub known: Vec<OwnedRequest>,
    asking: bool,
    /// Something changed since it was asked.
    again: bool,
    /// Whose requests trackers have told of lately, and when.
    told: BTreeMap<(GroupName, UserName), Duration>,
}

/// How far apart the trackers of a cluster tell of one request at the most; a request that is made again that soon is not
/// told twice.
const TOLD_APART: Duration = Duration::from_secs(10);

impl Engine {
    /// Asks a tracker who waits, if one answers.
    pub(super) fn ask_join_requests(&mut self) {
        let Ok(user) = self.user().cloned() else { return };
        if self.join_requests.asking {
            self.join_requests.again = true;
        } else {
            let request = Request::ListOwnedRequests { after: None };
            self.join_requests.asking = self.ask_now(Step::JoinRequests(user), request);
        }
    }

    /// A tracker has said who waits, or could not.
    pub(super) fn join_requests_told(&mut self, user: &UserName, reply: Reply) {
        self.join_requests.asking = false;
        if let (Ok(tracker::Answer::OwnedRequests(page)), Ok(now)) = (reply, self.user())
            && now == user
        {
            self.join_requests.known = page;
        }
        if std::mem::take(&mut self.join_requests.again) {
            self.ask_join_requests();
        }
    }

    /// Whether another tracker of the cluster has just told of this request: each of them does.
    pub(super) fn is_echo(&mut self, group: &GroupName, user: &UserName) -> bool {
        let now = self.now.monotonic;
        let told = &mut self.join_requests.told;
        told.retain(|_, at| now.saturating_sub(*at) < TOLD_APART);
        let key = (group.clone(), user.clone());
        if self.trackers.len() < 2 || told.contains_key(&key) {
            return self.trackers.len() > 1;
        }
        // Beyond a page of them nobody reads them one by one.
        if told.len() < p2p_proto::limit::PAGE_ITEMS_MAX {
            told.insert(key, now);
        }
        false
    }

    /// Somebody asks to join a group of this user.
    pub(super) fn join_requested(&mut self, group: GroupName, user: UserName) {
        let since = self.tracker_time();
        let known = &mut self.join_requests.known;
        known.retain(|row| row.group != group || row.user != user);
        if known.len() < p2p_proto::limit::PAGE_ITEMS_MAX {
            known.push(OwnedRequest { group: group.clone(), user: user.clone(), since });
        }
        self.happened(Happening::JoinRequested { group, user });
        self.ask_join_requests();
    }

    /// This user has made a change that may have answered some of them.
    pub(super) fn join_requests_changed(&mut self, answer: &Answer) {
        match answer {
            Answer::RequestAccepted(done) | Answer::RequestRejected(done) => {
                self.join_requests.known.retain(|row| row.group != done.group || row.user != done.user);
            }
            Answer::GroupDeleted(done) => self.join_requests.known.retain(|row| row.group != done.group),
            _ => (),
        }
        self.ask_join_requests();
    }
}
