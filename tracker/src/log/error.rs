//! Why the log cannot be used, and what the operator does about it.

use std::path::PathBuf;

use super::record::RecordError;
use super::storage::FORMAT;
use super::types::TrackerId;
use crate::state::SnapshotError;

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
    /// The thread that keeps the log ended without being asked to.
    #[error("the log's thread has died")]
    Died,
    /// The system gives no thread for the log.
    #[error("the log's thread cannot be started: {0}")]
    Thread(std::io::Error),
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
    /// Something else that cannot be read.
    #[error("`{what}` of the log cannot be read")]
    Unreadable {
        /// Its key.
        what: &'static str,
    },
    /// The snapshot cannot be read.
    #[error("the log's snapshot cannot be read: {0}")]
    Snapshot(#[from] SnapshotError),
    /// Entries were taken out that no snapshot holds.
    #[error("the log's snapshot lacks what was taken out of the log")]
    OldSnapshot,
    /// The folder is another tracker's.
    #[error("the log is of tracker {found} of its cluster, and this one was started as tracker {asked}")]
    OtherTracker {
        /// Whose it is.
        found: TrackerId,
        /// Which was asked for.
        asked: TrackerId,
    },
    /// It follows another tracker, of which it has nothing yet, and was started as one that is alone.
    #[error("the log is empty, since this tracker follows another one, and it was started without a list that has it")]
    Follows,
    /// openraft ended.
    #[error("the log has ended: {0}")]
    Ended(String),
}

impl LogError {
    /// What the operator does about it.
    pub fn hint(&self) -> &'static str {
        match self {
            LogError::Open { .. } | LogError::Folder { .. } => {
                "check that the state folder is writable and that no other program has it open"
            }
            LogError::Disk(_) => "check the disk and its free space, then start the tracker again",
            LogError::Died | LogError::Ended(_) | LogError::Thread(_) => {
                "start the tracker again; its log has the cause"
            }
            LogError::Format(_) => "start the version of the tracker that wrote it, or a later one",
            LogError::OtherTracker { .. } => {
                "start it with the number of its line in tracker_info.txt, or put its line back in that place"
            }
            LogError::Follows => {
                "start it with the tracker_info.txt that lists both; to begin something new, give it an empty folder"
            }
            LogError::Damaged { .. }
            | LogError::Missing(_)
            | LogError::Unexpected(_)
            | LogError::Entry { .. }
            | LogError::Unreadable { .. }
            | LogError::OldSnapshot
            | LogError::Snapshot(_) => {
                "nothing was changed; keep this state folder aside and start from a backup of it"
            }
        }
    }
}

/// Tells a file that is no database from one that cannot be reached.
pub(super) fn unopened(path: PathBuf, source: redb::DatabaseError) -> LogError {
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
pub(super) fn disk<E: Into<redb::Error>>(error: E) -> LogError {
    LogError::Disk(error.into())
}
