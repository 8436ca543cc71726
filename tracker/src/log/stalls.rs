//! Stalls of the disk, and starts: who has not listened must not take that for the leader's silence.
//!
//! openraft hears nothing while it writes, and when the disk goes on it looks at the clock before it looks at what the leader has
//! said meanwhile. When it starts it takes it that nobody has led for ever. Whoever stands without need unseats the leader even where
//! nobody votes for them. So a tracker stands for no election before it has listened for a while.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::types::Types;

/// A write that takes longer stalls: most of the silence after which an election begins.
const STALL: Duration = Duration::from_millis(500);

/// How long a tracker listens after a stall: a leader that lives says so twice.
const LISTEN: Duration = Duration::from_millis(750);

/// How long a tracker listens after its start, if it hears nothing: until a leader that dialled it in vain before has had enough, does so again, and finds
/// it. Where all were restarted this is not waited for: who led goes on to lead.
const LISTEN_AT_START: Duration = Duration::from_secs(4);

/// Whether the disk stalls, and whether a leader was heard. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Stalls {
    stalls: Arc<watch::Sender<bool>>,
    heard: Arc<Notify>,
}

impl Stalls {
    pub fn new() -> Stalls {
        Stalls { stalls: Arc::new(watch::Sender::new(false)), heard: Arc::default() }
    }

    /// A leader has said that it is there, and openraft knows when.
    pub fn leader_heard(&self) {
        self.heard.notify_one();
    }

    /// Waits for a write to the disk, and says when it stalls and when it goes on.
    pub async fn watch<T>(&self, write: impl Future<Output = T>) -> T {
        let mut write = std::pin::pin!(write);
        if let Ok(written) = timeout(STALL, &mut write).await {
            return written;
        }
        self.stalls.send_replace(true);
        let written = write.await;
        self.stalls.send_replace(false);
        written
    }

    /// Lets openraft, which starts without, begin elections; but not while the disk stalls, nor a little longer. Never ends.
    pub async fn guard(&self, raft: &Raft<Types>) {
        let mut stalls = self.stalls.subscribe();
        let _ = timeout(LISTEN_AT_START, self.heard.notified()).await;
        raft.runtime_config().elect(true);
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
