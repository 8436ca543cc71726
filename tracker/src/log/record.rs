//! An entry of the log as bytes.
//!
//! ```text
//! 0         1
//! +---------+---------------------+
//! | version |  Entry, postcard    |    version: u8, 1
//! +---------+---------------------+
//! ```
//!
//! Version 1: the first. The recording in `tests.rs` holds its bytes still.

use p2p_proto::codec::{self, CodecError};

use crate::state::Entry;

/// The version that is written.
const RECORD_VERSION: u8 = 1;

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a later version of the program, or not an entry.
    #[error("an entry of version {0} where this program knows version {RECORD_VERSION}")]
    Version(u8),
    /// No bytes at all.
    #[error("an empty entry")]
    Empty,
    /// Not an encoding of one.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The bytes of an entry.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![RECORD_VERSION];
    bytes.extend(codec::encode(entry));
    bytes
}

/// The entry that `bytes` hold.
pub(super) fn decode(bytes: &[u8]) -> Result<Entry, RecordError> {
    match bytes {
        [] => Err(RecordError::Empty),
        [RECORD_VERSION, body @ ..] => Ok(codec::decode(body)?),
        [version, ..] => Err(RecordError::Version(*version)),
    }
}
