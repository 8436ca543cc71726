//! Shared files: read where they lie, through a bounded number of descriptors, and never after they changed.
//!
//! What is compared is how the file looks. Bytes changed without a trace in length, time and inode get past that; the
//! receiver, who checks every piece, does not take them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use p2p_proto::geometry::PieceIndex;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{ReadWriteFlags, preadv2};

use super::error::{Aim, io_reject, source_changed};
use super::stamp;
use crate::engine::record::{Shape, SourceStamp};

/// Files kept open for serving. A process has 1,024 descriptors by default, and connections need theirs.
const OPEN_FILES_MAX: usize = 128;

/// A complete file that a content can be read from.
#[derive(Debug)]
pub(super) struct Source {
    number: u64,
    pub shape: Shape,
    pub path: PathBuf,
    pub stamp: SourceStamp,
    broken: OnceLock<Reject>,
}

impl Source {
    pub(super) fn new(shape: Shape, path: PathBuf, stamp: SourceStamp) -> Source {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Source { number: NEXT.fetch_add(1, Ordering::Relaxed), shape, path, stamp, broken: OnceLock::new() }
    }

    /// Where a piece lies in it; `None` for one that does not exist.
    pub(super) fn range_of(&self, piece: PieceIndex) -> Option<Range<u64>> {
        let geometry = self.shape.geometry().ok()?;
        geometry.piece(piece.0).map(|piece| geometry.byte_range(piece))
    }

    /// Why it is no longer served.
    pub(super) fn broken(&self) -> Option<&Reject> {
        self.broken.get()
    }

    /// Notes why it is no longer served; true the first time.
    fn give_up(&self, reason: &Reject) -> bool {
        self.broken.set(reason.clone()).is_ok()
    }

    /// Opens the file. Links are followed: whatever they lead to must look as it was stamped.
    fn open(&self) -> Result<File, Reject> {
        let file = open_readable(&self.path).map_err(|error| io_reject(Aim::Read, "read", &self.path, &error))?;
        self.check(&file)?;
        Ok(file)
    }

    /// Refuses a file that does not look as it did. One without a name any more was deleted or replaced.
    fn check(&self, file: &File) -> Result<(), Reject> {
        let metadata = file.metadata().map_err(|error| io_reject(Aim::Read, "look at", &self.path, &error))?;
        if metadata.nlink() == 0 {
            return Err(source_changed(&self.path, "was deleted or replaced"));
        }
        if !stamp::looks_like(&metadata, &self.stamp) {
            return Err(source_changed(&self.path, "has changed"));
        }
        Ok(())
    }
}

/// Opens a regular file of the user's, and tells its path without links: one is followed here, as the user means it. Looked
/// at before it is opened, since opening a device can do things.
pub(super) fn open_regular(path: &Path) -> Result<(PathBuf, File), Reject> {
    let error = |error: io::Error| io_reject(Aim::Read, "read", path, &error);
    let real = fs::canonicalize(path).map_err(error)?;
    refuse_others(path, &fs::metadata(&real).map_err(error)?)?;
    let file = open_readable(&real).map_err(error)?;
    refuse_others(path, &file.metadata().map_err(error)?)?;
    Ok((real, file))
}

fn refuse_others(path: &Path, metadata: &fs::Metadata) -> Result<(), Reject> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
    Err(Reject::new(ErrorCode::NOT_A_FILE, format!("{} is {what}", path.display())))
}

/// Opens a file for reading without waiting for the other end of a fifo, and without a terminal taking control.
fn open_readable(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// How a read of a source went wrong.
pub(super) enum SourceError {
    /// It is no longer served from now on: told the first time.
    GoneNow(Reject),
    /// This read failed, or it was no longer served before.
    Failed(Reject),
}

/// The open sources.
#[derive(Debug, Default)]
pub(super) struct Pool {
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    by_number: HashMap<u64, (Arc<File>, u64)>,
    clock: u64,
}

impl Pool {
    /// Reads `range` of a source into `buffer`, whose length becomes that of the range.
    pub(super) async fn read(
        &self,
        source: &Arc<Source>,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        if let Some(reason) = source.broken() {
            return Err(SourceError::Failed(reason.clone()));
        }
        self.read_checked(source, range, buffer).await.map_err(|reason| {
            buffer.clear();
            self.close(source);
            let gone = matches!(
                reason.code,
                ErrorCode::SOURCE_CHANGED
                    | ErrorCode::FILE_MISSING
                    | ErrorCode::FILE_UNREADABLE
                    | ErrorCode::NOT_A_FILE
            );
            if gone && source.give_up(&reason) { SourceError::GoneNow(reason) } else { SourceError::Failed(reason) }
        })
    }

    async fn read_checked(&self, source: &Arc<Source>, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<(), Reject> {
        let file = match self.cached(source.number) {
            Some(file) => file,
            None => self.open(source).await?,
        };
        source.check(&file)?;
        read_exact(&file, range, buffer).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => source_changed(&source.path, "was cut short"),
            _ => io_reject(Aim::Read, "read", &source.path, &error),
        })?;
        source.check(&file)
    }

    /// Opens a source; where descriptors have run out, the pool gives up its own and tries once more.
    async fn open(&self, source: &Arc<Source>) -> Result<Arc<File>, Reject> {
        let mut opened = open_elsewhere(Arc::clone(source)).await;
        if opened.as_ref().is_err_and(|reject| reject.code == ErrorCode::BUSY) {
            self.files().by_number.clear();
            opened = open_elsewhere(Arc::clone(source)).await;
        }
        let file = Arc::new(opened?);
        let mut files = self.files();
        if files.by_number.len() >= OPEN_FILES_MAX {
            let oldest = files.by_number.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            oldest.and_then(|number| files.by_number.remove(&number));
        }
        files.clock += 1;
        let now = files.clock;
        files.by_number.insert(source.number, (Arc::clone(&file), now));
        Ok(file)
    }

    fn cached(&self, number: u64) -> Option<Arc<File>> {
        let mut files = self.files();
        files.clock += 1;
        let now = files.clock;
        let (file, used) = files.by_number.get_mut(&number)?;
        *used = now;
        Some(Arc::clone(file))
    }

    /// Closes a source's file.
    pub(super) fn close(&self, source: &Source) {
        self.files().by_number.remove(&source.number);
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open_elsewhere(source: Arc<Source>) -> Result<File, Reject> {
    let opened = tokio::task::spawn_blocking(move || source.open()).await;
    opened.unwrap_or_else(|error| Err(Reject::new(ErrorCode::INTERNAL, format!("opening a file failed: {error}"))))
}

/// Reads `range` of a file into `buffer`, whose length becomes that of the range.
///
/// What the page cache holds is copied at once, on this thread: that takes less time than handing over to another. Where
/// the kernel would have to wait for the disk, a thread for such work waits instead.
pub(super) async fn read_exact(file: &Arc<File>, range: Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
    // Not cleared first: a buffer that is used again is already of this length, and not zeroed again.
    buffer.resize(usize::try_from(range.end - range.start).map_err(io::Error::other)?, 0);
    let done = read_cached(file, range.start, buffer);
    if done == buffer.len() {
        return Ok(());
    }
    let file = Arc::clone(file);
    let mut lent = mem::take(buffer);
    let reading = tokio::task::spawn_blocking(move || {
        let result = file.read_exact_at(&mut lent[done..], range.start + done as u64);
        (lent, result)
    });
    let (lent, result) = reading.await.map_err(io::Error::other)?;
    *buffer = lent;
    result
}

/// Reads what is there without waiting; how many bytes that were.
fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> usize {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut [io::IoSliceMut::new(&mut buffer[done..])];
        match preadv2(file, rest, offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => done += bytes,
        }
    }
    done
}
