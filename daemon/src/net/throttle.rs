//! The throttle: holds what is sent to all peers to one rate, a small chunk at a time and in turn.

use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::engine::token_bucket::TokenBucket;

/// Chunks that a second at the limit is cut into, so that all who are being sent something hear of it again and again.
const CHUNKS_PER_SECOND: u64 = 16;

/// Smallest and largest chunk, in bytes: below the one a datagram is half empty, above the other nothing is won.
const CHUNK_BYTES_MIN: u64 = 1024;
const CHUNK_BYTES_MAX: u64 = 64 * 1024;

/// A rate that many senders share.
pub(super) struct Throttle {
    since: Instant,
    /// Locked by the sender whose turn it is, also while it waits: the others wait in the order in which they came.
    turn: Mutex<TokenBucket>,
    rate: watch::Sender<u64>,
}

impl Throttle {
    /// Without a limit.
    pub(super) fn new() -> Throttle {
        Throttle { since: Instant::now(), turn: Mutex::default(), rate: watch::Sender::new(0) }
    }

    /// Lets so many bytes through a second, 0 for no limit; also for those who wait already.
    pub(super) fn set_rate(&self, rate: u64) {
        self.rate.send_replace(rate);
    }

    /// How many of `bytes` may be sent now. Waits for the turn where there is a limit. Cancelled, it has taken nothing.
    pub(super) async fn take(&self, bytes: usize) -> usize {
        if *self.rate.borrow() == 0 {
            return bytes;
        }
        let mut bucket = self.turn.lock().await;
        let mut changes = self.rate.subscribe();
        loop {
            let (rate, now) = (*changes.borrow_and_update(), self.since.elapsed());
            if rate != bucket.rate() {
                bucket.set_rate(rate, now);
            }
            if rate == 0 {
                return bytes;
            }
            let wait = bucket.wait(now);
            if wait == Duration::ZERO {
                let chunk = (rate / CHUNKS_PER_SECOND).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
                let taken = bytes.min(usize::try_from(chunk).unwrap_or(usize::MAX));
                bucket.take(taken as u64, now);
                return taken;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                // The sender is this one's own: a change, and never its end.
                _ = changes.changed() => (),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn senders_take_turns_a_chunk_each() {
        let throttle = Arc::new(Throttle::new());
        throttle.set_rate(10_000_000);
        let left = Arc::new(AtomicU64::new(64));
        let senders = (0..4).map(|_| {
            let (throttle, left) = (Arc::clone(&throttle), Arc::clone(&left));
            tokio::spawn(async move {
                let mut sent = 0;
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    sent += throttle.take(512 * 1024).await as u64;
                }
                sent
            })
        });
        let sent: Vec<u64> = futures_util::future::join_all(senders).await.into_iter().flatten().collect();
        assert_eq!(sent.iter().sum::<u64>(), 64 * CHUNK_BYTES_MAX);
        // Evenly, but for what the burst at the beginning gives to who comes first.
        let (least, most) = (sent.iter().min().expect("four"), sent.iter().max().expect("four"));
        assert!(*least > 0 && most - least <= 2_500_000 + CHUNK_BYTES_MAX, "{sent:?}");
    }

    #[tokio::test]
    async fn another_rate_holds_at_once_for_who_waits_already() {
        let throttle = Arc::new(Throttle::new());
        assert_eq!(throttle.take(1 << 20).await, 1 << 20, "no limit");
        throttle.set_rate(1);
        assert_eq!(throttle.take(1 << 20).await, 1024, "a quarter of an hour's worth");
        let mut waiting = Box::pin(throttle.take(1 << 20));
        assert!(waiting.as_mut().now_or_never().is_none());
        throttle.set_rate(0);
        assert_eq!(waiting.await, 1 << 20);
    }
}
