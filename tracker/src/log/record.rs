//! A place of the log as bytes.
//!
//! ```text
//! 0         1
//! +---------+---------------------+    version: u8, 2; log entry: openraft's, of [`Types`](super::types::Types),
//! | version | log entry, postcard |    which holds the place, and either a batch of state entries, or who belongs
//! +---------+---------------------+    to the cluster, or nothing
//! ```
//!
//! Version 1: one state entry, of a tracker that could only be alone; read when such a log is taken over.
//! Version 2: openraft's. The recordings in `tests/` hold the bytes of both still, whatever openraft's version.

use p2p_proto::codec::{self, CodecError};

use super::types::LogEntry;
use crate::state::Entry;

/// The version that is written.
const VERSION: u8 = 2;

/// The version of a log that was not openraft's.
const VERSION_ALONE: u8 = 1;

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a later version of the program, or not an entry.
    #[error("an entry of version {0} where this program knows version {VERSION}")]
    Version(u8),
    /// No bytes at all.
    #[error("an empty entry")]
    Empty,
    /// Not an encoding of one.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// An entry in another's place.
    #[error("an entry that belongs to place {0}")]
    Place(u64),
}

/// The bytes of a place of the log.
pub(super) fn encode(entry: &LogEntry) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(codec::encode(entry));
    bytes
}

/// The entry that `bytes` hold, which stand at place `index`.
pub(super) fn decode(index: u64, bytes: &[u8]) -> Result<LogEntry, RecordError> {
    let entry: LogEntry = codec::decode(body(bytes, VERSION)?)?;
    if entry.log_id.index == index { Ok(entry) } else { Err(RecordError::Place(entry.log_id.index)) }
}

/// The state entry that a record of version 1 holds.
pub(super) fn decode_alone(bytes: &[u8]) -> Result<Entry, RecordError> {
    Ok(codec::decode(body(bytes, VERSION_ALONE)?)?)
}

fn body(bytes: &[u8], expected: u8) -> Result<&[u8], RecordError> {
    match bytes {
        [] => Err(RecordError::Empty),
        [version, body @ ..] if *version == expected => Ok(body),
        [version, ..] => Err(RecordError::Version(*version)),
    }
}
