//! What a daemon tells the service manager that started it: that it is ready, that it reloads, that it lives, that it ends.
//!
//! The protocol is systemd's (sd_notify(3)). Without a manager all of this does nothing.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// How often nobody is told that the daemon lives.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells that requests are answered from now on.
///
/// # Errors
/// Why the manager cannot be told; the daemon works all the same.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Tells that the daemon is about to end.
///
/// # Errors
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Tells that settings are being read again; [`ready`] ends that.
///
/// # Errors
/// As [`ready`].
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// Tells that the daemon lives. To be called where its work is done, every [`alive_interval`]: a daemon that hangs then says
/// nothing and is started again.
///
/// # Errors
/// As [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// How often [`alive`] is expected: twice in the time that the manager's watchdog waits, as sd_watchdog_enabled(3) has it. A
/// long time where there is no watchdog.
pub fn alive_interval() -> Duration {
    sd_notify::watchdog_enabled().map(|life| life / 2).filter(|half| !half.is_zero()).unwrap_or(NEVER)
}
