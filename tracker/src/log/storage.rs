//! The log on disk: one redb database, `log.redb`, in the state folder.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | 1 |
//! | | `snapshot` | index of the last entry that the snapshot holds, 0 for none |
//! | | `last` | index of the last entry written, 0 for none |
//! | `entries` | index, from 1 | an entry ([`super::record`]) |
//! | `snapshot` | number of the part, from 0 | up to 1 MiB of the encoded state ([`State::encode`]), one part behind the other |
//!
//! `entries` holds every index from `snapshot + 1` to `last`, and nothing else. Every change is one transaction that is on
//! disk when it is answered: either entries and `last`, or a snapshot with the removal of all entries that it holds.
//! A folder that does not fit this description is refused at the start, never repaired.

use std::path::{Path, PathBuf};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition, WriteTransaction,
};

use super::record::{self, RecordError};
use crate::state::{Entry, SnapshotError, State};

/// Name of the database in the state folder.
pub const FILE_NAME: &str = "log.redb";

/// The format that is written. 1: the first.
const FORMAT: u64 = 1;

/// Bytes of one part of a snapshot: the database keeps a value in one run of pages.
const PART_BYTES: usize = 1024 * 1024;

/// Memory for the database's pages, in bytes: entries are written once and read only at the start.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const SNAPSHOT: TableDefinition<u32, &[u8]> = TableDefinition::new("snapshot");

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database cannot be opened.
    #[error("the log {path} cannot be opened: {source}")]
    Open {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: redb::DatabaseError,
    },
    /// The file is not a database, or a broken one.
    #[error("the log {path} is damaged: {source}")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: redb::DatabaseError,
    },
    /// The thread that writes the log ended without being asked to.
    #[error("the log's thread has died")]
    Died,
    /// The folder cannot be made sure of.
    #[error("the folder {path} cannot be synced: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Reading or writing failed. After a failed write nobody knows what is on disk.
    #[error("the log's disk failed: {0}")]
    Disk(#[from] redb::Error),
    /// A database, but of another format.
    #[error("the log has format {0} and this program knows format {FORMAT}")]
    Format(u64),
    /// An entry that must be there is not.
    #[error("the log lacks entry {0}")]
    Missing(u64),
    /// An entry that must not be there is.
    #[error("the log has an entry {0} beyond its last")]
    Unexpected(u64),
    /// An entry that cannot be read.
    #[error("entry {index} of the log cannot be read: {source}")]
    Entry {
        /// Which entry.
        index: u64,
        /// Why not.
        source: RecordError,
    },
    /// The snapshot cannot be read.
    #[error("the log's snapshot cannot be read: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl LogError {
    /// What the operator does about it.
    pub fn hint(&self) -> &'static str {
        match self {
            LogError::Open { .. } | LogError::Folder { .. } => {
                "check that the state folder is writable and that no other program has it open"
            }
            LogError::Disk(_) => "check the disk and its free space, then start the tracker again",
            LogError::Died => "start the tracker again; its log has the cause",
            LogError::Format(_) => "start the version of the tracker that wrote it, or a later one",
            LogError::Damaged { .. }
            | LogError::Missing(_)
            | LogError::Unexpected(_)
            | LogError::Entry { .. }
            | LogError::Snapshot(_) => {
                "nothing was changed; keep this state folder aside and start from a backup of it"
            }
        }
    }
}

/// Tells a file that is no database from one that cannot be reached.
fn unopened(path: PathBuf, source: redb::DatabaseError) -> LogError {
    use redb::{DatabaseError, StorageError};
    match &source {
        DatabaseError::Storage(StorageError::Corrupted(_)) => LogError::Damaged { path, source },
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            LogError::Damaged { path, source }
        }
        _ => LogError::Open { path, source },
    }
}

/// Turns each of redb's errors into [`LogError::Disk`].
fn disk<E: Into<redb::Error>>(error: E) -> LogError {
    LogError::Disk(error.into())
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// What the disk held at the start.
#[derive(Debug)]
pub struct Recovered {
    /// The state after the last entry.
    pub state: State,
    /// Index of the last entry.
    pub last: u64,
    /// Index of the last entry in the snapshot.
    pub snapshot: u64,
}

impl Store {
    /// Opens the database in `folder`, or makes it.
    pub fn open(folder: &Path) -> Result<Store, LogError> {
        let path = folder.join(FILE_NAME);
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|source| unopened(path, source))?;
        let store = Store { database };
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
        let store = Store { database };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables of a new database; refuses another format.
    fn prepare(&self) -> Result<(), LogError> {
        let transaction = self.begin()?;
        {
            let mut meta = transaction.open_table(META).map_err(disk)?;
            let found = meta.get("format").map_err(disk)?.map(|format| format.value());
            match found {
                Some(FORMAT) => return Ok(()),
                Some(format) => return Err(LogError::Format(format)),
                None => {}
            }
            for (key, value) in [("format", FORMAT), ("snapshot", 0), ("last", 0)] {
                meta.insert(key, value).map_err(disk)?;
            }
            transaction.open_table(ENTRIES).map_err(disk)?;
            transaction.open_table(SNAPSHOT).map_err(disk)?;
        }
        transaction.commit().map_err(disk)
    }

    /// A transaction that is on disk once it is committed.
    fn begin(&self) -> Result<WriteTransaction, LogError> {
        let mut transaction = self.database.begin_write().map_err(disk)?;
        transaction.set_durability(Durability::Immediate).map_err(disk)?;
        // After a kill the next start takes the allocator's state from the file rather than walking all of it.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Reads the snapshot and applies all entries behind it.
    pub fn recover(&self) -> Result<Recovered, LogError> {
        let transaction = self.database.begin_read().map_err(disk)?;
        let meta = transaction.open_table(META).map_err(disk)?;
        let number =
            |key| -> Result<u64, LogError> { Ok(meta.get(key).map_err(disk)?.map_or(0, |value| value.value())) };
        let (snapshot, last) = (number("snapshot")?, number("last")?);
        let mut bytes = Vec::new();
        for part in transaction.open_table(SNAPSHOT).map_err(disk)?.iter().map_err(disk)? {
            bytes.extend_from_slice(part.map_err(disk)?.1.value());
        }
        let mut state = if snapshot == 0 { State::default() } else { State::decode(&bytes)? };
        let mut next = snapshot + 1;
        for row in transaction.open_table(ENTRIES).map_err(disk)?.iter().map_err(disk)? {
            let (index, bytes) = row.map_err(disk)?;
            let index = index.value();
            if index < next || index > last {
                return Err(LogError::Unexpected(index));
            }
            if index > next {
                return Err(LogError::Missing(next));
            }
            let entry = record::decode(bytes.value()).map_err(|source| LogError::Entry { index, source })?;
            state.apply(&entry);
            next += 1;
        }
        if next <= last {
            return Err(LogError::Missing(next));
        }
        Ok(Recovered { state, last, snapshot })
    }

    /// Writes entries behind `last`, all or none, and returns once they are on disk.
    pub fn append<'a>(&self, last: u64, entries: impl Iterator<Item = &'a Entry>) -> Result<u64, LogError> {
        let transaction = self.begin()?;
        let mut index = last;
        {
            let mut table = transaction.open_table(ENTRIES).map_err(disk)?;
            for entry in entries {
                index += 1;
                table.insert(index, record::encode(entry).as_slice()).map_err(disk)?;
            }
            transaction.open_table(META).map_err(disk)?.insert("last", index).map_err(disk)?;
        }
        transaction.commit().map_err(disk)?;
        Ok(index)
    }

    /// Replaces the snapshot by this state, which holds all entries up to `last`, and takes the entries out.
    pub fn write_snapshot(&self, state: &[u8], last: u64) -> Result<(), LogError> {
        let transaction = self.begin()?;
        transaction.delete_table(SNAPSHOT).map_err(disk)?;
        transaction.delete_table(ENTRIES).map_err(disk)?;
        {
            transaction.open_table(ENTRIES).map_err(disk)?;
            let mut table = transaction.open_table(SNAPSHOT).map_err(disk)?;
            for (number, part) in (0u32..).zip(state.chunks(PART_BYTES)) {
                table.insert(number, part).map_err(disk)?;
            }
            transaction.open_table(META).map_err(disk)?.insert("snapshot", last).map_err(disk)?;
        }
        transaction.commit().map_err(disk)
    }

    /// Lets a test put anything in place of an entry, or take it out.
    #[cfg(test)]
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
    #[cfg(test)]
    pub(super) fn tamper_meta(&self, key: &str, value: u64) {
        let transaction = self.begin().expect("the test's disk works");
        transaction.open_table(META).expect("there").insert(key, value).expect("written");
        transaction.commit().expect("the test's disk works");
    }
}
