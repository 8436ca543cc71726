//! The state behind the log: applies what is agreed on, tells the observer, makes and takes snapshots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, ErrorVerb, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{Notify, watch};
use tracing::info;

use super::Observer;
use super::error::LogError;
use super::failure::Failure;
use super::storage::Store;
use super::types::{Batch, LogEntry, LogId, Replies, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::state::{Applied, Entry, State};

/// State entries after which a snapshot is written and the log is taken out: a start replays this many in well under a
/// second.
const SNAPSHOT_AFTER_ENTRIES: usize = 32_768;

/// A snapshot costs as much as the state has rows; it waits for one entry in so many rows, so that a large state is not
/// written again and again.
const SNAPSHOT_ROWS_PER_ENTRY: usize = 4;

/// The state and the place in the log that it has come to.
#[derive(Debug, Default)]
struct Machine {
    state: State,
    applied: Option<LogId>,
    members: StoredMembership,
}

/// What others see of the machine.
#[derive(Debug)]
pub(super) struct Shared {
    machine: RwLock<Machine>,
    /// Held while a place of the log is applied: between two entries of one place the state belongs to no place.
    whole: Mutex<()>,
    /// The place behind the last one applied.
    next: watch::Sender<u64>,
    /// Enough was applied for another snapshot.
    pub snapshot_due: Notify,
    /// What is applied from now on is told to the observer.
    live: AtomicBool,
}

impl Shared {
    /// Reads the state. Short: changes wait meanwhile.
    pub fn query<T>(&self, read_state: impl FnOnce(&State) -> T) -> T {
        read_state(&self.read().state)
    }

    /// The place behind the last one applied, and the state as it was then.
    pub fn query_at<T>(&self, read_state: impl FnOnce(u64, &State) -> T) -> T {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = self.read();
        read_state(next(machine.applied), &machine.state)
    }

    /// The place behind the last one that is applied whole. Takes no lock, so that it may be asked for under any.
    pub fn place(&self) -> u64 {
        *self.next.borrow()
    }

    /// Waits until everything before `place` is applied here.
    pub async fn wait_for(&self, place: u64) {
        // The sender is this one, so that it is not closed.
        let _ = self.next.subscribe().wait_for(|next| *next >= place).await;
    }

    /// Who belongs to the cluster.
    pub fn members(&self) -> StoredMembership {
        self.read().members.clone()
    }

    /// From now on the observer is told.
    pub fn go_live(&self) {
        self.live.store(true, Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, Machine> {
        // A panic while applying ends the process; until then the last whole state is as good as any.
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(place: Option<LogId>) -> u64 {
    place.map_or(0, |place| place.index + 1)
}

/// The machine as openraft drives it.
pub(super) struct StateMachine {
    shared: Arc<Shared>,
    store: Arc<Store>,
    failure: Failure,
    observer: Mutex<Box<dyn Observer>>,
    /// State entries applied since the last snapshot.
    since_snapshot: usize,
}

impl StateMachine {
    /// The machine as the store's snapshot has it.
    pub fn load(store: Arc<Store>, failure: Failure, observer: Box<dyn Observer>) -> Result<StateMachine, LogError> {
        let machine = match store.snapshot_meta()? {
            None => Machine::default(),
            Some(meta) => Machine {
                state: State::decode(&store.snapshot_bytes()?)?,
                applied: meta.last_log_id,
                members: meta.last_membership,
            },
        };
        let shared = Shared {
            next: watch::Sender::new(next(machine.applied)),
            machine: RwLock::new(machine),
            whole: Mutex::default(),
            snapshot_due: Notify::new(),
            live: AtomicBool::new(false),
        };
        let observer = Mutex::new(observer);
        Ok(StateMachine { shared: Arc::new(shared), store, failure, observer, since_snapshot: 0 })
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn apply_one(&mut self, LogEntry { log_id, payload }: LogEntry) -> Replies {
        let shared = self.shared();
        let _whole = shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut replies = Vec::new();
        let mut members = None;
        match payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(Batch(entries)) => {
                self.since_snapshot += entries.len();
                replies.extend(entries.iter().map(|entry| self.apply_entry(entry).reply));
            }
            EntryPayload::Membership(changed) => members = Some(StoredMembership::new(Some(log_id), changed)),
        }
        let mut machine = self.shared.machine.write().unwrap_or_else(PoisonError::into_inner);
        machine.applied = Some(log_id);
        if let Some(members) = members {
            machine.members = members;
        }
        Replies(replies)
    }

    /// Applies one entry and tells the observer before anybody can be answered.
    fn apply_entry(&self, entry: &Entry) -> Applied {
        let applied = self.shared.machine.write().unwrap_or_else(PoisonError::into_inner).state.apply(entry);
        if self.shared.live.load(Ordering::Acquire) {
            let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
            observer.applied(&self.shared.read().state, entry, &applied);
        }
        applied
    }
}

/// Says that the machine has panicked, which openraft would find out at the next entry only.
struct Watchman<'a>(&'a Failure);

impl Drop for Watchman<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.tell(LogError::Died);
        }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let machine = self.shared.read();
        Ok((machine.applied, machine.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>, StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let failure = self.failure.clone();
        let _watchman = Watchman(&failure);
        let replies = entries.into_iter().map(|entry| self.apply_one(entry)).collect();
        self.shared.next.send_replace(next(self.shared.read().applied));
        let rows = self.shared.read().state.rows();
        if self.since_snapshot >= SNAPSHOT_AFTER_ENTRIES.max(rows / SNAPSHOT_ROWS_PER_ENTRY) {
            self.since_snapshot = 0;
            self.shared.snapshot_due.notify_one();
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (shared, store, failure) = (self.shared(), Arc::clone(&self.store), self.failure.clone());
        SnapshotBuilder { shared, store, failure }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        let (store, meta) = (Arc::clone(&self.store), meta.clone());
        let (applied, members) = (meta.last_log_id, meta.last_membership.clone());
        let written = tokio::task::spawn_blocking(move || {
            // Read before it is kept: what cannot be read would be refused at the next start.
            let state = State::decode(&snapshot)?;
            store.write_snapshot(&meta, &snapshot)?;
            Ok(state)
        });
        let state = self.failure.check(ErrorVerb::Write, written.await.unwrap_or(Err(LogError::Died)))?;
        {
            let _whole = self.shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
            *self.shared.machine.write().unwrap_or_else(PoisonError::into_inner) = Machine { state, applied, members };
        }
        self.since_snapshot = 0;
        if self.shared.live.load(Ordering::Acquire) {
            self.observer.lock().unwrap_or_else(PoisonError::into_inner).replaced();
        }
        self.shared.next.send_replace(next(applied));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let read = || {
            let Some(meta) = self.store.snapshot_meta()? else { return Ok(None) };
            Ok(Some(Snapshot { meta, snapshot: Box::new(self.store.snapshot_bytes()?) }))
        };
        self.failure.check(ErrorVerb::Read, read())
    }
}

/// Writes a snapshot of the machine as it is when its turn comes.
pub(super) struct SnapshotBuilder {
    shared: Arc<Shared>,
    store: Arc<Store>,
    failure: Failure,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let (shared, store) = (Arc::clone(&self.shared), Arc::clone(&self.store));
        let built = tokio::task::spawn_blocking(move || {
            let (meta, bytes) = {
                let _whole = shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
                let machine = shared.read();
                let place = machine.applied.map_or("0".to_owned(), |place| place.to_string());
                let (last_log_id, last_membership) = (machine.applied, machine.members.clone());
                (SnapshotMeta { last_log_id, last_membership, snapshot_id: place }, machine.state.encode())
            };
            store.write_snapshot(&meta, &bytes)?;
            info!(place = meta.snapshot_id, bytes = bytes.len(), "snapshot written");
            Ok(Snapshot { meta, snapshot: Box::new(bytes) })
        });
        self.failure.check(ErrorVerb::Write, built.await.unwrap_or(Err(LogError::Died)))
    }
}
