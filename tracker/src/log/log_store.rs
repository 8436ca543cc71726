//! The disk as openraft sees it: entries, and which leader is followed.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{ErrorVerb, OptionalSend, RaftLogReader};

use super::error::LogError;
use super::failure::Failure;
use super::stalls::Stalls;
use super::storage::Store;
use super::types::{LogEntry, LogId, StorageError, Types, Vote};

/// Entries read at once for a follower that is behind, in bytes: what a message's time over a slow link may carry.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The log of a [`Store`]. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    store: Arc<Store>,
    failure: Failure,
    stalls: Stalls,
}

impl LogStore {
    pub fn new(store: Arc<Store>, failure: Failure, stalls: Stalls) -> LogStore {
        LogStore { store, failure, stalls }
    }

    /// Does something that waits for the disk, where no other task waits for it.
    async fn on_disk(
        &self,
        verb: ErrorVerb,
        work: impl FnOnce(&Store) -> Result<(), LogError> + Send + 'static,
    ) -> Result<(), StorageError> {
        let store = Arc::clone(&self.store);
        let done = self.stalls.watch(tokio::task::spawn_blocking(move || work(&store))).await;
        self.failure.check(verb, done.unwrap_or(Err(LogError::Died)))
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.failure.check(ErrorVerb::Read, self.store.entries(start, end, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, StorageError> {
        self.failure.check(ErrorVerb::Read, self.store.entries(start, end, READ_BYTES_MAX))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let read = || Ok(LogState { last_purged_log_id: self.store.purged()?, last_log_id: self.store.last()? });
        self.failure.check(ErrorVerb::Read, read())
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.on_disk(ErrorVerb::Write, move |store| store.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.failure.check(ErrorVerb::Read, self.store.vote())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.store.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.failure.check(ErrorVerb::Read, self.store.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.on_disk(ErrorVerb::Write, move |store| store.append(&entries)).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.on_disk(ErrorVerb::Delete, move |store| store.truncate(log_id.index)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.on_disk(ErrorVerb::Delete, move |store| store.purge(log_id)).await
    }
}
