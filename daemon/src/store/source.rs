//! Shared files: read where they lie, through a bounded number of descriptors, and never after they changed.
//!
//! What is compared is how the file looks: length, time and inode. Bytes changed and the time set back get past that, but
//! not past the inode's own time of change. That one changes with a mode or another name too, so it unshares nothing:
//! the pieces of a file that it does not vouch for are checked against their digests before they leave.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::ContentId;
use p2p_proto::limit::MANIFEST_BYTES_MAX;
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{ReadWriteFlags, preadv2};

use super::error::{Aim, io_reject, source_changed};
use super::folder_source::FolderSource;
use super::stamp;
use crate::engine::record::{Shape, SourceStamp};

/// Files kept open for serving. A process has 1,024 descriptors by default, and connections need theirs.
const OPEN_FILES_MAX: usize = 128;

/// Bytes of manifests kept for checking pieces: that of the longest file, or those of hundreds of the usual ones.
const MANIFESTS_BYTES_MAX: u64 = MANIFEST_BYTES_MAX;

/// A complete file that a content can be read from.
#[derive(Debug)]
pub(super) struct Source {
    number: u64,
    pub shape: Shape,
    pub path: PathBuf,
    pub stamp: SourceStamp,
    broken: OnceLock<Reject>,
    /// A piece of it was not what its digest says, however the file looks.
    damaged: AtomicBool,
    checked: Mutex<Checked>,
    /// Whether a folder stands under its path, once it has been looked at.
    is_folder: OnceLock<bool>,
    folder: FolderSource,
}

/// Pieces of a file that are known to be as they were hashed.
#[derive(Debug)]
struct Checked {
    /// The file's time of change that this holds for, nanoseconds since the Unix epoch.
    changed_ns: Option<i128>,
    /// All are: that was its time of change when it was hashed.
    all: bool,
    pieces: HaveMap,
}

impl Source {
    /// `hashed_ns`: its time of change when it was hashed, where this process did that.
    pub(super) fn new(shape: Shape, path: PathBuf, stamp: SourceStamp, hashed_ns: Option<i128>) -> Source {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let pieces = HaveMap::empty(shape.geometry().map_or(0, |geometry| geometry.piece_count()));
        Source {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            shape,
            path,
            stamp,
            broken: OnceLock::new(),
            damaged: AtomicBool::new(false),
            folder: FolderSource::new(pieces.clone()),
            checked: Mutex::new(Checked { changed_ns: hashed_ns, all: hashed_ns.is_some(), pieces }),
            is_folder: OnceLock::new(),
        }
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
    pub(super) fn give_up(&self, reason: &Reject) -> bool {
        self.broken.set(reason.clone()).is_ok()
    }

    /// Whether a file that is no longer served may be served again when it looks as it did.
    pub(super) fn may_come_back(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed)
    }

    /// A piece of it is not what its digest says: however the file looks, it does not come back by itself.
    pub(super) fn damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Looks at what stands under its path now, without opening it.
    /// `manifest` tells the files of a folder.
    pub(super) fn look(&self, manifest: impl FnOnce() -> Result<Manifest, Reject>) -> Result<(), Reject> {
        let error = |error: io::Error| io_reject(Aim::Read, "read", &self.path, &error);
        let metadata = std::fs::metadata(&self.path).map_err(error)?;
        match metadata.is_dir() {
            true => self.folder.look(&self.path, &self.stamp, manifest()?.files()),
            false => self.check(&metadata),
        }
    }

    /// Whether a folder stands under its path; asked of the disk once.
    fn is_folder(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(metadata) => *self.is_folder.get_or_init(|| metadata.is_dir()),
            Err(_) => false,
        }
    }

    /// Whether a piece is known to be right while the file has this time of change.
    fn is_checked(&self, piece: PieceIndex, changed_ns: i128) -> bool {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.changed_ns == Some(changed_ns) && (checked.all || checked.pieces.contains(piece))
    }

    /// A piece was found right.
    fn note_checked(&self, piece: PieceIndex, changed_ns: i128) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.changed_ns != Some(changed_ns) {
            let pieces = HaveMap::empty(checked.pieces.piece_count());
            *checked = Checked { changed_ns: Some(changed_ns), all: false, pieces };
        }
        checked.pieces.insert(piece);
    }

    /// Opens the file. Links are followed: whatever they lead to must look as it was stamped.
    fn open(&self) -> Result<File, Reject> {
        let file = open_readable(&self.path).map_err(|error| io_reject(Aim::Read, "read", &self.path, &error))?;
        self.check_open(&file)?;
        Ok(file)
    }

    /// Refuses an open file that does not look as it did; its time of change.
    fn check_open(&self, file: &File) -> Result<i128, Reject> {
        let metadata = file.metadata().map_err(|error| io_reject(Aim::Read, "look at", &self.path, &error))?;
        self.check(&metadata)?;
        Ok(stamp::changed_ns(&metadata))
    }

    /// Refuses a file that does not look as it did. One without a name any more was deleted or replaced.
    fn check(&self, metadata: &Metadata) -> Result<(), Reject> {
        if metadata.nlink() == 0 {
            return Err(source_changed(&self.path, "was deleted or replaced"));
        }
        if !stamp::looks_like(metadata, &self.stamp) {
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
pub(super) fn open_readable(path: &Path) -> io::Result<File> {
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
    /// Manifests that pieces were checked with last, the latest at the end.
    manifests: Mutex<Vec<(ContentId, Arc<Manifest>)>>,
}

#[derive(Debug, Default)]
struct Files {
    by_number: HashMap<u64, (Arc<File>, u64)>,
    clock: u64,
}

impl Pool {
    /// Reads a piece of a source into `buffer`, whose length becomes the piece's. `manifest` is awaited where the piece has
    /// to be checked.
    pub(super) async fn read(
        &self,
        source: &Arc<Source>,
        (content, piece): (ContentId, PieceIndex),
        range: Range<u64>,
        buffer: &mut Vec<u8>,
        manifest: impl Future<Output = Result<Manifest, Reject>>,
    ) -> Result<(), SourceError> {
        if let Some(reason) = source.broken() {
            return Err(SourceError::Failed(reason.clone()));
        }
        let read = async {
            if self.is_folder(source).await? {
                let manifest = self.manifest(content, manifest).await?;
                return self.read_folder(source, &manifest, piece, buffer).await;
            }
            let changed_ns = self.read_checked(source, range, buffer).await?;
            if changed_ns.is_some_and(|changed_ns| source.is_checked(piece, changed_ns)) {
                return Ok(());
            }
            if !self.manifest(content, manifest).await?.verify(piece, buffer) {
                source.damage();
                return Err(source_changed(&source.path, "has changed, with its time set back,"));
            }
            if let Some(changed_ns) = changed_ns {
                source.note_checked(piece, changed_ns);
            }
            Ok(())
        };
        read.await.map_err(|reason: Reject| {
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

    /// Whether a source is a folder; its first reader waits for the disk to say so.
    async fn is_folder(&self, source: &Arc<Source>) -> Result<bool, Reject> {
        match source.is_folder.get() {
            Some(is_folder) => Ok(*is_folder),
            None => {
                let source = Arc::clone(source);
                elsewhere(move || Ok(source.is_folder())).await
            }
        }
    }

    /// Reads a piece of a folder, on a thread that may wait: its files are opened for it and closed again. Where
    /// descriptors have run out, the pool gives up its own and tries once more.
    async fn read_folder(
        &self,
        source: &Arc<Source>,
        manifest: &Arc<Manifest>,
        piece: PieceIndex,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        for last in [false, true] {
            let (read_from, manifest, mut lent) = (Arc::clone(source), Arc::clone(manifest), mem::take(buffer));
            let read = elsewhere(move || {
                let right = read_from.folder.read(&read_from.path, &read_from.stamp, &manifest, piece, &mut lent);
                Ok((lent, right))
            });
            let (lent, right) = read.await?;
            *buffer = lent;
            match right {
                Err(reject) if reject.code == ErrorCode::BUSY && !last => self.files().by_number.clear(),
                right => {
                    return match right? {
                        true => Ok(()),
                        false => {
                            source.damage();
                            Err(source_changed(&source.path, "has changed, with its times set back,"))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    /// Reads from a file that looks as it did before and after; its time of change, if that stayed the same.
    async fn read_checked(
        &self,
        source: &Arc<Source>,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<i128>, Reject> {
        let file = match self.cached(source.number) {
            Some(file) => file,
            None => self.open(source).await?,
        };
        let before_ns = source.check_open(&file)?;
        read_exact(&file, range, buffer).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => source_changed(&source.path, "was cut short"),
            _ => io_reject(Aim::Read, "read", &source.path, &error),
        })?;
        let after_ns = source.check_open(&file)?;
        Ok((before_ns == after_ns).then_some(after_ns))
    }

    /// The manifest of a content, of which the last few are kept.
    async fn manifest(
        &self,
        content: ContentId,
        read: impl Future<Output = Result<Manifest, Reject>>,
    ) -> Result<Arc<Manifest>, Reject> {
        let kept = self.manifests().iter().find(|(of, _)| *of == content).map(|(_, manifest)| Arc::clone(manifest));
        if let Some(manifest) = kept {
            return Ok(manifest);
        }
        let manifest = Arc::new(read.await?);
        let mut kept = self.manifests();
        kept.push((content, Arc::clone(&manifest)));
        let digest_bytes = |manifest: &Manifest| manifest.hash().digest_bytes() as u64;
        let bytes = |(_, manifest): &(ContentId, Arc<Manifest>)| {
            u64::from(manifest.geometry().piece_count()) * digest_bytes(manifest)
        };
        while kept.len() > 1 && kept.iter().map(bytes).sum::<u64>() > MANIFESTS_BYTES_MAX {
            kept.remove(0);
        }
        Ok(manifest)
    }

    fn manifests(&self) -> MutexGuard<'_, Vec<(ContentId, Arc<Manifest>)>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a source; where descriptors have run out, the pool gives up its own and tries once more.
    async fn open(&self, source: &Arc<Source>) -> Result<Arc<File>, Reject> {
        let open = || {
            let source = Arc::clone(source);
            elsewhere(move || source.open())
        };
        let mut opened = open().await;
        if opened.as_ref().is_err_and(|reject| reject.code == ErrorCode::BUSY) {
            self.files().by_number.clear();
            opened = open().await;
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

/// Does work that may wait for the disk on a thread that may wait.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> Result<T, Reject> + Send + 'static) -> Result<T, Reject> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Reject::new(ErrorCode::INTERNAL, format!("reading a file failed: {error}"))))
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
