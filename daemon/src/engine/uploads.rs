//! The queue of peers' requests for pieces: bounded, and fair by user rather than by connection.

use std::collections::{BTreeMap, VecDeque};

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::name::UserName;

use super::input::{ServedId, UploadId};

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

/// Requests waiting and being served. Users take turns, a request each, however many nodes they have.
#[derive(Debug)]
pub(super) struct Uploads {
    /// By user, each in the order of arrival; no queue is empty.
    waiting: BTreeMap<UserName, VecDeque<Upload>>,
    /// Who was served last: the next one in the order of names is next.
    last_served: Option<UserName>,
    active: BTreeMap<UploadId, ServedId>,
    /// Manifests being sent: few and short, so they wait for no place.
    manifests: BTreeMap<UploadId, ServedId>,
    waiting_count: usize,
    active_max: usize,
    /// Of those, as many as a limit of the rate leaves.
    places: usize,
    waiting_max: usize,
}

impl Uploads {
    /// An empty queue with its bounds.
    pub fn new(active_max: usize, waiting_max: usize) -> Uploads {
        Uploads {
            waiting: BTreeMap::new(),
            last_served: None,
            active: BTreeMap::new(),
            manifests: BTreeMap::new(),
            waiting_count: 0,
            active_max,
            places: active_max,
            waiting_max,
        }
    }

    /// Serves at most so many at once from now on, within the bound; what is being sent goes on.
    pub fn set_places(&mut self, places: usize) {
        self.places = places.min(self.active_max);
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

    /// The next request to serve, if a place is free.
    pub fn start_next(&mut self) -> Option<Upload> {
        if self.active.len() >= self.places {
            return None;
        }
        let next_user = self.user_in_turn()?.clone();
        let queue = self.waiting.get_mut(&next_user)?;
        let upload = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&next_user);
        }
        self.waiting_count -= 1;
        self.last_served = Some(next_user);
        self.active.insert(upload.upload, upload.served);
        Some(upload)
    }

    /// A manifest is sent.
    pub fn start_manifest(&mut self, upload: UploadId, served: ServedId) {
        self.manifests.insert(upload, served);
    }

    /// A request is served, or will not be.
    pub fn end(&mut self, upload: UploadId) {
        self.active.remove(&upload);
        self.manifests.remove(&upload);
    }

    /// What is being sent by an interest.
    pub fn being_sent(&self, served: ServedId) -> Vec<UploadId> {
        let sent = self.active.iter().chain(&self.manifests);
        sent.filter(|(_, by)| **by == served).map(|(upload, _)| *upload).collect()
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
        if self.waiting.values().any(VecDeque::is_empty) {
            return Err("a user without requests is queued".to_owned());
        }
        if self.waiting.values().flatten().any(|upload| !is_open(upload.served)) {
            return Err("a request waits whose interest has ended".to_owned());
        }
        Ok(())
    }

    /// The first waiting user behind the one served last, in a circle.
    fn user_in_turn(&self) -> Option<&UserName> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.last_served.as_ref().and_then(|last| {
            self.waiting.range::<UserName, _>((Excluded(last), Unbounded)).next().map(|(user, _)| user)
        });
        behind.or_else(|| self.waiting.keys().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut uploads = Uploads::new(100, 100);
        for number in 0..6 {
            assert!(uploads.push(&user("greedy"), upload(number)));
        }
        assert!(uploads.push(&user("modest"), upload(10)) && uploads.push(&user("modest"), upload(11)));
        let order: Vec<u64> = std::iter::from_fn(|| uploads.start_next()).map(|upload| upload.upload.0).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4, 5]);
        uploads.invariant(|_| true).expect("invariant");
    }

    #[test]
    fn no_more_are_served_or_queued_than_allowed() {
        let mut uploads = Uploads::new(1, 2);
        assert!(uploads.push(&user("a"), upload(1)) && uploads.push(&user("a"), upload(2)));
        assert!(!uploads.push(&user("b"), upload(3)));
        assert!(uploads.start_next().is_some() && uploads.start_next().is_none());
        uploads.end(UploadId(1));
        assert_eq!(uploads.remove_waiting(ServedId(2)).len(), 1);
        assert_eq!((uploads.waiting_count(), uploads.start_next()), (0, None));
        uploads.invariant(|_| false).expect("invariant");
    }

    #[test]
    fn what_an_interest_asked_for_is_found_by_it() {
        let mut uploads = Uploads::new(2, 100);
        for number in 0..6 {
            assert!(uploads.push(&user("a"), upload(number)));
        }
        assert!(uploads.start_next().is_some() && uploads.start_next().is_some());
        uploads.start_manifest(UploadId(9), ServedId(1));
        assert_eq!(uploads.being_sent(ServedId(1)), [UploadId(1), UploadId(9)]);
        let removed: Vec<u64> = uploads.remove_waiting(ServedId(1)).iter().map(|upload| upload.upload.0).collect();
        assert_eq!((removed, uploads.waiting_count()), (vec![4], 3));
        uploads.invariant(|served| served != ServedId(1)).expect("nothing of it waits");
        assert!(uploads.invariant(|served| served != ServedId(2)).is_err());
        uploads.end(UploadId(1));
        uploads.end(UploadId(9));
        assert!(uploads.being_sent(ServedId(1)).is_empty());
    }
}
