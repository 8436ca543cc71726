//! Queue hints: telling those who wait for pieces how many are before them, and hearing it from others.
//!
//! Under a limit, or with many readers, a request waits for longer than a silent peer is believed to live. The hint says
//! that it is known and waits; it also tells the limit, so that who downloads can say why it is slow.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::peer::{FromProvider, QueueHint};

use super::input::{InterestId, ServedId};
use super::transfer::seconds;
use super::uploads::Uploads;
use super::{Engine, Output, Timer};

/// How often those who wait are told: a few times in the span after which a connection is taken for dead.
const TELL_MS: u64 = 4_000;

/// A hint older than this says nothing about the queue any more.
const STALE_MS: u64 = 3 * TELL_MS;

/// What providers last said of their queues, by interest.
#[derive(Debug, Default)]
pub(super) struct QueueHints(BTreeMap<InterestId, (QueueHint, Duration)>);

impl QueueHints {
    /// What a provider said, with its queue as far as that can still be so.
    pub fn of(&self, interest: InterestId, now: Duration) -> Option<QueueHint> {
        let (hint, at) = self.0.get(&interest)?;
        let stale = now.saturating_sub(*at) >= Duration::from_millis(STALE_MS);
        Some(if stale { QueueHint { waiting: 0, ahead: 0, ..*hint } } else { *hint })
    }

    /// The interest has ended.
    pub fn forget(&mut self, interest: InterestId) {
        self.0.remove(&interest);
    }
}

impl Engine {
    /// A provider tells how this node's requests fare.
    pub(super) fn queue_told(&mut self, interest: InterestId, hint: QueueHint) {
        self.queue_hints.0.insert(interest, (hint, self.now.monotonic));
    }

    /// What a peer of a transfer has said of its queue.
    pub(super) fn queue_at(&self, content: ContentId, node: NodeId) -> Option<QueueHint> {
        let interest = self.transfers.get(&content)?.peers.get(&node)?.interest?;
        self.queue_hints.of(interest, self.now.monotonic)
    }

    /// How long a peer that has told of a limit takes, by its own word, for what it owes and `bytes` more; nothing where it
    /// has told of none. At least so long it is neither silent nor slow.
    pub(super) fn told_time(&self, content: ContentId, node: NodeId, bytes: u64) -> Option<Duration> {
        let hint = self.queue_at(content, node).filter(|hint| hint.up_limit > 0)?;
        let owed = self.transfers.get(&content)?.peers.get(&node)?.outstanding_bytes;
        let ahead = u64::from(hint.ahead).saturating_mul(PIECE_BYTES_MIN);
        Some(seconds(owed.saturating_add(ahead).saturating_add(bytes), hint.up_limit))
    }

    /// Requests may have begun to wait: those whose are hear of it.
    pub(super) fn tell_queue_soon(&mut self) {
        if self.uploads.waiting_count() > 0 {
            let at = self.after(Duration::from_millis(TELL_MS));
            self.timers.set_if_unset(Timer::Queue, at);
        }
    }

    /// Tells everybody whose requests wait.
    pub(super) fn tell_queue(&mut self) {
        for (served, (waiting, ahead)) in positions(&self.uploads) {
            self.provide_hint(served, waiting, ahead);
        }
        self.tell_queue_soon();
    }

    /// Tells everybody who downloads from here, since the limit has changed.
    pub(super) fn tell_queue_all(&mut self) {
        let positions = positions(&self.uploads);
        let served: Vec<ServedId> = self.served.keys().copied().collect();
        for served in served {
            let (waiting, ahead) = positions.get(&served).copied().unwrap_or_default();
            self.provide_hint(served, waiting, ahead);
        }
    }

    /// Tells one that begins to download from here, where there is a limit.
    pub(super) fn tell_limit(&mut self, served: ServedId) {
        if self.rates.limits.up_limit > 0 {
            self.provide_hint(served, 0, 0);
        }
    }

    fn provide_hint(&mut self, served: ServedId, waiting: u32, ahead: u32) {
        let hint = QueueHint { waiting, ahead, up_limit: self.rates.limits.up_limit };
        self.outputs.push_back(Output::Provide(served, FromProvider::Queue(hint)));
    }
}

/// How many requests of each interest wait, and how many of others will be served before the first of them, when users
/// go on to take turns.
fn positions(uploads: &Uploads) -> BTreeMap<ServedId, (u32, u32)> {
    let queues: Vec<Vec<ServedId>> = uploads.waiting().collect();
    let mut positions: BTreeMap<ServedId, (u32, u32)> = BTreeMap::new();
    for (user, queue) in queues.iter().enumerate() {
        for (place, served) in queue.iter().enumerate() {
            let ahead = || {
                let of_others = queues.iter().enumerate().filter(|(other, _)| *other != user);
                let ahead = place + of_others.map(|(_, queue)| queue.len().min(place)).sum::<usize>();
                u32::try_from(ahead).unwrap_or(u32::MAX)
            };
            positions.entry(*served).or_insert_with(|| (0, ahead())).0 += 1;
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::UploadId;
    use crate::engine::uploads::Upload;
    use p2p_proto::geometry::PieceIndex;

    #[test]
    fn each_interest_is_told_how_many_of_others_come_first() {
        let mut uploads = Uploads::new(1, 1, 100);
        let mut number = 0;
        let mut push = |user: &str, served: u64| {
            number += 1;
            let (upload, content, piece) = (UploadId(number), ContentId([0; 32]), PieceIndex(0));
            let upload = Upload { upload, served: ServedId(served), content, piece, bytes: 1 };
            assert!(uploads.push(&user.parse().expect("a good name"), upload));
        };
        // Two nodes of one user, and one of another.
        [1, 1, 1, 2, 2].into_iter().for_each(|served| push("alice", served));
        [3, 3].into_iter().for_each(|served| push("bob", served));
        let expected = [(ServedId(1), (3, 0)), (ServedId(2), (2, 5)), (ServedId(3), (2, 0))];
        assert_eq!(positions(&uploads), BTreeMap::from(expected));
    }

    #[test]
    fn a_hint_that_is_old_says_nothing_of_the_queue() {
        let hint = QueueHint { waiting: 1, ahead: 2, up_limit: 3 };
        let hints = QueueHints(BTreeMap::from([(InterestId(1), (hint, Duration::ZERO))]));
        assert_eq!(hints.of(InterestId(1), Duration::from_millis(STALE_MS - 1)), Some(hint));
        let later = hints.of(InterestId(1), Duration::from_millis(STALE_MS));
        assert_eq!(later, Some(QueueHint { waiting: 0, ahead: 0, up_limit: 3 }));
    }
}
