//! Rates: bytes per second over the last few seconds.

use std::time::Duration;

/// Length of one slot, in milliseconds.
const SLOT_MS: u64 = 500;

/// Slots kept: three seconds are short enough to follow a change and long enough to read.
const SLOTS: usize = 6;

/// Bytes of the last [`SLOTS`] slots of time.
#[derive(Debug, Clone, Default)]
pub struct RateMeter {
    /// Bytes by slot number modulo [`SLOTS`].
    slots: [u64; SLOTS],
    /// Number of the newest slot.
    newest: u64,
    /// When the first byte came, for a rate before all slots have been lived through.
    first: Option<Duration>,
}

impl RateMeter {
    /// Counts `bytes` at `now`.
    pub fn add(&mut self, bytes: u64, now: Duration) {
        self.advance(now);
        self.first.get_or_insert(now);
        let slot = &mut self.slots[(self.newest % SLOTS as u64) as usize];
        *slot = slot.saturating_add(bytes);
    }

    /// Bytes per second at `now`; 0 before the first byte and a few seconds after the last.
    pub fn bytes_per_second(&self, now: Duration) -> u64 {
        let Some(first) = self.first else { return 0 };
        let current = slot_number(now);
        let alive = self.newest.saturating_sub(SLOTS as u64 - 1)..=self.newest;
        let recent = alive.filter(|slot| slot + (SLOTS as u64) > current);
        let bytes: u64 = recent.map(|slot| self.slots[(slot % SLOTS as u64) as usize]).sum();
        // The window begins with the oldest slot still counted, or with the first byte if that is later.
        let window_start = current.saturating_sub(SLOTS as u64 - 1) * SLOT_MS;
        let start = Duration::from_millis(window_start).max(first);
        let elapsed_ms = now.saturating_sub(start).as_millis().max(u128::from(SLOT_MS / 5));
        u64::try_from(u128::from(bytes) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
    }

    /// Empties the slots that have passed since the newest one.
    fn advance(&mut self, now: Duration) {
        let current = slot_number(now);
        let passed = current.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 0..passed {
            self.slots[((current - step) % SLOTS as u64) as usize] = 0;
        }
        self.newest = self.newest.max(current);
    }
}

/// The slot that a moment falls into.
fn slot_number(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX) / SLOT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_has_its_rate() {
        let mut meter = RateMeter::default();
        for ms in (0..10_000).step_by(10) {
            meter.add(1000, Duration::from_millis(ms));
        }
        let rate = meter.bytes_per_second(Duration::from_secs(10));
        assert!((90_000..=110_000).contains(&rate), "{rate}");
    }

    #[test]
    fn the_first_moments_are_not_diluted_and_silence_ends_in_zero() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.bytes_per_second(Duration::from_secs(100)), 0);
        meter.add(1_000_000, Duration::from_millis(100_000));
        meter.add(1_000_000, Duration::from_millis(101_000));
        assert_eq!(meter.bytes_per_second(Duration::from_millis(101_000)), 2_000_000);
        assert_eq!(meter.bytes_per_second(Duration::from_millis(104_000)), 0);
    }
}
