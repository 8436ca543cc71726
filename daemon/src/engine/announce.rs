//! Announcements: every tracker is told what this node has, in pages, changes only.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::control::{Answer, TrackerState};
use p2p_proto::id::ContentId;
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::name::GroupName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Announce, Presence, Request};

use super::input::{CommandId, TrackerId};
use super::steps::Step;
use super::{Engine, Timer};

/// How long changes are gathered before they are announced: a burst of them becomes one request.
const GATHER_MS: u64 = 50;

/// How long after a refused announcement all is announced again.
const RETRY_MS: u64 = 5_000;

impl Engine {
    /// What this node has changed: it is announced in a moment.
    pub(super) fn announce_soon(&mut self) {
        let at = self.after(Duration::from_millis(GATHER_MS));
        self.timers.set_if_unset(Timer::Announce, at);
    }

    /// Answers a command once what it changed is announced, so that others see it when the command has ended.
    pub(super) fn tell_when_announced(&mut self, command: CommandId, answer: Answer) {
        self.told_when_announced.push((command, answer));
        self.timers.set(Timer::Announce, self.now.monotonic);
    }

    /// Tells every tracker that answers the next page of what it does not know.
    pub(super) fn announce(&mut self) {
        if self.account.is_some() {
            self.announce_pages();
        }
        let announcing = self.trackers.iter().any(|tracker| tracker.state == TrackerState::Ok && tracker.announcing);
        if !announcing {
            for (command, answer) in std::mem::take(&mut self.told_when_announced) {
                self.tell(command, answer);
            }
        }
    }

    /// The next page to each tracker.
    fn announce_pages(&mut self) {
        let wanted = self.announced_contents();
        for place in 0..self.trackers.len() {
            let tracker = &mut self.trackers[place];
            if tracker.state != TrackerState::Ok || tracker.announcing {
                continue;
            }
            let announce = next_page(&wanted, &tracker.announced, tracker.announce_replaces);
            if announce.present.is_empty() && announce.withdrawn.is_empty() && !announce.replace {
                continue;
            }
            for presence in &announce.present {
                tracker.announced.insert((presence.group.clone(), presence.content), presence.complete);
            }
            for item in &announce.withdrawn {
                tracker.announced.remove(item);
            }
            tracker.announcing = true;
            tracker.announce_replaces = false;
            let tracker = TrackerId(place as u64);
            self.ask_tracker(tracker, Step::Announced(tracker), Request::Announce(announce));
        }
    }

    /// A page was taken: the next one follows. Or it was not: all is told again later.
    pub(super) fn announced(&mut self, tracker: TrackerId, result: Result<(), Reject>) {
        let Some(slot) = self.tracker_mut(tracker) else { return };
        slot.announcing = false;
        match result {
            Ok(()) => {
                self.timers.set(Timer::Announce, self.now.monotonic);
                // From now on the tracker tells of seeders that come; those that came before are looked up.
                self.look_up_where_lonely();
            }
            Err(reject) => {
                slot.announced.clear();
                slot.announce_replaces = true;
                let at = self.after(Duration::from_millis(RETRY_MS));
                self.timers.set(Timer::Announce, at);
                for (command, answer) in std::mem::take(&mut self.told_when_announced) {
                    self.tell(command, answer);
                }
                // Nobody is logged in for a moment between a login and its announcement; all else should be seen.
                if reject.code != ErrorCode::LOGIN_NEEDED && reject.code != ErrorCode::NO_TRACKER {
                    self.note_problem(format!("a tracker refuses this node's announcement: {reject}"));
                }
            }
        }
    }

    /// What this node has to tell: its shares, and what it downloads.
    fn announced_contents(&self) -> BTreeMap<(GroupName, ContentId), bool> {
        let downloading = self.transfers.iter().map(|(content, transfer)| ((transfer.group.clone(), *content), false));
        let sharing = self.shares.active().filter(|share| !self.left_groups.contains(&share.group));
        let sharing = sharing.map(|share| ((share.group.clone(), share.content), true));
        downloading.chain(sharing).collect()
    }
}

/// The first changes from what a tracker knows to what it should know.
fn next_page(
    wanted: &BTreeMap<(GroupName, ContentId), bool>,
    known: &BTreeMap<(GroupName, ContentId), bool>,
    replace: bool,
) -> Announce {
    let news = wanted.iter().filter(|(item, complete)| known.get(*item) != Some(*complete));
    let present = news.map(|((group, content), complete)| Presence {
        group: group.clone(),
        content: *content,
        complete: *complete,
    });
    let withdrawn = known.keys().filter(|item| !wanted.contains_key(*item)).cloned();
    Announce {
        replace,
        present: present.take(PAGE_ITEMS_MAX).collect(),
        withdrawn: withdrawn.take(PAGE_ITEMS_MAX).collect(),
    }
}
