//! How files look: the stamp of a shared file, and the mark that tells a file from another of the same name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;

use super::record::FileMark;
use crate::engine::record::SourceStamp;

/// How a file looks now.
pub(super) fn stamp(metadata: &Metadata) -> SourceStamp {
    SourceStamp {
        length: metadata.size(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Whether a file looks as it did when it was stamped. Devices get new numbers when the machine starts or a disk is
/// plugged in again, which must not unshare thousands of files: length, time and inode decide.
pub(super) fn looks_like(metadata: &Metadata, stamped: &SourceStamp) -> bool {
    metadata.is_file() && same_but_device(&stamp(metadata), stamped)
}

/// Whether two stamps are of a file that looks the same.
pub(super) fn same_but_device(one: &SourceStamp, other: &SourceStamp) -> bool {
    SourceStamp { device: other.device, ..*one } == *other
}

/// What also changes when somebody sets the time of change back: compared over the minutes of a hashing.
pub(super) fn changed_ns(metadata: &Metadata) -> i128 {
    nanoseconds(metadata.ctime(), metadata.ctime_nsec())
}

/// Which file it is.
pub(super) fn mark(metadata: &Metadata) -> FileMark {
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    FileMark { inode: metadata.ino(), born_ns: born.and_then(|since| u64::try_from(since.as_nanos()).ok()) }
}

/// Whether it is the file or folder that was marked. A disk that keeps no time of birth is taken at its inode's word.
pub(super) fn is_marked(metadata: &Metadata, marked: &FileMark) -> bool {
    let now = mark(metadata);
    let born_equal = now.born_ns.is_none() || marked.born_ns.is_none() || now.born_ns == marked.born_ns;
    (metadata.is_file() || metadata.is_dir()) && now.inode == marked.inode && born_equal
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
