//! Announcements: every tracker is told what this node has, in pages, changes only.

use std::collections::{BTreeMap, BTreeSet};
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
use super::shares::Shares;
use super::steps::Step;
use super::transfer::Transfer;
use super::{Engine, Timer};

/// How long changes are gathered before they are announced: a burst of them becomes one request.
const GATHER_MS: u64 = 50;

/// How long after a refused announcement all is announced again.
const RETRY_MS: u64 = 5_000;

/// How long after one that a tracker had no room for: somebody has to make it first.
const FULL_RETRY_MS: u64 = 60_000;

impl Engine {
    /// Much of what this node has may have changed: all of it is compared with what trackers know, in a moment.
    pub(super) fn announce_soon(&mut self) {
        self.told().for_each(|told| told.unsure = true);
        self.announce_in_a_moment();
    }

    /// What this node has of a content has changed: that is announced in a moment.
    pub(super) fn announce_content(&mut self, content: ContentId) {
        self.told().for_each(|told| _ = told.changed.insert(content));
        self.announce_in_a_moment();
    }

    fn announce_in_a_moment(&mut self) {
        let at = self.after(Duration::from_millis(GATHER_MS));
        self.timers.set_if_unset(Timer::Announce, at);
    }

    /// What each tracker has been told.
    fn told(&mut self) -> impl Iterator<Item = &mut Told> {
        self.trackers.iter_mut().flat_map(|tracker| [&mut tracker.announced, &mut tracker.standby])
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
        for place in 0..self.trackers.len() {
            let Engine { trackers, shares, transfers, left_groups, .. } = self;
            let (tracker, holdings) = (&mut trackers[place], Holdings { shares, transfers, left_groups });
            if tracker.state != TrackerState::Ok || tracker.announcing {
                continue;
            }
            for told in [&mut tracker.announced, &mut tracker.standby].into_iter().filter(|told| told.unsure) {
                told.compare_all(holdings.contents());
            }
            let request = if let Some(page) = tracker.announced.next_page(|content| holdings.here(content)) {
                Request::Announce(page)
            } else if let Some(page) = tracker.standby.next_page(|content| holdings.resting(content)) {
                Request::Standby(page)
            } else {
                continue;
            };
            tracker.announcing = true;
            let tracker = TrackerId(place as u64);
            self.ask_tracker(tracker, Step::Announced(tracker), request);
        }
    }

    /// Says what is wrong unless each tracker has been told what is so, or it stands among what has changed.
    pub(super) fn announcements_invariant(&self) -> Result<(), String> {
        let Engine { trackers, shares, transfers, left_groups, .. } = self;
        let holdings = Holdings { shares, transfers, left_groups };
        for tracker in trackers {
            tracker.announced.invariant(holdings.contents(), |content| holdings.here(content))?;
            tracker.standby.invariant(holdings.contents(), |content| holdings.resting(content))?;
        }
        Ok(())
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
}

/// What this node has.
struct Holdings<'a> {
    shares: &'a Shares,
    transfers: &'a BTreeMap<ContentId, Transfer>,
    left_groups: &'a BTreeSet<GroupName>,
}

impl Holdings<'_> {
    /// Every content of which anything is here.
    fn contents(&self) -> impl Iterator<Item = ContentId> {
        self.transfers.keys().copied().chain(self.shares.contents())
    }

    /// What is to be told of a content: that it is shared, and that it is downloaded.
    fn here(&self, content: ContentId) -> Groups {
        let downloading = self
            .transfers
            .get(&content)
            .map(|transfer| (transfer.group.clone(), Said { born: transfer.born, complete: false }));
        let shared = self.shares.good(content).filter(|share| !share.resting);
        gathered(downloading.into_iter().chain(shared.filter_map(|share| self.said(share))))
    }

    /// What would be shared of it again if it were wanted, and does not have to be told otherwise.
    fn resting(&self, content: ContentId) -> Groups {
        let here = self.here(content);
        let resting = self.shares.good(content).filter(|share| share.resting).filter_map(|share| self.said(share));
        gathered(resting.filter(|(group, _)| !here.contains_key(group)))
    }

    /// What is told of a share; nothing once its group is left.
    fn said(&self, share: &ShareRecord) -> Option<(GroupName, Said)> {
        let said = Said { born: share.born, complete: true };
        (!self.left_groups.contains(&share.group)).then(|| (share.group.clone(), said))
    }
}

/// What is told of a content of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    born: Option<UnixMillis>,
    complete: bool,
}

/// What is told of a content, by group.
type Groups = BTreeMap<GroupName, Said>;

/// What is to be told of each group: of those that have had one name the latest, and of one whether it is all here.
fn gathered(items: impl Iterator<Item = (GroupName, Said)>) -> Groups {
    let mut groups = Groups::new();
    for (group, said) in items {
        let known = groups.entry(group).or_insert(said);
        *known = said.max(*known);
    }
    groups
}

/// What a tracker has been told of this node, in one of the two ways.
#[derive(Debug)]
pub(super) struct Told {
    contents: BTreeMap<ContentId, Groups>,
    /// Contents of which it may have to be told something else.
    changed: BTreeSet<ContentId>,
    /// Whether that may be any.
    unsure: bool,
    /// Whether it may know anything: also of a page that it has refused.
    knows: bool,
    /// Whether the next page replaces what it knew.
    replaces: bool,
}

impl Told {
    /// Nothing yet; with `replaces` that is said, too.
    pub fn new(replaces: bool) -> Told {
        Told { contents: BTreeMap::new(), changed: BTreeSet::new(), unsure: true, knows: false, replaces }
    }

    /// What was told may not be known any more.
    pub fn forget(&mut self) {
        self.replaces |= self.knows;
        self.contents.clear();
        self.unsure = true;
    }

    /// What was told of a group is not known any more.
    pub fn forget_group(&mut self, group: &GroupName) {
        self.contents.values_mut().for_each(|groups| _ = groups.remove(group));
        self.unsure = true;
    }

    /// Everything is compared: what is had now, and what was told.
    fn compare_all(&mut self, had: impl Iterator<Item = ContentId>) {
        self.changed.extend(had);
        self.changed.extend(self.contents.keys());
        self.unsure = false;
    }

    /// The next page of changes towards what is to be `said` of each content, taken as told; `None` if there are none.
    fn next_page(&mut self, said: impl Fn(ContentId) -> Groups) -> Option<Announce> {
        let mut page = Announce { replace: self.replaces, present: Vec::new(), withdrawn: Vec::new() };
        while let Some(content) = self.changed.first().copied() {
            self.tell(content, &said(content), &mut page);
            if page.present.len() == PAGE_ITEMS_MAX || page.withdrawn.len() == PAGE_ITEMS_MAX {
                // There may be more to tell of this content.
                break;
            }
            self.changed.remove(&content);
        }
        if page.present.is_empty() && page.withdrawn.is_empty() && !page.replace {
            return None;
        }
        (self.replaces, self.knows) = (false, self.knows || !page.present.is_empty());
        Some(page)
    }

    /// Says what is wrong unless what was told is what is `said` of each content that has not changed.
    fn invariant(
        &self,
        had: impl Iterator<Item = ContentId>,
        said: impl Fn(ContentId) -> Groups,
    ) -> Result<(), String> {
        let told = |content| self.contents.get(&content).cloned().unwrap_or_default();
        let mut sure = had.chain(self.contents.keys().copied()).filter(|content| !self.changed.contains(content));
        match sure.find(|content| !self.unsure && told(*content) != said(*content)) {
            Some(content) => Err(format!("a tracker is not told what is so of {}", content.short())),
            None => Ok(()),
        }
    }

    /// Puts on a page what has changed of a content, as far as there is room.
    fn tell(&mut self, content: ContentId, wanted: &Groups, page: &mut Announce) {
        let told = self.contents.entry(content).or_default();
        let news = wanted.iter().filter(|(group, said)| told.get(*group) != Some(*said));
        let news: Vec<_> =
            news.take(PAGE_ITEMS_MAX - page.present.len()).map(|(group, said)| (group.clone(), *said)).collect();
        let gone = told.keys().filter(|group| !wanted.contains_key(*group));
        let gone: Vec<GroupName> = gone.take(PAGE_ITEMS_MAX - page.withdrawn.len()).cloned().collect();
        for (group, said) in news {
            page.present.push(Presence { group: group.clone(), content, complete: said.complete, born: said.born });
            told.insert(group, said);
        }
        for group in gone {
            told.remove(&group);
            page.withdrawn.push((group, content));
        }
        if told.is_empty() {
            self.contents.remove(&content);
        }
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
            place: 0,
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
    fn a_withdrawal_that_was_refused_is_told_again_though_nothing_is_left() {
        let (mut told, content) = (Told::new(false), ContentId([1; 32]));
        let group: GroupName = "g".parse().expect("a good name");
        let said = Said { born: None, complete: true };
        told.changed.insert(content);
        let page = told.next_page(|_| Groups::from([(group.clone(), said)])).expect("it is told");
        assert_eq!((page.present.len(), page.replace), (1, false));
        told.changed.insert(content);
        assert_eq!(told.next_page(|_| Groups::new()).expect("taken back").withdrawn, [(group, content)]);
        told.forget();
        told.compare_all(std::iter::empty());
        assert!(told.next_page(|_| Groups::new()).expect("all of it, which is nothing").replace);
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
