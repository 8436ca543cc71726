//! The daemon's clock: the one place that asks the system what time it is.
//!
//! Grants age while the machine sleeps, and whoever was granted may have been removed meanwhile. So the engine's time goes
//! on in suspend. The runtime's timers do not: they count what is left of a wait in time awake, which is why what is left
//! is asked for anew at each turn of the driver's loop, and no turn is further away than [`TURN_MAX`].

use std::time::{Duration, Instant, SystemTime};

use p2p_proto::time::UnixMillis;
use rustix::time::{ClockId, clock_gettime};

use crate::engine::Now;

/// How long the driver's loop waits before it looks at the time again, in time awake: so soon after the machine wakes is
/// done what became due while it slept. A turn without anything due costs some microseconds.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;

/// Goes on while the machine sleeps on macOS, where it is called so.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { start: since_boot() }
    }

    /// This moment, as the engine takes it.
    pub fn now(&self) -> Now {
        let monotonic = since_boot().saturating_sub(self.start);
        Now { monotonic, wall: UnixMillis::from(SystemTime::now()) }
    }

    /// When to look whether the engine's `deadline` has come: then, if the machine does not sleep, or else before.
    pub fn look_again(&self, deadline: Duration) -> Instant {
        let left = deadline.saturating_sub(self.now().monotonic);
        Instant::now() + left.min(TURN_MAX)
    }
}

/// Time since the machine was started, with the time that it slept.
fn since_boot() -> Duration {
    // Neither part is negative on these clocks, nor is the second a second or more.
    let now = clock_gettime(CLOCK);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_the_time_asleep() {
        // The kernel's own account: since boot, the time in suspend included (proc_uptime(5)).
        let uptime = || -> f64 {
            let text = std::fs::read_to_string("/proc/uptime").expect("Linux");
            text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
        };
        let (before, between, after) = (uptime(), since_boot().as_secs_f64(), uptime());
        // In hundredths of a second.
        assert!(before - 0.01 <= between && between <= after + 0.01, "{before} {between} {after}");
    }

    #[test]
    fn what_became_due_while_it_slept_is_due_soon_after() {
        let clock = Clock::start();
        // As if the machine had slept since the last look, longer than what was left.
        let slept = Clock { start: clock.start.saturating_sub(4 * TURN_MAX) };
        let deadline = clock.now().monotonic + 2 * TURN_MAX;
        let begun = Instant::now();
        assert!(clock.look_again(deadline) <= Instant::now() + TURN_MAX, "it looks again before");
        assert!(slept.now().monotonic >= deadline);
        let due = slept.look_again(deadline);
        assert!(begun <= due && due <= Instant::now(), "at once");
    }
}
