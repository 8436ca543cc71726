//! Waiting for what a program does not tell: asking again until it is so, and failing loudly when it never is.

use std::time::{Duration, Instant};

/// How long anything may take that is not a transfer: an hour on a slow machine would still be a fault.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long a transfer or a build of a large file may take.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(300);

/// Pause between two questions, so that asking does not take the processor from who is asked.
const PAUSE: Duration = Duration::from_millis(30);

/// The first answer that `ask` gives; asks again and again until [`DEADLINE`].
///
/// # Panics
/// At the deadline, with `what` was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "not in {} s: {what}", DEADLINE.as_secs());
        // Not a synchronisation: whatever the length, the answer decides.
        std::thread::park_timeout(PAUSE);
    }
}

/// Lets `time` pass. Only where the time itself is the case, as in a link that is cut for twenty seconds: whoever waits for
/// something asks for it ([`eventually`]).
pub fn remain(time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
