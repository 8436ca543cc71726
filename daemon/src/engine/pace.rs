//! Pace: how fast a peer delivers while it owes something, waiting for its turn there included.

use std::time::Duration;

/// Of what was measured, this share is forgotten with each delivery: about the last four count.
const FORGOTTEN: u32 = 4;

/// Bytes and the time they took. Time in which nothing was owed does not count, so that a peer that is asked seldom
/// does not look slow.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Bytes that came, the older ones faded.
    bytes: u64,
    /// How long they were owed, faded likewise.
    owed: Duration,
    /// Since when something is owed and nothing has come; `None` while nothing is.
    waiting_since: Option<Duration>,
    /// Since when nothing is owed.
    idle_since: Duration,
}

impl Pace {
    /// The peer is asked for something at `now`.
    pub fn asked(&mut self, now: Duration) {
        self.waiting_since.get_or_insert(now);
    }

    /// `bytes` came at `now`; whether more is owed. With 0 bytes a request ended without a delivery.
    pub fn came(&mut self, bytes: u64, owes: bool, now: Duration) {
        if bytes > 0
            && let Some(since) = self.waiting_since
        {
            self.bytes = self.bytes - self.bytes / u64::from(FORGOTTEN) + bytes;
            self.owed = self.owed - self.owed / FORGOTTEN + now.saturating_sub(since);
            self.waiting_since = Some(now);
        }
        if !owes {
            self.waiting_since = None;
            self.idle_since = now;
        }
    }

    /// Bytes per second; `None` before the first. Falls while something is owed for longer than it used to take.
    pub fn bytes_per_second(&self, now: Duration) -> Option<u64> {
        if self.bytes == 0 {
            return None;
        }
        let owed = self.owed.max(self.owed - self.owed / FORGOTTEN + self.waited(now));
        let rate = u128::from(self.bytes) * 1_000_000_000 / owed.as_nanos().max(1);
        Some(u64::try_from(rate).unwrap_or(u64::MAX).max(1))
    }

    /// How long `bytes` take by what has come, whatever is owed now; `None` before the first.
    pub fn usual(&self, bytes: u64) -> Option<Duration> {
        let micros = self.owed.as_micros() * u128::from(bytes);
        let micros = micros.checked_div(u128::from(self.bytes))?;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// How long nothing has come of what is owed; 0 while nothing is.
    pub fn waited(&self, now: Duration) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// How long nothing has been owed.
    pub fn idle(&self, now: Duration) -> Duration {
        if self.waiting_since.is_some() { Duration::ZERO } else { now.saturating_sub(self.idle_since) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace after `count` deliveries of 1,000 bytes, each owed for `ms` and asked for `pause_ms` after the last.
    fn delivered(count: u64, ms: u64, pause_ms: u64) -> (Pace, Duration) {
        let (mut pace, mut now) = (Pace::default(), Duration::from_secs(1));
        for _ in 0..count {
            now += Duration::from_millis(pause_ms);
            pace.asked(now);
            now += Duration::from_millis(ms);
            pace.came(1000, false, now);
        }
        (pace, now)
    }

    #[test]
    fn only_the_time_in_which_something_is_owed_counts() {
        let (seldom, now) = delivered(9, 100, 5_000);
        // Rounding, and no more.
        assert!(seldom.bytes_per_second(now).is_some_and(|rate| (9_990..=10_010).contains(&rate)));
        assert_eq!(seldom.idle(now + Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!(Pace::default().bytes_per_second(now), None);
    }

    #[test]
    fn a_peer_that_falls_silent_becomes_slower_by_the_moment() {
        let (mut pace, now) = delivered(20, 100, 0);
        pace.asked(now);
        assert_eq!(pace.bytes_per_second(now + Duration::from_millis(50)), pace.bytes_per_second(now));
        let later = pace.bytes_per_second(now + Duration::from_secs(40)).expect("it has delivered");
        assert!(later < 100, "{later}");
        // A request that ends without a delivery says nothing about its speed.
        pace.came(0, false, now + Duration::from_secs(40));
        assert_eq!(pace.waited(now + Duration::from_secs(40)), Duration::ZERO);
    }
}
