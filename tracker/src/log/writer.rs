//! The one thread that writes the log: takes what waits, makes it durable in one commit, applies it, answers.

use std::sync::{Arc, RwLock};

use p2p_proto::reject::Reject;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

use super::storage::{LogError, Recovered, Store};
use super::{Observer, read, refusal_unknown};
use crate::state::{Applied, Entry, Outcome, State};

/// Proposals that share one commit. Enough that the disk's delay is divided among all who wait; few enough that one commit
/// stays within a few megabytes.
const BATCH_ENTRIES_MAX: usize = 1_024;

/// Entries after which a snapshot is written and they are taken out: a start replays this many in well under a second.
const SNAPSHOT_AFTER_ENTRIES: u64 = 32_768;

/// A snapshot costs as much as the state has rows; it waits for one entry in so many rows, so that a large state is not
/// written again and again.
const SNAPSHOT_ROWS_PER_ENTRY: u64 = 4;

/// What the thread is asked to do.
pub(super) enum Message {
    /// Make an entry durable, apply it, answer.
    Propose(Proposal),
    /// Write a snapshot, answer, end.
    Stop(oneshot::Sender<()>),
}

/// An entry and who waits for its answer.
pub(super) struct Proposal {
    pub entry: Entry,
    pub reply: oneshot::Sender<Result<Outcome, Reject>>,
}

/// The thread's own things.
pub(super) struct Writer {
    store: Store,
    state: Arc<RwLock<State>>,
    queue: mpsc::Receiver<Message>,
    observer: Observer,
    failure: watch::Sender<Option<Arc<LogError>>>,
    last: u64,
    snapshot: u64,
}

impl Writer {
    pub fn new(
        store: Store,
        recovered: Recovered,
        queue: mpsc::Receiver<Message>,
        observer: Observer,
        failure: watch::Sender<Option<Arc<LogError>>>,
    ) -> (Writer, Arc<RwLock<State>>) {
        let Recovered { state, last, snapshot } = recovered;
        let state = Arc::new(RwLock::new(state));
        let shared = Arc::clone(&state);
        (Writer { store, state, queue, observer, failure, last, snapshot }, shared)
    }

    /// Runs until it is stopped, nobody can propose any more, or the disk fails. After a failure nothing is tried again:
    /// what is on disk is unknown, and the process has to end and read it.
    pub fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let (batch, stop) = self.batch(first);
            if let Err(error) = self.commit(batch, stop.is_some()) {
                error!(%error, "the log cannot be written, so this tracker ends");
                self.failure.send_replace(Some(Arc::new(error)));
                return;
            }
            if let Some(done) = stop {
                // Who asked may have stopped waiting.
                let _ = done.send(());
                return;
            }
        }
    }

    /// `first` and what waits behind it. A request to stop closes the queue, and all that came before is in the batch.
    fn batch(&mut self, first: Message) -> (Vec<Proposal>, Option<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        let mut stop = None;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Propose(proposal) => batch.push(proposal),
                Message::Stop(done) => {
                    self.queue.close();
                    stop = Some(done);
                }
            }
            next = if batch.len() < BATCH_ENTRIES_MAX || stop.is_some() { self.queue.try_recv().ok() } else { None };
        }
        (batch, stop)
    }

    /// Makes the batch durable, applies and answers it, and writes a snapshot where one is due or asked for.
    fn commit(&mut self, batch: Vec<Proposal>, snapshot: bool) -> Result<(), LogError> {
        if !batch.is_empty() {
            match self.store.append(self.last, batch.iter().map(|proposal| &proposal.entry)) {
                Ok(last) => self.last = last,
                Err(error) => {
                    for proposal in batch {
                        let _ = proposal.reply.send(Err(refusal_unknown()));
                    }
                    return Err(error);
                }
            }
        }
        for Proposal { entry, reply } in batch {
            let applied = self.apply(&entry);
            // Who asked may be gone; the change stays.
            let _ = reply.send(applied.reply);
        }
        let written = self.last - self.snapshot;
        let rows = read(&self.state).rows() as u64;
        if (snapshot && written > 0) || written >= SNAPSHOT_AFTER_ENTRIES.max(rows / SNAPSHOT_ROWS_PER_ENTRY) {
            let bytes = read(&self.state).encode();
            self.store.write_snapshot(&bytes, self.last)?;
            self.snapshot = self.last;
            info!(entries = written, bytes = bytes.len(), "snapshot written");
        }
        Ok(())
    }

    /// Applies one entry and tells the observer before anybody can be answered.
    fn apply(&mut self, entry: &Entry) -> Applied {
        let applied = self.state.write().expect("applying never panics, so the lock is whole").apply(entry);
        (self.observer)(&read(&self.state), entry, &applied);
        applied
    }
}
