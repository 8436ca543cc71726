//! SIGHUP: the settings are read again while the program runs, and a line of the log says what came of it.

use std::io;

use p2p_proto::reject::Reject;
use p2p_proto::service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Which settings are others than before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Those that hold from now on.
    pub made: Vec<&'static str>,
    /// Those that hold when the program starts again.
    pub at_restart: Vec<&'static str>,
}

impl Changes {
    /// Puts `new` in the place of `running`, and notes it if it is another.
    pub fn make<T: PartialEq>(&mut self, key: &'static str, running: &mut T, new: T) {
        if *running != new {
            *running = new;
            self.made.push(key);
        }
    }

    /// Notes that `new` is another than what the program runs with until its end.
    pub fn leave<T: PartialEq>(&mut self, key: &'static str, running: &T, new: &T) {
        if running != new {
            self.at_restart.push(key);
        }
    }
}

/// Hears SIGHUP, which ends the program no longer.
#[derive(Debug)]
pub struct Reloads {
    hangups: Signal,
}

impl Reloads {
    /// From now on. To be called before the program says that it is ready, so that no signal is missed.
    ///
    /// # Errors
    /// That the system does not let signals be heard.
    pub fn begin() -> io::Result<Reloads> {
        Ok(Reloads { hangups: signal(SignalKind::hangup())? })
    }

    /// Waits for the next SIGHUP with which `read` finds settings that are right. What is wrong is logged, and changes nothing.
    pub async fn next<C>(&mut self, read: impl Fn() -> Result<C, Reject>) -> C {
        loop {
            if self.hangups.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            tell(service::reloading());
            match read() {
                Ok(config) => return config,
                Err(reject) => error!(hint = reject.hint, "settings not reloaded, nothing has changed: {reject}"),
            }
            tell(service::ready());
        }
    }

    /// Says what has come of it.
    pub fn done(&self, changes: &Changes) {
        let list = |keys: &[&'static str]| (!keys.is_empty()).then(|| keys.join(", "));
        let (changed, needs_restart) = (list(&changes.made), list(&changes.at_restart));
        if changed.is_none() && needs_restart.is_none() {
            info!("settings reloaded: they are as before");
        } else {
            info!(changed, needs_restart, "settings reloaded");
        }
        tell(service::ready());
    }
}

fn tell(told: io::Result<()>) {
    if let Err(error) = told {
        warn!(%error, "the service manager cannot be told of the reload");
    }
}
