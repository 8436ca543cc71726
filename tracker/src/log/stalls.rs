//! Stalls of the disk: who waits for its own disk does not listen, and must not take that for the leader's silence.
//!
//! openraft hears nothing while it writes, and when the disk goes on it looks at the clock before it looks at what the leader has
//! said meanwhile. So a tracker whose disk has stalled stands for no election before it has listened for a while.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::types::Types;

/// A write that takes longer stalls: most of the silence after which an election begins.
const STALL: Duration = Duration::from_millis(500);

/// How long a tracker listens after a stall: a leader that lives says so twice.
const LISTEN: Duration = Duration::from_millis(750);

/// Whether the disk stalls. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Stalls(Arc<watch::Sender<bool>>);

impl Stalls {
    pub fn new() -> Stalls {
        Stalls(Arc::new(watch::Sender::new(false)))
    }

    /// Waits for a write to the disk, and says when it stalls and when it goes on.
    pub async fn watch<T>(&self, write: impl Future<Output = T>) -> T {
        let mut write = std::pin::pin!(write);
        if let Ok(written) = timeout(STALL, &mut write).await {
            return written;
        }
        self.0.send_replace(true);
        let written = write.await;
        self.0.send_replace(false);
        written
    }

    /// Keeps openraft from elections while the disk stalls, and a little longer; never ends.
    pub async fn guard(&self, raft: &Raft<Types>) {
        let mut stalls = self.0.subscribe();
        // The sender is this one, so that it is not closed.
        while stalls.wait_for(|stalls| *stalls).await.is_ok() {
            debug!("the disk stalls");
            raft.runtime_config().elect(false);
            while timeout(LISTEN, stalls.wait_for(|stalls| *stalls)).await.is_ok() {
                sleep(LISTEN).await;
            }
            raft.runtime_config().elect(true);
        }
    }
}
