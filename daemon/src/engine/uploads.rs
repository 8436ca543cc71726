//! The queue of peers' requests for pieces: bounded, and fair by user rather than by connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::name::UserName;

use super::fair_shares::FairShares;
use super::input::{ServedId, UploadId};

/// Places where several nodes read: the fewer, the sooner each piece is done and goes on from there, and ten keep a link
/// busy. One node that reads alone may need more over a long path. Among fifty simulated leechers of 512 pieces the last
/// is done after 1.13 × file ÷ rate, and after 1.15 with twenty; among twenty of 256, after 1.16 and 1.20.
const SHARED_PLACES: usize = 10;

/// One piece that a peer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upload {
    pub upload: UploadId,
    /// The interest that it is asked by.
    pub served: ServedId,
    pub content: ContentId,
    pub piece: PieceIndex,
    pub bytes: u64,
}

/// Requests waiting and being served. The user with the fewest places is next, and among those with as few, users take
/// turns, however many nodes they have: whoever reads slowly holds places for long, and gets no more of them for it. Nobody
/// gets more places than there are for each.
#[derive(Debug)]
pub(super) struct Uploads {
    /// By user, each in the order of arrival; no queue is empty.
    waiting: BTreeMap<UserName, VecDeque<Upload>>,
    /// Who was served last: the next one in the order of names is next.
    last_served: Option<UserName>,
    active: BTreeMap<UploadId, Active>,
    /// How many are active of each user; none is 0.
    places: BTreeMap<UserName, usize>,
    /// Manifests being sent: few and short, so they wait for no place.
    manifests: BTreeMap<UploadId, ServedId>,
    waiting_count: usize,
    active_max: usize,
    /// Of one user: the rest is for others, also when nobody else waits yet.
    active_per_user_max: usize,
    /// Of the places, as many as a limit of the rate leaves.
    open_places: usize,
    waiting_max: usize,
    /// Nodes that read, over all users.
    readers: usize,
    shares: FairShares,
}

/// A piece being sent.
#[derive(Debug)]
struct Active {
    user: UserName,
    served: ServedId,
    bytes: u64,
}

impl Uploads {
    /// An empty queue with its bounds.
    pub fn new(active_max: usize, active_per_user_max: usize, waiting_max: usize) -> Uploads {
        Uploads {
            waiting: BTreeMap::new(),
            last_served: None,
            active: BTreeMap::new(),
            places: BTreeMap::new(),
            manifests: BTreeMap::new(),
            waiting_count: 0,
            active_max,
            active_per_user_max,
            open_places: active_max,
            waiting_max,
            readers: 0,
            shares: FairShares::default(),
        }
    }

    /// Says how many nodes each user reads with.
    pub fn set_readers(&mut self, nodes: BTreeMap<UserName, usize>) {
        self.readers = nodes.values().sum();
        self.shares.set_readers(nodes);
    }

    /// Serves at most so many at once from now on, within the bound; what is being sent goes on.
    pub fn set_places(&mut self, places: usize) {
        self.open_places = places.min(self.active_max);
    }

    /// Whom the waiting requests are for, a user's queue each in its order.
    pub fn waiting(&self) -> impl Iterator<Item = Vec<ServedId>> {
        self.waiting.values().map(|queue| queue.iter().map(|upload| upload.served).collect())
    }

    /// Takes a request in; false if too many wait.
    pub fn push(&mut self, user: &UserName, upload: Upload) -> bool {
        if self.waiting_count >= self.waiting_max {
            return false;
        }
        self.waiting.entry(user.clone()).or_default().push_back(upload);
        self.waiting_count += 1;
        true
    }

    /// The next request to serve, if a place is free for somebody who waits and is not held back.
    pub fn start_next(&mut self, now: Duration) -> Option<Upload> {
        if !self.has_place() {
            return None;
        }
        let next_user = self.user_in_turn(now)?.clone();
        let queue = self.waiting.get_mut(&next_user)?;
        let upload = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&next_user);
        }
        self.waiting_count -= 1;
        *self.places.entry(next_user.clone()).or_default() += 1;
        if self.active.is_empty() {
            self.shares.go_on(now);
        }
        self.shares.begun(&next_user, upload.bytes, now);
        let active = Active { user: next_user.clone(), served: upload.served, bytes: upload.bytes };
        self.active.insert(upload.upload, active);
        self.last_served = Some(next_user);
        Some(upload)
    }

    /// A manifest is sent.
    pub fn start_manifest(&mut self, upload: UploadId, served: ServedId) {
        self.manifests.insert(upload, served);
    }

    /// How long it takes until somebody who waits is no longer held back, where places are free; `None` where nobody is.
    pub fn held_back(&self, now: Duration) -> Option<Duration> {
        let waits = self.waiting.keys().map(|user| self.shares.wait(user, now)).filter(|wait| !wait.is_zero());
        waits.min().filter(|_| self.has_place())
    }

    /// A request is served, with so many bytes of it sent, or will not be.
    pub fn end(&mut self, upload: UploadId, sent_bytes: u64, now: Duration) {
        self.manifests.remove(&upload);
        let Some(Active { user, bytes, .. }) = self.active.remove(&upload) else { return };
        self.shares.ended(&user, bytes, sent_bytes, now);
        if let Some(places) = self.places.get_mut(&user) {
            *places -= 1;
            if *places == 0 {
                self.places.remove(&user);
            }
        }
    }

    /// What is being sent by an interest.
    pub fn being_sent(&self, served: ServedId) -> Vec<UploadId> {
        let pieces = self.active.iter().map(|(upload, active)| (upload, &active.served));
        pieces.chain(&self.manifests).filter(|(_, by)| **by == served).map(|(upload, _)| *upload).collect()
    }

    /// Takes out the waiting requests of an interest.
    pub fn remove_waiting(&mut self, served: ServedId) -> Vec<Upload> {
        let mut removed = Vec::new();
        self.waiting.retain(|_, queue| {
            queue.retain(|upload| {
                let out = upload.served == served;
                if out {
                    removed.push(*upload);
                }
                !out
            });
            !queue.is_empty()
        });
        self.waiting_count -= removed.len();
        removed
    }

    /// Number of requests that wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// What must hold after every step, with the interests that are open; says what does not.
    pub fn invariant(&self, is_open: impl Fn(ServedId) -> bool) -> Result<(), String> {
        let waiting: usize = self.waiting.values().map(VecDeque::len).sum();
        if waiting != self.waiting_count || waiting > self.waiting_max {
            return Err(format!("{waiting} uploads wait, {} are counted", self.waiting_count));
        }
        if self.active.len() > self.active_max {
            return Err(format!("{} uploads are served at once", self.active.len()));
        }
        if self.places.values().sum::<usize>() != self.active.len() || self.places.values().any(|places| *places == 0) {
            return Err(format!("{:?} places are counted for {} uploads", self.places, self.active.len()));
        }
        if let Some((user, places)) = self.places.iter().find(|(_, places)| **places > self.active_per_user_max) {
            return Err(format!("{user} has {places} places"));
        }
        if self.waiting.values().any(VecDeque::is_empty) {
            return Err("a user without requests is queued".to_owned());
        }
        if self.waiting.values().flatten().any(|upload| !is_open(upload.served)) {
            return Err("a request waits whose interest has ended".to_owned());
        }
        Ok(())
    }

    /// Whether a place is free. What somebody holds beyond their share is not at the cost of the others'.
    fn has_place(&self) -> bool {
        let each = self.places_of_each();
        let shared: usize = self.places.values().map(|places| (*places).min(each)).sum();
        self.active.len() < self.open_places && shared < self.shared_places()
    }

    /// Of the waiting users that may have another place now, the one with the fewest; of those, the first behind the one
    /// served last, in a circle.
    fn user_in_turn(&self, now: Duration) -> Option<&UserName> {
        let places = |user: &UserName| self.places.get(user).copied().unwrap_or(0);
        let most = self.places_of_each();
        let waiting = self.waiting.keys().filter(|user| self.shares.wait(user, now).is_zero());
        let may_have_more = waiting.filter(|user| places(user) < most);
        may_have_more.min_by_key(|user| (places(user), Some(*user) <= self.last_served.as_ref(), *user))
    }

    /// The places divided by those who read or wait, at least one each, and no more than one user may have. Whoever has one node asks for little at once; what
    /// that leaves free would all go to whoever has many, and each place takes its part of the link.
    fn places_of_each(&self) -> usize {
        let only_read = self.places.keys().filter(|user| !self.waiting.contains_key(*user)).count();
        let share = self.shared_places() / (only_read + self.waiting.len()).max(1);
        share.clamp(1, self.active_per_user_max)
    }

    /// The places that are shared.
    fn shared_places(&self) -> usize {
        if self.readers > 1 { self.open_places.min(SHARED_PLACES) } else { self.open_places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn upload(number: u64) -> Upload {
        Upload {
            upload: UploadId(number),
            served: ServedId(number % 3),
            content: ContentId([0; 32]),
            piece: PieceIndex(0),
            bytes: 1,
        }
    }

    fn user(name: &str) -> UserName {
        name.parse().expect("a good name")
    }

    #[test]
    fn users_take_turns_however_many_requests_each_has() {
        let mut uploads = Uploads::new(100, 100, 100);
        for number in 0..6 {
            assert!(uploads.push(&user("greedy"), upload(number)));
        }
        assert!(uploads.push(&user("modest"), upload(10)) && uploads.push(&user("modest"), upload(11)));
        let order: Vec<u64> = std::iter::from_fn(|| uploads.start_next(NOW)).map(|upload| upload.upload.0).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4, 5]);
        uploads.invariant(|_| true).expect("invariant");
    }

    #[test]
    fn nobody_has_more_than_their_share_even_alone() {
        let mut uploads = Uploads::new(4, 3, 100);
        for number in 0..6 {
            assert!(uploads.push(&user("greedy"), upload(number)));
        }
        assert_eq!(std::iter::from_fn(|| uploads.start_next(NOW)).count(), 3);
        assert!(uploads.push(&user("modest"), upload(10)));
        assert_eq!(uploads.start_next(NOW).map(|upload| upload.upload.0), Some(10));
        uploads.invariant(|_| true).expect("invariant");
    }

    #[test]
    fn who_holds_places_for_long_gets_no_more_of_them() {
        let mut uploads = Uploads::new(4, 3, 100);
        for number in 0..10 {
            assert!(uploads.push(&user("slow"), upload(number)) && uploads.push(&user("quick"), upload(100 + number)));
        }
        // Two each; the slow one's stay, and each of the quick one's goes on to the quick one.
        let started: Vec<u64> = std::iter::from_fn(|| uploads.start_next(NOW)).map(|upload| upload.upload.0).collect();
        assert_eq!(started, [100, 0, 101, 1]);
        for number in 102..110 {
            uploads.end(UploadId(number - 2), 1, NOW);
            assert_eq!(uploads.start_next(NOW).map(|upload| upload.upload.0), Some(number));
            uploads.invariant(|_| true).expect("invariant");
        }
    }

    #[test]
    fn who_has_many_nodes_does_not_get_the_places_that_others_leave() {
        let mut uploads = Uploads::new(5, 4, 100);
        for number in 0..10 {
            assert!(uploads.push(&user("many"), upload(number)));
        }
        assert!(uploads.push(&user("a"), upload(20)) && uploads.push(&user("b"), upload(30)));
        let started: Vec<u64> = std::iter::from_fn(|| uploads.start_next(NOW)).map(|upload| upload.upload.0).collect();
        assert_eq!(started, [20, 30, 0]);
        uploads.end(UploadId(20), 1, NOW);
        assert_eq!(uploads.start_next(NOW).map(|upload| upload.upload.0), Some(1), "one user fewer reads");
        assert_eq!(uploads.start_next(NOW), None);
        uploads.end(UploadId(30), 1, NOW);
        assert_eq!(std::iter::from_fn(|| uploads.start_next(NOW)).count(), 2);
        uploads.invariant(|_| true).expect("invariant");
    }

    #[test]
    fn where_several_nodes_read_few_pieces_are_sent_at_once_and_who_held_more_keeps_nobody_out() {
        let mut uploads = Uploads::new(20, 16, 100);
        for number in 0..30 {
            assert!(uploads.push(&user("one"), upload(number)));
        }
        let begun = |uploads: &mut Uploads| std::iter::from_fn(|| uploads.start_next(NOW)).count();
        uploads.set_readers(BTreeMap::from([(user("one"), 1)]));
        assert_eq!(begun(&mut uploads), 16);
        for number in 100..110 {
            assert!(uploads.push(&user("other"), upload(number)));
        }
        uploads.set_readers(BTreeMap::from([(user("one"), 1), (user("other"), 1)]));
        assert_eq!(begun(&mut uploads), 4, "all that there are");
        (0..16).for_each(|number| uploads.end(UploadId(number), 1, NOW));
        assert_eq!(begun(&mut uploads), SHARED_PLACES - 4);
        uploads.invariant(|_| true).expect("invariant");
    }

    #[test]
    fn no_more_are_served_or_queued_than_allowed() {
        let mut uploads = Uploads::new(1, 1, 2);
        assert!(uploads.push(&user("a"), upload(1)) && uploads.push(&user("a"), upload(2)));
        assert!(!uploads.push(&user("b"), upload(3)));
        assert!(uploads.start_next(NOW).is_some() && uploads.start_next(NOW).is_none());
        uploads.end(UploadId(1), 1, NOW);
        assert_eq!(uploads.remove_waiting(ServedId(2)).len(), 1);
        assert_eq!((uploads.waiting_count(), uploads.start_next(NOW)), (0, None));
        uploads.invariant(|_| false).expect("invariant");
    }

    #[test]
    fn what_an_interest_asked_for_is_found_by_it() {
        let mut uploads = Uploads::new(2, 2, 100);
        for number in 0..6 {
            assert!(uploads.push(&user("a"), upload(number)));
        }
        assert!(uploads.start_next(NOW).is_some() && uploads.start_next(NOW).is_some());
        uploads.start_manifest(UploadId(9), ServedId(1));
        assert_eq!(uploads.being_sent(ServedId(1)), [UploadId(1), UploadId(9)]);
        let removed: Vec<u64> = uploads.remove_waiting(ServedId(1)).iter().map(|upload| upload.upload.0).collect();
        assert_eq!((removed, uploads.waiting_count()), (vec![4], 3));
        uploads.invariant(|served| served != ServedId(1)).expect("nothing of it waits");
        assert!(uploads.invariant(|served| served != ServedId(2)).is_err());
        uploads.end(UploadId(1), 1, NOW);
        uploads.end(UploadId(9), 1, NOW);
        assert!(uploads.being_sent(ServedId(1)).is_empty());
    }
}
