//! Recovery: pieces that were written and not marked before a crash are checked, and only those.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

use p2p_proto::have_map::HaveMap;
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::Reject;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::disk::Disk;
use super::error::{Aim, io_reject};
use super::laid_out::{FolderFiles, LaidOut};

/// What was found in a part file.
pub(super) struct Recovered {
    /// The pieces that were marked, and those that verified.
    pub durable: HaveMap,
    /// How many of them were not marked.
    pub found: u32,
    /// Bytes that were hashed for it.
    pub hashed_bytes: u64,
}

/// The durable pieces of a part file found again: `durable` as it was marked, and every other piece that lies wholly in
/// written parts of the file and has the right digest. `mark` keeps them before they are believed.
///
/// The file is synced first and its cached pages dropped, so that the hash sees what the disk holds: after a sync that
/// failed, the cache may show bytes that never arrived there.
pub(super) fn unmarked_pieces(
    files: &LaidOut,
    path: &Path,
    disk: &Disk,
    manifest: &Manifest,
    mut durable: HaveMap,
    mark: impl FnOnce(&HaveMap) -> Result<(), Reject>,
) -> Result<Recovered, Reject> {
    if durable.is_full() {
        return Ok(Recovered { durable, found: 0, hashed_bytes: 0 });
    }
    let geometry = manifest.geometry();
    files.sync_found(disk).map_err(|error| io_reject(Aim::Write, "sync", path, &error))?;
    let mut written = WrittenRanges::new(files, geometry.length());
    let mut buffer = Vec::new();
    let (mut hashed_bytes, mut found) = (0, 0u32);
    for piece in geometry.pieces() {
        let range = geometry.byte_range(piece);
        if durable.contains(piece) || !written.hold(&range) {
            continue;
        }
        let bytes = range.end - range.start;
        buffer.resize(bytes as usize, 0);
        // Where it is not taken, the sync above still holds.
        files.forget_cached(range.clone());
        hashed_bytes += bytes;
        // A piece that cannot be read is fetched again, and writing it may help the disk.
        if files.read_exact_at(&mut buffer, range.start).is_ok() && manifest.verify(piece, &buffer) {
            durable.insert(piece);
            found += 1;
        }
    }
    if found > 0 {
        mark(&durable)?;
    }
    Ok(Recovered { durable, found, hashed_bytes })
}

/// The written ranges of a content's files, walked forward.
enum WrittenRanges<'a> {
    File(Extents<&'a File>),
    /// Those of the file that was asked for last; `None` for one that cannot be opened.
    Folder(&'a FolderFiles, Option<(usize, Option<Extents<File>>)>),
}

impl WrittenRanges<'_> {
    fn new(files: &LaidOut, length: u64) -> WrittenRanges<'_> {
        match files {
            LaidOut::File(file) => WrittenRanges::File(Extents { file, length, current: 0..0 }),
            LaidOut::Folder(files) => WrittenRanges::Folder(files, None),
        }
    }

    /// Whether all of `range` is written; ranges must come in order.
    fn hold(&mut self, range: &Range<u64>) -> bool {
        let (files, last) = match self {
            WrittenRanges::File(extents) => return extents.hold(range),
            WrittenRanges::Folder(files, last) => (files, last),
        };
        files.table.segments(range.clone()).all(|segment| {
            if last.as_ref().is_none_or(|(nth, _)| *nth != segment.file) {
                let length = files.table.files().get(segment.file).map_or(0, |file| file.length);
                let extents = files.open(segment.file).ok().map(|file| Extents { file, length, current: 0..0 });
                *last = Some((segment.file, extents));
            }
            last.as_mut().and_then(|(_, extents)| extents.as_mut()).is_some_and(|extents| extents.hold(&segment.range))
        })
    }
}

/// The written ranges of a file, walked forward. Space set aside and never written counts as a hole.
struct Extents<F> {
    file: F,
    length: u64,
    current: Range<u64>,
}

impl<F: AsFd> Extents<F> {
    /// Whether all of `range` is written; ranges must come in order.
    fn hold(&mut self, range: &Range<u64>) -> bool {
        while self.current.end <= range.start && self.current.end < self.length {
            self.current = match seek(&self.file, SeekFrom::Data(self.current.end)) {
                Ok(start) => match seek(&self.file, SeekFrom::Hole(start)) {
                    Ok(end) if end > start => start..end,
                    _ => start..self.length,
                },
                // No more data behind here.
                Err(Errno::NXIO) => self.length..self.length,
                // The file system does not tell: everything may be data.
                Err(_) => self.current.end..self.length,
            };
        }
        self.current.start <= range.start && range.end <= self.current.end
    }
}
