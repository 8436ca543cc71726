//! The log on disk: one redb database, `log.redb`, in the state folder.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | 2 |
//! | | `tracker` | which tracker of its cluster this one is |
//! | | `next` | the place behind the last entry, 0 for none |
//! | `raft` | `vote` | which leader is followed |
//! | | `committed` | a place up to which everything was agreed on; may lag behind |
//! | | `purged` | the last place whose entry was taken out |
//! | | `snapshot` | the place and the members that the snapshot holds |
//! | | `left` | the place behind the last of each epoch from which this tracker has taken over; none where it never has |
//! | | `turn` | what it becomes at its next start ([`super::turn::Turn`]); none where it stays what it is |
//! | `keys` | which tracker | its key, from when it was met until it is a member |
//! | `entries` | place, from 0 | an entry ([`super::record`]) |
//! | `snapshot` | number of the part, from 0 | up to 1 MiB of the encoded state ([`State::encode`]), one part behind the other |
//!
//! What stands in `raft` is postcard of openraft's types. `entries` holds every place behind `purged` and before `next`, and
//! nothing else; the snapshot holds at least everything up to `purged`. Every change is one transaction that is on disk when
//! it is answered, but for `committed`, which goes along with the next one. A folder that does not fit this description is
//! refused at the start, never repaired.
//!
//! Format 1 was of trackers that were always alone; [`super::takeover`] makes it format 2.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use p2p_proto::codec;
use p2p_proto::id::NodeId;
use p2p_proto::time::UnixMillis;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{LogError, disk, unopened};
use super::record;
use super::turn::Turn;
use super::types::{LogEntry, LogId, SnapshotMeta, TrackerId, Vote};
use crate::state::State;

/// Name of the database in the state folder.
pub const FILE_NAME: &str = "log.redb";

/// The format that is written.
pub(super) const FORMAT: u64 = 2;

/// Bytes of one part of a snapshot: the database keeps a value in one run of pages.
const PART_BYTES: usize = 1024 * 1024;

/// Memory for the database's pages, in bytes: entries are written once, applied soon, and read again only at the start or
/// for a follower that is behind.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RAFT: TableDefinition<&str, &[u8]> = TableDefinition::new("raft");
const KEYS: TableDefinition<u64, &[u8]> = TableDefinition::new("keys");
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
pub(super) const SNAPSHOT: TableDefinition<u32, &[u8]> = TableDefinition::new("snapshot");

/// The open database.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// Goes to the disk with the next write.
    committed: Mutex<Option<LogId>>,
    /// Refuses gaps. openraft's tests of a store make some that openraft never would.
    gapless: bool,
}

impl Store {
    /// Opens the database in `folder`, or makes it.
    pub fn open(folder: &Path) -> Result<Store, LogError> {
        let path = folder.join(FILE_NAME);
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|source| unopened(path, source))?;
        let store = Store { database, committed: Mutex::default(), gapless: true };
        store.prepare()?;
        // The file's name must be on disk as well before anything is acknowledged.
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| LogError::Folder { path: folder.to_owned(), source })?;
        Ok(store)
    }

    /// Opens the database on another medium than a file, for tests that make it fail.
    pub fn with_backend(backend: impl StorageBackend) -> Result<Store, LogError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|source| unopened("(test)".into(), source))?;
        let store = Store { database, committed: Mutex::default(), gapless: true };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables of a new database; refuses a format that is not known.
    fn prepare(&self) -> Result<(), LogError> {
        let transaction = self.begin()?;
        {
            let mut meta = transaction.open_table(META).map_err(disk)?;
            let found = meta.get("format").map_err(disk)?.map(|format| format.value());
            match found {
                Some(1 | FORMAT) => return Ok(()),
                Some(format) => return Err(LogError::Format(format)),
                None => {}
            }
            meta.insert("format", FORMAT).map_err(disk)?;
            meta.insert("next", 0).map_err(disk)?;
            transaction.open_table(RAFT).map_err(disk)?;
            transaction.open_table(KEYS).map_err(disk)?;
            transaction.open_table(ENTRIES).map_err(disk)?;
            transaction.open_table(SNAPSHOT).map_err(disk)?;
        }
        transaction.commit().map_err(disk)
    }

    /// A transaction that is on disk once it is committed.
    pub(super) fn begin(&self) -> Result<WriteTransaction, LogError> {
        let mut transaction = self.database.begin_write().map_err(disk)?;
        transaction.set_durability(Durability::Immediate).map_err(disk)?;
        // After a kill the next start takes the allocator's state from the file rather than walking all of it.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// A view of the database as it is now.
    pub(super) fn view(&self) -> Result<redb::ReadTransaction, LogError> {
        self.database.begin_read().map_err(disk)
    }

    /// A number of the `meta` table.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, LogError> {
        let meta = self.view()?.open_table(META).map_err(disk)?;
        Ok(meta.get(key).map_err(disk)?.map(|value| value.value()))
    }

    /// A value of the `raft` table.
    fn value<T: DeserializeOwned>(&self, what: &'static str) -> Result<Option<T>, LogError> {
        let table = self.view()?.open_table(RAFT).map_err(disk)?;
        let Some(bytes) = table.get(what).map_err(disk)? else { return Ok(None) };
        codec::decode(bytes.value()).map(Some).map_err(|_| LogError::Unreadable { what })
    }

    /// Keeps which tracker of its cluster this one is, once and for all.
    pub(super) fn become_tracker(&self, asked: Option<TrackerId>) -> Result<TrackerId, LogError> {
        match (self.number("tracker")?, asked) {
            (Some(found), Some(asked)) if found != asked => Err(LogError::OtherTracker { found, asked }),
            (Some(found), _) => Ok(found),
            (None, asked) => {
                let id = asked.unwrap_or(1);
                let transaction = self.begin()?;
                transaction.open_table(META).map_err(disk)?.insert("tracker", id).map_err(disk)?;
                transaction.commit().map_err(disk)?;
                Ok(id)
            }
        }
    }

    /// When this tracker had sight of a majority of its cluster last, where that was kept.
    pub(super) fn sight(&self) -> Result<Option<UnixMillis>, LogError> {
        Ok(self.number("sight")?.map(UnixMillis))
    }

    /// Keeps when this tracker had sight of a majority.
    pub(super) fn save_sight(&self, at: UnixMillis) -> Result<(), LogError> {
        let transaction = self.begin()?;
        transaction.open_table(META).map_err(disk)?.insert("sight", at.0).map_err(disk)?;
        transaction.commit().map_err(disk)
    }

    /// Refuses what is not whole, before anything is believed.
    pub(super) fn check(&self) -> Result<(), LogError> {
        self.vote()?;
        self.value::<Option<LogId>>("committed")?;
        let (purged, next) = (self.purged()?, self.next()?);
        let snapshot = self.snapshot_meta()?.and_then(|meta| meta.last_log_id);
        if purged.is_some_and(|purged| snapshot.is_none_or(|snapshot| snapshot.index < purged.index)) {
            return Err(LogError::OldSnapshot);
        }
        let mut expected = purged.map_or(0, |purged| purged.index + 1);
        for row in self.view()?.open_table(ENTRIES).map_err(disk)?.iter().map_err(disk)? {
            let (index, bytes) = row.map_err(disk)?;
            let index = index.value();
            if index < expected || index >= next {
                return Err(LogError::Unexpected(index));
            }
            if index > expected {
                return Err(LogError::Missing(expected));
            }
            record::decode(index, bytes.value()).map_err(|source| LogError::Entry { index, source })?;
            expected += 1;
        }
        if expected < next { Err(LogError::Missing(expected)) } else { Ok(()) }
    }

    /// The place behind the last entry.
    pub(super) fn next(&self) -> Result<u64, LogError> {
        self.number("next")?.ok_or(LogError::Unreadable { what: "next" })
    }

    /// Which leader was followed last.
    pub(super) fn vote(&self) -> Result<Option<Vote>, LogError> {
        self.value("vote")
    }

    /// Keeps which leader is followed.
    pub(super) fn save_vote(&self, vote: &Vote) -> Result<(), LogError> {
        let transaction = self.begin()?;
        put(&transaction, "vote", vote)?;
        transaction.commit().map_err(disk)
    }

    /// A place up to which everything was agreed on.
    pub(super) fn committed(&self) -> Result<Option<LogId>, LogError> {
        let noted = *self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        match noted {
            Some(committed) => Ok(Some(committed)),
            None => Ok(self.value::<Option<LogId>>("committed")?.flatten()),
        }
    }

    /// Notes a place up to which everything is agreed on; it goes to the disk with the next write.
    pub(super) fn note_committed(&self, committed: Option<LogId>) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
    }

    fn put_committed(&self, transaction: &WriteTransaction) -> Result<(), LogError> {
        let noted = *self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        noted.map_or(Ok(()), |committed| put(transaction, "committed", &Some(committed)))
    }

    /// The last place whose entry was taken out.
    pub(super) fn purged(&self) -> Result<Option<LogId>, LogError> {
        self.value("purged")
    }

    /// The last place, whether its entry is still there or not.
    pub(super) fn last(&self) -> Result<Option<LogId>, LogError> {
        let table = self.view()?.open_table(ENTRIES).map_err(disk)?;
        match table.last().map_err(disk)? {
            None => self.purged(),
            Some((index, bytes)) => {
                let index = index.value();
                let entry = record::decode(index, bytes.value()).map_err(|source| LogError::Entry { index, source })?;
                Ok(Some(entry.log_id))
            }
        }
    }

    /// Entries from `start` on and before `end`, at least one of those that are there, and about `bytes_max` of them.
    pub(super) fn entries(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogError> {
        let mut entries = Vec::new();
        let mut bytes_read = 0;
        for row in self.view()?.open_table(ENTRIES).map_err(disk)?.range(start..end).map_err(disk)? {
            let (index, bytes) = row.map_err(disk)?;
            let index = index.value();
            bytes_read += bytes.value().len();
            if !entries.is_empty() && bytes_read > bytes_max {
                break;
            }
            entries.push(record::decode(index, bytes.value()).map_err(|source| LogError::Entry { index, source })?);
        }
        // Whoever takes a gap for the end applies too little.
        let gap = entries.windows(2).find(|pair| self.gapless && pair[1].log_id.index != pair[0].log_id.index + 1);
        gap.map_or(Ok(()), |pair| Err(LogError::Missing(pair[0].log_id.index + 1)))?;
        Ok(entries)
    }

    /// Writes entries behind the last, all or none, and returns once they are on disk.
    pub(super) fn append(&self, entries: &[LogEntry]) -> Result<(), LogError> {
        let transaction = self.begin()?;
        {
            let mut meta = transaction.open_table(META).map_err(disk)?;
            let mut next = meta.get("next").map_err(disk)?.map_or(0, |next| next.value());
            let mut table = transaction.open_table(ENTRIES).map_err(disk)?;
            for entry in entries {
                if entry.log_id.index != next && self.gapless {
                    return Err(LogError::Missing(next));
                }
                next = entry.log_id.index;
                table.insert(next, record::encode(entry).as_slice()).map_err(disk)?;
                next += 1;
            }
            meta.insert("next", next).map_err(disk)?;
        }
        self.put_committed(&transaction)?;
        transaction.commit().map_err(disk)
    }

    /// Takes out the entries from a place on, which another leader has overruled.
    pub(super) fn truncate(&self, from: u64) -> Result<(), LogError> {
        let transaction = self.begin()?;
        transaction.open_table(ENTRIES).map_err(disk)?.retain_in(from.., |_, _| false).map_err(disk)?;
        {
            let mut meta = transaction.open_table(META).map_err(disk)?;
            let next = meta.get("next").map_err(disk)?.map_or(0, |next| next.value());
            meta.insert("next", next.min(from)).map_err(disk)?;
        }
        transaction.commit().map_err(disk)
    }

    /// Takes out the entries up to a place, which the snapshot holds.
    pub(super) fn purge(&self, upto: LogId) -> Result<(), LogError> {
        let transaction = self.begin()?;
        transaction.open_table(ENTRIES).map_err(disk)?.retain_in(..=upto.index, |_, _| false).map_err(disk)?;
        {
            let mut meta = transaction.open_table(META).map_err(disk)?;
            let next = meta.get("next").map_err(disk)?.map_or(0, |next| next.value());
            meta.insert("next", next.max(upto.index + 1)).map_err(disk)?;
        }
        put(&transaction, "purged", &upto)?;
        self.put_committed(&transaction)?;
        transaction.commit().map_err(disk)
    }

    /// What the snapshot holds; `None` where there is none.
    pub(super) fn snapshot_meta(&self) -> Result<Option<SnapshotMeta>, LogError> {
        self.value("snapshot")
    }

    /// The encoded state of the snapshot.
    pub(super) fn snapshot_bytes(&self) -> Result<Vec<u8>, LogError> {
        let mut bytes = Vec::new();
        for part in self.view()?.open_table(SNAPSHOT).map_err(disk)?.iter().map_err(disk)? {
            bytes.extend_from_slice(part.map_err(disk)?.1.value());
        }
        Ok(bytes)
    }

    /// Replaces the snapshot, unless there is a later one.
    pub(super) fn write_snapshot(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<(), LogError> {
        let transaction = self.begin()?;
        if self.snapshot_meta()?.is_some_and(|standing| standing.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        put_snapshot(&transaction, meta, state)?;
        transaction.commit().map_err(disk)
    }

    /// Makes a new database, or one of format 1, one of this format that begins with this snapshot, in one transaction.
    pub(super) fn begin_with(&self, meta: &SnapshotMeta, state: &State) -> Result<(), LogError> {
        let transaction = self.begin()?;
        put_beginning(&transaction, meta, state)?;
        transaction.commit().map_err(disk)
    }

    /// Goes on with this snapshot in the place of all that there is, in one transaction; `left` are the places at which epochs
    /// were left, `keys` those of trackers that are no members any more.
    pub(super) fn begin_epoch(
        &self,
        meta: &SnapshotMeta,
        state: &State,
        left: &[u64],
        keys: &[(TrackerId, NodeId)],
    ) -> Result<(), LogError> {
        let transaction = self.begin()?;
        put_beginning(&transaction, meta, state)?;
        put(&transaction, "committed", &meta.last_log_id)?;
        put(&transaction, "left", &left)?;
        put(&transaction, "turn", &None::<Turn>)?;
        put_keys(&transaction, keys)?;
        transaction.commit().map_err(disk)
    }

    /// Takes out everything but which tracker this is, in one transaction, and keeps these keys.
    pub(super) fn forget(&self, keys: &[(TrackerId, NodeId)]) -> Result<(), LogError> {
        let transaction = self.begin()?;
        transaction.delete_table(ENTRIES).map_err(disk)?;
        transaction.delete_table(SNAPSHOT).map_err(disk)?;
        transaction.delete_table(RAFT).map_err(disk)?;
        transaction.open_table(ENTRIES).map_err(disk)?;
        transaction.open_table(SNAPSHOT).map_err(disk)?;
        transaction.open_table(RAFT).map_err(disk)?;
        transaction.open_table(META).map_err(disk)?.insert("next", 0).map_err(disk)?;
        put_keys(&transaction, keys)?;
        transaction.commit().map_err(disk)
    }

    /// The places at which epochs were left when this tracker took over, the last one last.
    pub(super) fn left(&self) -> Result<Vec<u64>, LogError> {
        Ok(self.value("left")?.unwrap_or_default())
    }

    /// What this tracker becomes at its next start.
    pub(super) fn turn(&self) -> Result<Option<Turn>, LogError> {
        Ok(self.value::<Option<Turn>>("turn")?.flatten())
    }

    /// Keeps what this tracker becomes at its next start.
    pub(super) fn save_turn(&self, turn: &Turn) -> Result<(), LogError> {
        let transaction = self.begin()?;
        put(&transaction, "turn", &Some(turn))?;
        transaction.commit().map_err(disk)
    }

    /// Hears every entry that is there, in order.
    pub(super) fn each_entry(&self, mut hear: impl FnMut(LogEntry)) -> Result<(), LogError> {
        for row in self.view()?.open_table(ENTRIES).map_err(disk)?.iter().map_err(disk)? {
            let (index, bytes) = row.map_err(disk)?;
            let index = index.value();
            hear(record::decode(index, bytes.value()).map_err(|source| LogError::Entry { index, source })?);
        }
        Ok(())
    }

    /// The keys of trackers that were met and are no members yet.
    pub(super) fn keys(&self) -> Result<Vec<(TrackerId, NodeId)>, LogError> {
        let table = self.view()?.open_table(KEYS).map_err(disk)?;
        let rows = table.iter().map_err(disk)?.map(|row| {
            let (tracker, key) = row.map_err(disk)?;
            let key = key.value().try_into().map_err(|_| LogError::Unreadable { what: "keys" })?;
            Ok((tracker.value(), NodeId(key)))
        });
        rows.collect()
    }

    /// Keeps the key of a tracker that was met.
    pub(super) fn save_key(&self, tracker: TrackerId, key: NodeId) -> Result<(), LogError> {
        let transaction = self.begin()?;
        put_keys(&transaction, &[(tracker, key)])?;
        transaction.commit().map_err(disk)
    }
}

#[cfg(test)]
impl Store {
    /// The same, which takes entries with gaps between them.
    pub(super) fn with_gaps(self) -> Store {
        Store { gapless: false, ..self }
    }

    /// Lets a test put anything in place of an entry, or take it out.
    pub(super) fn tamper(&self, index: u64, bytes: Option<&[u8]>) {
        let transaction = self.begin().expect("the test's disk works");
        {
            let mut table = transaction.open_table(ENTRIES).expect("there");
            match bytes {
                Some(bytes) => table.insert(index, bytes).map(drop).expect("written"),
                None => table.remove(index).map(drop).expect("removed"),
            }
        }
        transaction.commit().expect("the test's disk works");
    }

    /// Lets a test change a number of the `meta` table.
    pub(super) fn tamper_meta(&self, key: &str, value: u64) {
        let transaction = self.begin().expect("the test's disk works");
        transaction.open_table(META).expect("there").insert(key, value).expect("written");
        transaction.commit().expect("the test's disk works");
    }

    /// Lets a test change a value of the `raft` table.
    pub(super) fn tamper_raft(&self, key: &str, bytes: &[u8]) {
        let transaction = self.begin().expect("the test's disk works");
        transaction.open_table(RAFT).expect("there").insert(key, bytes).expect("written");
        transaction.commit().expect("the test's disk works");
    }

    /// The bytes of an entry.
    pub(super) fn bytes_at(&self, index: u64) -> Vec<u8> {
        let table = self.view().expect("the test's disk works").open_table(ENTRIES).expect("there");
        table.get(index).expect("the test's disk works").expect("there").value().to_vec()
    }
}

/// Writes a value of the `raft` table.
fn put<T: Serialize>(transaction: &WriteTransaction, key: &str, value: &T) -> Result<(), LogError> {
    let mut table = transaction.open_table(RAFT).map_err(disk)?;
    table.insert(key, codec::encode(value).as_slice()).map_err(disk)?;
    Ok(())
}

/// Writes the keys of trackers.
fn put_keys(transaction: &WriteTransaction, keys: &[(TrackerId, NodeId)]) -> Result<(), LogError> {
    let mut table = transaction.open_table(KEYS).map_err(disk)?;
    keys.iter().try_for_each(|(tracker, key)| table.insert(tracker, key.0.as_slice()).map(drop).map_err(disk))
}

/// Writes a log that begins behind this snapshot, in the place of what there is.
fn put_beginning(transaction: &WriteTransaction, meta: &SnapshotMeta, state: &State) -> Result<(), LogError> {
    transaction.delete_table(ENTRIES).map_err(disk)?;
    transaction.open_table(ENTRIES).map_err(disk)?;
    transaction.open_table(KEYS).map_err(disk)?;
    put_snapshot(transaction, meta, &state.encode())?;
    if let Some(last) = &meta.last_log_id {
        put(transaction, "purged", last)?;
        put(transaction, "vote", &Vote::new(last.leader_id.term, last.leader_id.node_id))?;
    }
    let mut table = transaction.open_table(META).map_err(disk)?;
    for key in ["snapshot", "last"] {
        table.remove(key).map_err(disk)?;
    }
    table.insert("next", meta.last_log_id.map_or(0, |last| last.index + 1)).map_err(disk)?;
    table.insert("format", FORMAT).map_err(disk)?;
    Ok(())
}

/// Writes a snapshot in the place of the one before.
fn put_snapshot(transaction: &WriteTransaction, meta: &SnapshotMeta, state: &[u8]) -> Result<(), LogError> {
    transaction.delete_table(SNAPSHOT).map_err(disk)?;
    let mut table = transaction.open_table(SNAPSHOT).map_err(disk)?;
    for (number, part) in (0u32..).zip(state.chunks(PART_BYTES)) {
        table.insert(number, part).map_err(disk)?;
    }
    put(transaction, "snapshot", meta)
}
