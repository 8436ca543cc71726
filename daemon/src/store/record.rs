//! The journal's records as bytes: a version, then postcard. FORMAT.md draws them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use p2p_proto::codec;
use p2p_proto::control::RateLimits;
use p2p_proto::id::{ContentId, RequestId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::time::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::record::{Account, DownloadRecord, PublicationRecord, Shape, ShareRecord, SourceStamp};

/// The version that is written of most records, and the newest that is read of them. Version 1: the first.
const RECORD_VERSION: u8 = 1;

/// The version that is written of shares, and the newest that is read. Version 2: whether it rests stands behind what
/// version 1 is. Version 3: behind that, when its group was born.
const SHARE_VERSION: u8 = 3;
const SHARE_WITHOUT_BIRTH: u8 = 2;

/// The version that is written of downloads, and the newest that is read. Version 2: when its group was born stands behind
/// what version 1 is. Version 3, for files picked from a folder alone: behind that, which.
const DOWNLOAD_VERSION: u8 = 2;
const DOWNLOAD_OF_SOME: u8 = 3;

/// What the journal knows of a download's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    /// What is to become of it.
    pub content: ContentId,
    /// How that divides.
    pub shape: Shape,
    /// The part file; `None` from before it is made until it is known which it is.
    pub file: Option<FileMark>,
    /// How the finished file looked when it came into its place.
    pub in_place: Option<SourceStamp>,
}

/// Which file on its disk. A deleted file's number is given again, hence the time of birth where the disk keeps one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    /// Its number. Not its device: that changes over a restart of the machine.
    pub inode: u64,
    /// When it was made, nanoseconds since the Unix epoch.
    pub born_ns: Option<u64>,
}

/// Why bytes from the journal are not a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Nothing there.
    #[error("an empty record")]
    Empty,
    /// Of a version that is not known here.
    #[error("a record of version {0}, which is not known")]
    Version(u8),
    /// Not what the version says.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

/// A record with its path beside it as bytes: a path need not be UTF-8, which the record's own encoding would refuse.
#[derive(Serialize, Deserialize)]
struct WithPath<T> {
    record: T,
    path: Vec<u8>,
}

pub(super) fn encode_share(share: &ShareRecord) -> Vec<u8> {
    let record = ShareRecord { path: PathBuf::new(), ..share.clone() };
    encode(SHARE_VERSION, &(WithPath { record, path: path_bytes(&share.path) }, share.resting, share.born))
}

pub(super) fn decode_share(bytes: &[u8]) -> Result<ShareRecord, RecordError> {
    let (stored, resting, born): (WithPath<ShareRecord>, bool, Option<UnixMillis>) = match version(bytes)? {
        (SHARE_VERSION, record) => codec::decode(record)?,
        (SHARE_WITHOUT_BIRTH, record) => {
            let (stored, resting) = codec::decode(record)?;
            (stored, resting, None)
        }
        _ => (decode(bytes)?, false, None),
    };
    Ok(ShareRecord { path: bytes_path(stored.path), resting, born, ..stored.record })
}

pub(super) fn encode_download(download: &DownloadRecord) -> Vec<u8> {
    let record = DownloadRecord { destination: PathBuf::new(), ..download.clone() };
    let stored = WithPath { record, path: path_bytes(&download.destination) };
    match &download.only {
        None => encode(DOWNLOAD_VERSION, &(stored, download.born)),
        Some(only) => {
            encode(DOWNLOAD_OF_SOME, &(stored, download.born, only, (download.wanted_bytes, download.wanted_pieces)))
        }
    }
}

pub(super) fn decode_download(bytes: &[u8]) -> Result<DownloadRecord, RecordError> {
    let (stored, born, some): (WithPath<DownloadRecord>, Option<UnixMillis>, _) = match version(bytes)? {
        (DOWNLOAD_OF_SOME, record) => {
            let (stored, born, only, wanted) = codec::decode(record)?;
            (stored, born, (Some(only), wanted))
        }
        (DOWNLOAD_VERSION, record) => {
            let (stored, born) = codec::decode(record)?;
            (stored, born, (None, (None, None)))
        }
        _ => (decode(bytes)?, None, (None, (None, None))),
    };
    let (only, (wanted_bytes, wanted_pieces)) = some;
    Ok(DownloadRecord {
        destination: bytes_path(stored.path),
        born,
        only,
        wanted_bytes,
        wanted_pieces,
        ..stored.record
    })
}

/// The share's record stands in it whole, with its own version.
pub(super) fn encode_publication(publication: &PublicationRecord) -> Vec<u8> {
    let PublicationRecord { share, replace, request, files } = publication;
    encode(RECORD_VERSION, &(encode_share(share), replace, request, files))
}

pub(super) fn decode_publication(bytes: &[u8]) -> Result<PublicationRecord, RecordError> {
    let (share, replace, request, files): (Vec<u8>, bool, RequestId, Option<u32>) = decode(bytes)?;
    Ok(PublicationRecord { share: decode_share(&share)?, replace, request, files })
}

pub(super) fn encode_account(account: &Account) -> Vec<u8> {
    encode(RECORD_VERSION, account)
}

pub(super) fn decode_account(bytes: &[u8]) -> Result<Account, RecordError> {
    decode(bytes)
}

pub(super) fn encode_limits(limits: RateLimits) -> Vec<u8> {
    encode(RECORD_VERSION, &limits)
}

pub(super) fn decode_limits(bytes: &[u8]) -> Result<RateLimits, RecordError> {
    decode(bytes)
}

pub(super) fn encode_part(part: &PartRecord) -> Vec<u8> {
    encode(RECORD_VERSION, part)
}

pub(super) fn decode_part(bytes: &[u8]) -> Result<PartRecord, RecordError> {
    decode(bytes)
}

/// The key of a share: the three names with NUL between them, which no name holds.
pub(super) fn share_key(user: &UserName, group: &GroupName, name: &FileName) -> Vec<u8> {
    [user.key().as_str(), group.key().as_str(), name.as_str()].join("\0").into_bytes()
}

fn encode<T: Serialize>(version: u8, record: &T) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend(codec::encode(record));
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match version(bytes)? {
        (RECORD_VERSION, record) => Ok(codec::decode(record)?),
        (version, _) => Err(RecordError::Version(version)),
    }
}

/// A record's version, and its bytes behind that.
fn version(bytes: &[u8]) -> Result<(u8, &[u8]), RecordError> {
    bytes.split_first().map(|(version, record)| (*version, record)).ok_or(RecordError::Empty)
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
