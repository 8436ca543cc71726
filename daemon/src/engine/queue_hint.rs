//! Queue hints: telling those who wait for pieces how many are before them, and hearing it from others.
//!
//! Under a limit, or with many readers, a request waits for longer than a silent peer is believed to live. The hint says
//! that it is known and waits; it also tells the limit, so that who downloads can say why it is slow.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::peer::{FromProvider, QueueHint};

use super::input::ServedId;
use super::transfer::seconds;
use super::uploads::Uploads;
use super::{Engine, Output, Timer};

/// How often those who wait are told: a few times in the span after which a connection is taken for dead.
const TELL_MS: u64 = 4_000;

/// A hint older than this says nothing about the queue any more.
const STALE_MS: u64 = 3 * TELL_MS;

/// What a provider last said of its queue, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ToldQueue(Option<(QueueHint, Duration)>);

impl ToldQueue {
    /// Takes what it says at `now`.
    pub fn take(&mut self, hint: QueueHint, now: Duration) {
        self.0 = Some((hint, now));
    }

    /// What it said, with its queue as far as that can still be so.
    pub fn hint(&self, now: Duration) -> Option<QueueHint> {
        let (hint, at) = self.0?;
        let stale = now.saturating_sub(at) >= Duration::from_millis(STALE_MS);
        Some(if stale { QueueHint { waiting: 0, ahead: 0, ..hint } } else { hint })
    }

    /// How long it takes, by its own word, for so many bytes when their turn has come; nothing where it has told of no
    /// limit.
    pub fn time(&self, bytes: u64, now: Duration) -> Option<Duration> {
        let hint = self.hint(now).filter(|hint| hint.up_limit > 0)?;
        let ahead = u64::from(hint.ahead).saturating_mul(PIECE_BYTES_MIN);
        Some(seconds(ahead.saturating_add(bytes), hint.up_limit))
    }
}

impl Engine {
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
    use p2p_proto::id::ContentId;

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
        let mut told = ToldQueue::default();
        told.take(hint, Duration::ZERO);
        assert_eq!(told.hint(Duration::from_millis(STALE_MS - 1)), Some(hint));
        assert_eq!(told.time(4, Duration::ZERO), Some(seconds(2 * PIECE_BYTES_MIN + 4, 3)));
        let later = Duration::from_millis(STALE_MS);
        assert_eq!(told.hint(later), Some(QueueHint { waiting: 0, ahead: 0, up_limit: 3 }));
        assert_eq!(told.time(3, later), Some(Duration::from_secs(1)));
    }
}
