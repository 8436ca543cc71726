//! The durable order of all changes, behind a seam that says nothing of how it is kept.
//!
//! [`Consensus::propose`] puts an entry into the log and answers once it is on disk and applied; [`Consensus::query`] reads
//! the state. A cluster of several trackers keeps this seam and changes what is behind it.

mod record;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::{mpsc, oneshot, watch};

pub use record::RecordError;
pub use storage::{FILE_NAME, LogError, Recovered, Store};

use crate::state::{Applied, Entry, Outcome, State};
use writer::{Message, Proposal, Writer};

/// Proposals that may wait for the disk: some seconds of a slow one, a few megabytes of memory. More are answered BUSY.
const QUEUE_PROPOSALS_MAX: usize = 4_096;

/// Is told each applied entry, in order, before the entry is answered; with the state as it is then. Runs on the log's
/// thread, so it never waits.
pub type Observer = Box<dyn FnMut(&State, &Entry, &Applied) + Send>;

/// The state and its log.
#[derive(Debug)]
pub struct Consensus {
    state: Arc<RwLock<State>>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Message>>,
    /// `None` only while dropping.
    thread: Option<JoinHandle<()>>,
    failure: watch::Receiver<Option<Arc<LogError>>>,
    /// The thread has been asked to end.
    stopping: AtomicBool,
}

impl Consensus {
    /// Recovers the state from the store and starts to take proposals.
    pub fn start(store: Store, observer: Observer) -> Result<Consensus, LogError> {
        let recovered = store.recover()?;
        let (queue, proposals) = mpsc::channel(QUEUE_PROPOSALS_MAX);
        let (failed, failure) = watch::channel(None);
        let (writer, state) = Writer::new(store, recovered, proposals, observer, failed);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| LogError::Disk(redb::Error::Io(error)))?;
        Ok(Consensus { state, queue: Some(queue), thread: Some(thread), failure, stopping: AtomicBool::new(false) })
    }

    /// Puts an entry into the log. Answers once it is on disk and applied, with what came of it.
    pub async fn propose(&self, entry: Entry) -> Result<Outcome, Reject> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("taken only while dropping");
        match queue.try_send(Message::Propose(Proposal { entry, reply })) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(refusal_unknown())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Reject::new(ErrorCode::BUSY, "the tracker has too many changes waiting for its disk")
                    .hint("try again in a few seconds"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Reject::new(ErrorCode::BUSY, "the tracker is stopping").hint("try again in a few seconds"))
            }
        }
    }

    /// Reads the state. Short: changes wait meanwhile.
    pub fn query<T>(&self, read_state: impl FnOnce(&State) -> T) -> T {
        read_state(&read(&self.state))
    }

    /// Whether changes are decided here.
    pub fn is_leader(&self) -> bool {
        true
    }

    /// Waits until the log has failed. The process has to end then: what is on disk is unknown.
    pub async fn failed(&self) -> Arc<LogError> {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            _ if self.stopping.load(Ordering::Acquire) => std::future::pending().await,
            // Without this, a tracker whose log has panicked would go on with what it knew then.
            _ => Arc::new(LogError::Died),
        }
    }

    /// Finishes what waits, writes a snapshot and ends. Later proposals are refused.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let (done, stopped) = oneshot::channel();
        let queue = self.queue.as_ref().expect("taken only while dropping");
        if queue.send(Message::Stop(done)).await.is_ok() {
            // An error means that the disk failed meanwhile, which `failed` tells.
            let _ = stopped.await;
        }
    }
}

impl Drop for Consensus {
    /// Ends the thread without a snapshot: to the disk it is as if the process were killed between two commits.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Read access to the state.
fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().expect("applying never panics, so the lock is whole")
}

/// The answer where nobody knows whether the entry is on disk.
fn refusal_unknown() -> Reject {
    Reject::new(ErrorCode::INTERNAL, "the tracker could not write its log, and the change may or may not be made")
        .hint("look at what there is before trying again")
}
