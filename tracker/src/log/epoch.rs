//! Epochs: who of two trackers decides, told by every place of the log.
//!
//! ```text
//!  63            44 43      40 39                                    0
//! +----------------+----------+---------------------------------------+
//! | takeovers: 20  | which: 4 | place within the epoch: 40            |
//! +----------------+----------+---------------------------------------+
//! ```
//!
//! Whoever takes over goes on at the first place of an epoch that is later than all that it knows of, and its own: the bits of
//! its number are in it, so that two that both take over never make the same one. So a place, whatever tells it (a daemon, a
//! grant's count of revocations, a copy), is never taken for one of another epoch, and the larger one counts.

use std::fmt;

use p2p_proto::tracker::{EPOCH_PLACES, epoch_of};

use super::types::TrackerId;

/// Bits that say which tracker has begun it: as many as a list has trackers.
const TRACKER_BITS: u32 = 4;

/// Which epoch. Later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a place.
    pub fn of(place: u64) -> Epoch {
        Epoch(epoch_of(place))
    }

    /// The one that a tracker begins when it takes over in this one.
    pub fn next(self, by: TrackerId) -> Epoch {
        let which = by.wrapping_sub(1) % (1 << TRACKER_BITS);
        Epoch(((u64::from(self.takeovers()) + 1) << TRACKER_BITS) | which)
    }

    /// Its first place.
    pub fn first_place(self) -> u64 {
        self.0.saturating_mul(EPOCH_PLACES)
    }

    /// How often somebody had taken over: 0 in a cluster where nobody has.
    pub fn takeovers(self) -> u32 {
        u32::try_from(self.0 >> TRACKER_BITS).unwrap_or(u32::MAX)
    }

    /// Who has begun it; `None` for the first, which nobody has.
    pub fn begun_by(self) -> Option<TrackerId> {
        (self.takeovers() > 0).then(|| self.0 % (1 << TRACKER_BITS) + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.begun_by() {
            Some(tracker) => write!(f, "{} of tracker {tracker}", self.takeovers()),
            None => write!(f, "{}", self.takeovers()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over_begins_an_epoch_of_its_own_that_is_later_than_all_before() {
        let first = Epoch::of(17);
        assert_eq!((first.takeovers(), first.begun_by(), first.first_place()), (0, None, 0));
        let (of_one, of_two) = (first.next(1), first.next(2));
        assert_eq!((of_two.takeovers(), of_two.begun_by()), (1, Some(2)));
        assert!(first < of_one && of_one < of_two, "both at once: one of them is the later");
        assert!(of_two < of_one.next(1) && of_one < of_two.next(1));
        assert_eq!(of_two.next(2).to_string(), "2 of tracker 2");
        for epoch in [of_one, of_two] {
            assert_eq!(Epoch::of(epoch.first_place()), epoch);
            assert!(Epoch::of(epoch.first_place() - 1) < epoch);
        }
    }

    #[test]
    fn places_of_an_epoch_stay_what_they_are() {
        // They stand in logs, and daemons know them.
        assert_eq!(Epoch::of(0).next(2).first_place(), 17 << 40);
        assert_eq!(Epoch::of(0).next(16).next(1).first_place(), 32 << 40);
    }
}
