//! Recovery: pieces that were written and not marked before a crash are checked, and only those.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use p2p_proto::have_map::HaveMap;
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::Reject;
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;

use super::disk::Disk;
use super::error::{Aim, io_reject};

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
    file: &File,
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
    disk.sync_data(file).map_err(|error| io_reject(Aim::Write, "sync", path, &error))?;
    let mut extents = Extents { file, length: geometry.length(), current: 0..0 };
    let mut buffer = Vec::new();
    let (mut hashed_bytes, mut found) = (0, 0u32);
    for piece in geometry.pieces() {
        let range = geometry.byte_range(piece);
        if durable.contains(piece) || !extents.hold(&range) {
            continue;
        }
        let bytes = range.end - range.start;
        buffer.resize(bytes as usize, 0);
        // Advice: where it is not taken, the sync above still holds.
        let _ = fadvise(file, range.start, bytes.try_into().ok(), Advice::DontNeed);
        hashed_bytes += bytes;
        // A piece that cannot be read is fetched again, and writing it may help the disk.
        if file.read_exact_at(&mut buffer, range.start).is_ok() && manifest.verify(piece, &buffer) {
            durable.insert(piece);
            found += 1;
        }
    }
    if found > 0 {
        mark(&durable)?;
    }
    Ok(Recovered { durable, found, hashed_bytes })
}

/// The written ranges of a file, walked forward. Space set aside and never written counts as a hole.
struct Extents<'a> {
    file: &'a File,
    length: u64,
    current: Range<u64>,
}

impl Extents<'_> {
    /// Whether all of `range` is written; ranges must come in order.
    fn hold(&mut self, range: &Range<u64>) -> bool {
        while self.current.end <= range.start && self.current.end < self.length {
            self.current = match seek(self.file, SeekFrom::Data(self.current.end)) {
                Ok(start) => match seek(self.file, SeekFrom::Hole(start)) {
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
