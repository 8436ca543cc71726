//! Announcements: every tracker is told what this node has, in pages, changes only.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::control::{Answer, TrackerState};
use p2p_proto::id::ContentId;
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::name::GroupName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Announce, Presence, Request};

use super::input::{CommandId, TrackerId};
use super::problems::Cause;
use super::record::ShareRecord;
use super::steps::Step;
use super::{Engine, Timer};

/// How long changes are gathered before they are announced: a burst of them becomes one request.
const GATHER_MS: u64 = 50;

/// How long after a refused announcement all is announced again.
const RETRY_MS: u64 = 5_000;

/// How long after one that a tracker had no room for: somebody has to make it first.
const FULL_RETRY_MS: u64 = 60_000;

impl Engine {
    /// What this node has changed: it is announced in a moment.
    pub(super) fn announce_soon(&mut self) {
        let at = self.after(Duration::from_millis(GATHER_MS));
        self.timers.set_if_unset(Timer::Announce, at);
    }

    /// What this node has changed, and others wait for it.
    pub(super) fn announce_now(&mut self) {
        self.timers.set(Timer::Announce, self.now.monotonic);
    }

    /// Answers a command once what it changed is announced, so that others see it when the command has ended.
    pub(super) fn tell_when_announced(&mut self, command: CommandId, answer: Answer) {
        self.told_when_announced.push((command, answer));
        self.announce_now();
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

    /// The next page to each tracker: first of what is here, then of what rests. One after the other, so that a share
    /// that begins to rest is not taken for one that has ended.
    fn announce_pages(&mut self) {
        let here = self.announced_contents();
        let resting = self.resting_contents(&here);
        for place in 0..self.trackers.len() {
            let tracker = &mut self.trackers[place];
            if tracker.state != TrackerState::Ok || tracker.announcing {
                continue;
            }
            let request = if let Some(page) = tracker.announced.next_page(&here) {
                Request::Announce(page)
            } else if let Some(page) = tracker.standby.next_page(&resting) {
                Request::Standby(page)
            } else {
                continue;
            };
            tracker.announcing = true;
            let tracker = TrackerId(place as u64);
            self.ask_tracker(tracker, Step::Announced(tracker), request);
        }
    }

    /// A page was taken: the next one follows. Or it was not: all is told again later.
    pub(super) fn announced(&mut self, tracker: TrackerId, result: Result<(), Reject>) {
        let Some(slot) = self.tracker_mut(tracker) else { return };
        slot.announcing = false;
        match result {
            Ok(()) => {
                self.problem_over(Cause::Announcement(tracker));
                self.timers.set(Timer::Announce, self.now.monotonic);
                // From now on the tracker tells of seeders that come; those that came before are looked up.
                self.look_up_where_lonely();
            }
            Err(reject) if reject.code == ErrorCode::NOT_ALLOWED => {
                // It has noted what it had room for. The other pages follow all the same: by them it knows the groups in
                // which to tell what is revoked.
                self.timers.set(Timer::Announce, self.now.monotonic);
                let at = self.after(Duration::from_millis(FULL_RETRY_MS));
                self.timers.set_if_unset(Timer::AnnounceAgain(tracker), at);
                let problem = format!("a tracker refuses a part of this node's announcement: {reject}");
                self.note_problem(Cause::PartOfAnnouncement(tracker), problem);
            }
            Err(reject) => {
                slot.forget_announced();
                let at = self.after(Duration::from_millis(RETRY_MS));
                self.timers.set(Timer::Announce, at);
                for (command, answer) in std::mem::take(&mut self.told_when_announced) {
                    self.tell(command, answer);
                }
                // Nobody is logged in for a moment between a login and its announcement; all else should be seen.
                if reject.code != ErrorCode::LOGIN_NEEDED && reject.code != ErrorCode::NO_TRACKER {
                    let problem = format!("a tracker refuses this node's announcement: {reject}");
                    self.note_problem(Cause::Announcement(tracker), problem);
                }
            }
        }
    }

    /// A tracker had no room for all of it: it is told anew.
    pub(super) fn announce_again(&mut self, tracker: TrackerId) {
        if let Some(slot) = self.tracker_mut(tracker) {
            slot.forget_announced();
            self.problem_over(Cause::PartOfAnnouncement(tracker));
            self.announce_soon();
        }
    }

    /// What this node has to tell: its shares, and what it downloads.
    fn announced_contents(&self) -> Contents {
        let downloading = self.transfers.iter().map(|(content, transfer)| {
            ((transfer.group.clone(), *content), Said { born: transfer.born, complete: false })
        });
        gathered(downloading.chain(self.shares.active().filter_map(|share| self.said(share))))
    }

    /// What this node would share again if it were wanted, and does not have to tell otherwise.
    fn resting_contents(&self, here: &Contents) -> Contents {
        let resting = self.shares.resting().filter_map(|share| self.said(share));
        gathered(resting.filter(|(item, _)| !here.contains_key(item)))
    }

    /// What is told of a share; nothing once its group is left.
    fn said(&self, share: &ShareRecord) -> Option<((GroupName, ContentId), Said)> {
        let said = Said { born: share.born, complete: true };
        (!self.left_groups.contains(&share.group)).then(|| ((share.group.clone(), share.content), said))
    }
}

/// What is told of a content of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    born: Option<UnixMillis>,
    complete: bool,
}

/// Contents of groups.
type Contents = BTreeMap<(GroupName, ContentId), Said>;

/// What is to be told of each: of groups that have had one name the latest, and of one group whether it is all here.
fn gathered(items: impl Iterator<Item = ((GroupName, ContentId), Said)>) -> Contents {
    let mut contents = Contents::new();
    for (item, said) in items {
        let known = contents.entry(item).or_insert(said);
        *known = said.max(*known);
    }
    contents
}

/// What a tracker has been told of this node, in one of the two ways.
#[derive(Debug)]
pub(super) struct Told {
    contents: Contents,
    /// Whether the next page replaces what it knew.
    replaces: bool,
}

impl Told {
    /// Nothing yet; with `replaces` that is said, too.
    pub fn new(replaces: bool) -> Told {
        Told { contents: Contents::new(), replaces }
    }

    /// What was told may not be known any more.
    pub fn forget(&mut self) {
        self.replaces |= !self.contents.is_empty();
        self.contents.clear();
    }

    /// What was told of a group is not known any more.
    pub fn forget_group(&mut self, group: &GroupName) {
        self.contents.retain(|(told, _), _| told != group);
    }

    /// The next page of changes towards `wanted`, taken as told; `None` if there are none.
    fn next_page(&mut self, wanted: &Contents) -> Option<Announce> {
        let page = next_page(wanted, &self.contents, self.replaces);
        if page.present.is_empty() && page.withdrawn.is_empty() && !page.replace {
            return None;
        }
        for presence in &page.present {
            let said = Said { born: presence.born, complete: presence.complete };
            self.contents.insert((presence.group.clone(), presence.content), said);
        }
        for item in &page.withdrawn {
            self.contents.remove(item);
        }
        self.replaces = false;
        Some(page)
    }
}

/// The first changes from what a tracker knows to what it should know.
fn next_page(wanted: &Contents, known: &Contents, replace: bool) -> Announce {
    let news = wanted.iter().filter(|(item, said)| known.get(*item) != Some(*said));
    let present = news.map(|((group, content), said)| Presence {
        group: group.clone(),
        content: *content,
        complete: said.complete,
        born: said.born,
    });
    let withdrawn = known.keys().filter(|item| !wanted.contains_key(*item)).cloned();
    Announce {
        replace,
        present: present.take(PAGE_ITEMS_MAX).collect(),
        withdrawn: withdrawn.take(PAGE_ITEMS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use p2p_proto::grant::ClusterKey;
    use p2p_proto::id::NodeId;
    use p2p_proto::manifest::HashAlgorithm;
    use p2p_proto::time::UnixMillis;
    use p2p_proto::tracker::{self, Envelope, HelloAck};

    use super::super::input::AskId;
    use super::super::record::{Account, Restored, Shape, ShareRecord, SourceStamp};
    use super::super::{Config, Input, Limits, Now, Output};
    use super::*;

    fn at(now: Duration) -> Now {
        Now { monotonic: now, wall: UnixMillis(1_000_000 + now.as_millis() as u64) }
    }

    /// An engine that shares a page and a half, each in a group of its own, at the end of whose name stands its number.
    fn sharing() -> Engine {
        let user: p2p_proto::name::UserName = "alice".parse().expect("a good name");
        let share = |number: usize| {
            let mut content = [0; 32];
            content[..8].copy_from_slice(&number.to_le_bytes());
            ShareRecord {
                resting: false,
                user: user.clone(),
                group: format!("g{number:04}").parse().expect("a good name"),
                name: "f".parse().expect("a good name"),
                content: ContentId(content),
                shape: Shape { length: 1, piece_length: 1 << 16, hash: HashAlgorithm::Blake3 },
                path: PathBuf::from(format!("/{number}")),
                stamp: SourceStamp { length: 1, modified_ns: 0, device: 1, inode: number as u64 },
                added: UnixMillis(0),
                born: Some(UnixMillis(0)),
            }
        };
        let shares = (0..PAGE_ITEMS_MAX * 3 / 2).map(share).collect();
        let cluster = ClusterKey([1; 32]);
        let account = Some(Account { user: user.clone(), cluster });
        let config = Config {
            node: NodeId([1; 32]),
            software: "p2pd 0".to_owned(),
            trackers: vec!["192.0.2.10:9000".to_owned()],
            seed: 1,
            process_id: 1,
            streams_folder: "/streams".into(),
            uploads_folder: "/uploads".into(),
            limits: Limits::default(),
        };
        let start = at(Duration::ZERO);
        let restored = Restored { account, shares, ..Restored::default() };
        let mut engine = Engine::new(config, restored, start);
        let ack = HelloAck {
            current: true,
            version: 1,
            software: "tracker 0".to_owned(),
            cluster,
            time: UnixMillis(1_000_000),
            observed: "192.0.2.7:4000".parse().expect("an address"),
            user: Some(user),
            leader: true,
        };
        let (tracker, node, key_exchange) = (TrackerId(0), NodeId([2; 32]), "none".to_owned());
        let round_trip = Duration::from_millis(1);
        engine.handle(start, Input::TrackerConnected { tracker, node, ack, round_trip, key_exchange });
        engine
    }

    /// Lets time pass until the next announcement: when that is, its question and its page.
    fn next_page(engine: &mut Engine) -> (Duration, AskId, Announce) {
        loop {
            while let Some(output) = engine.poll_output() {
                if let Output::AskTracker(ask, _, Envelope { request: Request::Announce(page), .. }) = output {
                    return (engine.now.monotonic, ask, page);
                }
            }
            let due = engine.next_deadline().expect("something is to be announced").max(engine.now.monotonic);
            engine.tick(at(due));
        }
    }

    #[test]
    fn a_page_that_a_tracker_has_no_room_for_keeps_no_other_from_it() {
        let mut engine = sharing();
        let (_, ask, page) = next_page(&mut engine);
        assert_eq!((page.present.len(), page.replace), (PAGE_ITEMS_MAX, true));
        let full = Reject::new(ErrorCode::NOT_ALLOWED, "no room");
        let now = engine.now;
        engine.handle(now, Input::answered(ask, Err(full)));
        let (second, ask, page) = next_page(&mut engine);
        assert_eq!((page.present.len(), page.replace), (PAGE_ITEMS_MAX / 2, false));
        let now = engine.now;
        engine.handle(now, Input::answered(ask, Ok(tracker::Answer::Done)));
        let (again, _, page) = next_page(&mut engine);
        assert_eq!((page.present.len(), page.replace), (PAGE_ITEMS_MAX, true), "all of it");
        assert!(again >= second + Duration::from_millis(FULL_RETRY_MS / 2), "{second:?} {again:?}");
    }
}
