//! A token bucket: holds a flow of bytes to a rate, whose changes take effect at once.

use std::time::Duration;

/// What may flow at once after a pause, as the time that it takes at the rate: short, so that a limit of a link's rate is
/// no burst on that link.
const BURST: Duration = Duration::from_millis(250);

/// Holds takings to a rate. Whoever takes may overdraw, as a piece is larger than a burst at a low rate; the next one
/// waits until that is made up for, so that the rate holds over any longer time.
#[derive(Debug, Clone, Default)]
pub struct TokenBucket {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    /// When all that was taken will have been made up for.
    even_at: Duration,
}

impl TokenBucket {
    /// Lets so many bytes flow a second from `now` on, 0 for no limit. What was overdrawn before counts in bytes.
    pub fn set_rate(&mut self, rate: u64, now: Duration) {
        let overdrawn = self.even_at.saturating_sub(now);
        let overdrawn_bytes = bytes_in(overdrawn, self.rate);
        self.even_at = if rate == 0 { now } else { self.even_at.min(now) + time_of(overdrawn_bytes, rate) };
        self.rate = rate;
    }

    /// Bytes per second; 0 for no limit.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// How long nothing may be taken at `now`; 0 where something may.
    pub fn wait(&self, now: Duration) -> Duration {
        if self.rate == 0 { Duration::ZERO } else { self.even_at.saturating_sub(now) }
    }

    /// Takes `bytes` at `now`.
    pub fn take(&mut self, bytes: u64, now: Duration) {
        if self.rate > 0 {
            self.even_at = self.even_at.max(now.saturating_sub(BURST)) + time_of(bytes, self.rate);
        }
    }

    /// Gives back what was taken and did not flow.
    pub fn give_back(&mut self, bytes: u64) {
        if self.rate > 0 {
            self.even_at = self.even_at.saturating_sub(time_of(bytes, self.rate));
        }
    }
}

/// How long `bytes` take at `rate`, which is not 0.
fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many bytes flow in `time` at `rate`.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that flow from `from` to `to`, taken `chunk` at a time as soon as may be.
    fn flow(bucket: &mut TokenBucket, chunk: u64, from: Duration, to: Duration) -> u64 {
        let (mut now, mut bytes) = (from, 0);
        loop {
            now += bucket.wait(now);
            if now >= to {
                return bytes;
            }
            bucket.take(chunk, now);
            bytes += chunk;
        }
    }

    fn limited(rate: u64, now: Duration) -> TokenBucket {
        let mut bucket = TokenBucket::default();
        bucket.set_rate(rate, now);
        bucket
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_holds_for_small_and_for_large_takings() {
        for (rate, chunk) in [(100_000, 1_000), (100_000, 16_384), (100_000, 524_288), (50_000_000, 524_288)] {
            let mut bucket = limited(rate, SECOND);
            let bytes = flow(&mut bucket, chunk, SECOND, 61 * SECOND);
            // A burst at the beginning, and one taking that is not made up for at the end.
            let most = rate * 60 + rate / 4 + chunk;
            assert!((rate * 60..=most).contains(&bytes), "{bytes} bytes in a minute at {rate}, {chunk} at a time");
        }
    }

    #[test]
    fn a_pause_saves_up_a_burst_and_no_more() {
        let mut bucket = limited(1_000, Duration::ZERO);
        bucket.take(1_000, Duration::ZERO);
        let later = 1000 * SECOND;
        let mut at_once = 0;
        while bucket.wait(later).is_zero() {
            bucket.take(1, later);
            at_once += 1;
        }
        assert_eq!(at_once, 251);
    }

    #[test]
    fn another_rate_takes_effect_at_once() {
        let mut bucket = limited(1_000, SECOND);
        bucket.take(100_250, SECOND);
        assert_eq!(bucket.wait(SECOND), 100 * SECOND);
        // What was overdrawn is made up for at the new rate.
        bucket.set_rate(10_000, 2 * SECOND);
        assert_eq!(bucket.wait(2 * SECOND), Duration::from_millis(9_900));
        bucket.set_rate(0, 2 * SECOND);
        assert_eq!(flow_without_limit(&mut bucket), 0);
        bucket.set_rate(5, 3 * SECOND);
        assert_eq!(bucket.wait(3 * SECOND), Duration::ZERO);
    }

    /// The waits that a hundred takings without a limit come to, in nanoseconds.
    fn flow_without_limit(bucket: &mut TokenBucket) -> u128 {
        (0..100).map(|_| (bucket.take(u64::MAX, SECOND), bucket.wait(SECOND)).1.as_nanos()).sum()
    }

    #[test]
    fn what_did_not_flow_is_given_back() {
        let mut bucket = limited(1_000, SECOND);
        bucket.take(10_250, SECOND);
        bucket.give_back(10_000);
        assert_eq!(bucket.wait(SECOND), Duration::ZERO);
        bucket.give_back(u64::MAX);
        bucket.take(u64::MAX, SECOND);
        assert!(bucket.wait(SECOND) > SECOND, "no overflow");
    }
}
