//! The daemon's clock: the one place that asks the system what time it is.

use std::time::{Duration, Instant, SystemTime};

use p2p_proto::time::UnixMillis;

use crate::engine::Now;

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// This moment, as the engine takes it.
    pub fn now(&self) -> Now {
        Now { monotonic: self.start.elapsed(), wall: UnixMillis::from(SystemTime::now()) }
    }

    /// The moment that the engine's `deadline` means.
    pub fn instant(&self, deadline: Duration) -> Instant {
        self.start + deadline
    }
}
