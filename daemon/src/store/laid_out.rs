//! Laid-out files: where the bytes of a part lie, in one file or, one behind the other, in the files of a folder.
//!
//! A folder's files are opened when they are needed, by their paths beneath the folder's handle: of ten thousand, a few are
//! open at a time.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p2p_proto::folder::{FileTable, FolderFile, Segment};
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::disk::Disk;
use super::folder::Folder;
use super::source;
use crate::engine::pick::Pick;

/// Written files of one folder that are kept open until they are synced. With more of them the file system is synced as a
/// whole, which is one call for thousands of small files.
const WRITTEN_FILES_MAX: usize = 16;

/// What others may do with the files of a folder before the user's mask is applied. The folder itself is closed until it is
/// complete.
const FILE_MODE: u32 = 0o666;
const EXECUTABLE_MODE: u32 = 0o777;
const FOLDER_MODE: u32 = 0o777;

/// The files of a part.
#[derive(Debug, Clone)]
pub(super) enum LaidOut {
    /// The content is this file.
    File(Arc<File>),
    /// It is the files of a folder.
    Folder(Arc<FolderFiles>),
}

impl LaidOut {
    /// Writes all of `bytes` at `offset` of the content.
    pub(super) fn write_at(&self, disk: &Disk, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            LaidOut::File(file) => disk.write_at(file, bytes, offset),
            LaidOut::Folder(files) => files.write_at(bytes, offset),
        }
    }

    /// Fills `buffer` from `offset` of the content. Blocks.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            LaidOut::File(file) => file.read_exact_at(buffer, offset),
            LaidOut::Folder(files) => files.read_exact_at(buffer, offset),
        }
    }

    /// Reads a range of the content into `buffer`, whose length becomes that of the range.
    pub(super) async fn read_exact(&self, range: Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let files = match self {
            LaidOut::File(file) => return source::read_exact(file, range, buffer).await,
            LaidOut::Folder(files) => Arc::clone(files),
        };
        buffer.resize(usize::try_from(range.end - range.start).map_err(io::Error::other)?, 0);
        let mut lent = std::mem::take(buffer);
        let reading = tokio::task::spawn_blocking(move || {
            let result = files.read_exact_at(&mut lent, range.start);
            (lent, result)
        });
        let (lent, result) = reading.await.map_err(io::Error::other)?;
        *buffer = lent;
        result
    }

    /// Makes what is written survive a power cut.
    pub(super) fn sync_data(&self, disk: &Disk) -> io::Result<()> {
        match self {
            LaidOut::File(file) => disk.sync_data(file),
            LaidOut::Folder(files) => files.sync_written(),
        }
    }

    /// The same for a part that is found again, of which nobody knows what was written.
    pub(super) fn sync_found(&self, disk: &Disk) -> io::Result<()> {
        match self {
            LaidOut::File(file) => disk.sync_data(file),
            LaidOut::Folder(files) => files.folder.sync_beneath(),
        }
    }

    /// Drops a range of the content from the page cache, so that who reads it sees the disk. Advice: it need not be taken.
    pub(super) fn forget_cached(&self, range: Range<u64>) {
        match self {
            LaidOut::File(file) => {
                let _ = fadvise(file, range.start, (range.end - range.start).try_into().ok(), Advice::DontNeed);
            }
            LaidOut::Folder(files) => {
                for Segment { file, range } in files.table.segments(range) {
                    if let Ok(file) = files.open_to_read(file) {
                        let _ =
                            fadvise(&file, range.start, (range.end - range.start).try_into().ok(), Advice::DontNeed);
                    }
                }
            }
        }
    }

    /// Bytes that the disk has not set aside yet, of `length`.
    pub(super) fn unallocated_bytes(&self, length: u64) -> u64 {
        match self {
            LaidOut::File(file) => {
                let allocated = file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
                length.saturating_sub(allocated)
            }
            LaidOut::Folder(files) => files.unallocated_bytes.load(Ordering::Relaxed),
        }
    }

    /// How the file, or the folder itself, looks.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            LaidOut::File(file) => file.metadata(),
            LaidOut::Folder(files) => files.folder.metadata(),
        }
    }
}

/// The files of a folder that is being made.
#[derive(Debug)]
pub(super) struct FolderFiles {
    pub folder: Folder,
    pub table: Arc<FileTable>,
    pick: Option<Arc<Pick>>,
    written: Mutex<Written>,
    /// What the disk has not set aside yet.
    unallocated_bytes: AtomicU64,
}

/// Files that were written to and not synced.
#[derive(Debug, Default)]
struct Written {
    /// Still open: the system tells who has a file open that writing it back failed.
    open: Vec<(usize, Arc<File>)>,
    /// There were more.
    more: bool,
}

impl FolderFiles {
    /// `pick`: the files that are wanted, where not all are.
    pub(super) fn new(folder: Folder, table: Arc<FileTable>, pick: Option<Arc<Pick>>) -> FolderFiles {
        FolderFiles { folder, table, pick, written: Mutex::default(), unallocated_bytes: AtomicU64::new(0) }
    }

    /// The files that are not there with their lengths, of all that are laid out, or of those that are wanted in the end.
    pub(super) fn missing(&self, in_the_end: bool) -> io::Result<Vec<usize>> {
        let pick = self.pick.as_deref();
        let counts = |nth: &usize| pick.is_none_or(|pick| if in_the_end { pick.picked[*nth] } else { pick.laid[*nth] });
        let (mut missing, mut unallocated, mut places) = (Vec::new(), 0u64, Places::new(&self.folder));
        for (nth, file) in self.table.files().iter().enumerate().filter(|(nth, _)| counts(nth)) {
            let (folder, name) = file.path.split();
            let found = match places.folder(folder) {
                Ok(folder) => folder.look(name.as_ref())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            match found.filter(|found| found.is_file() && found.len() == file.length) {
                Some(found) => unallocated += file.length.saturating_sub(found.blocks().saturating_mul(512)),
                None => missing.push(nth),
            }
        }
        self.unallocated_bytes.store(unallocated, Ordering::Relaxed);
        Ok(missing)
    }

    /// Makes these files in their full lengths, with space set aside, and the folders that they lie in, and syncs them. What
    /// stands under a name of theirs goes.
    pub(super) fn make(&self, files: &[usize]) -> io::Result<()> {
        let (mut made, mut places) = (HashSet::new(), Places::new(&self.folder));
        for file in files.iter().filter_map(|nth| self.table.files().get(*nth)) {
            for path in file.path.folders() {
                if !made.insert(path) {
                    continue;
                }
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                match places.folder(parent)?.create_folder(name.as_ref(), FOLDER_MODE) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    created => created?,
                }
            }
            let (folder, name) = file.path.split();
            self.make_file(&places.folder(folder)?, name, file)?;
        }
        self.folder.sync_beneath()?;
        self.missing(false).map(drop)
    }

    /// Removes the files that are laid out and not wanted, and folders that then hold nothing.
    pub(super) fn remove_unwanted(&self) -> io::Result<()> {
        let Some(pick) = self.pick.as_deref() else { return Ok(()) };
        remove_from(&self.folder, &self.table, |nth| pick.laid[nth] && !pick.picked[nth])
    }

    fn make_file(&self, folder: &Folder, name: &str, file: &FolderFile) -> io::Result<()> {
        if folder.look(name.as_ref())?.is_some() {
            folder.remove(name.as_ref())?;
        }
        let mode = if file.executable { EXECUTABLE_MODE } else { FILE_MODE };
        let made = folder.create(name.as_ref(), mode)?;
        if file.length > 0 {
            folder.disk().set_length(&made, 0, file.length)?;
        }
        Ok(())
    }

    /// Opens a file that may be one that nobody can write.
    fn open_to_read(&self, file: usize) -> io::Result<File> {
        let file = self.table.files().get(file).ok_or(Errno::NOENT)?;
        self.folder.open_to_read_beneath(file.path.as_str().as_ref())
    }

    /// Opens a file for reading and writing.
    pub(super) fn open(&self, file: usize) -> io::Result<File> {
        let file = self.table.files().get(file).ok_or(Errno::NOENT)?;
        self.folder.open_file_beneath(file.path.as_str().as_ref())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut rest = bytes;
        for Segment { file, range } in self.table.segments(offset..offset + bytes.len() as u64) {
            let (part, behind) = rest.split_at(rest.len().min((range.end - range.start) as usize));
            rest = behind;
            let kept = self.written().open.iter().find(|(nth, _)| *nth == file).map(|(_, open)| Arc::clone(open));
            let open = match kept {
                Some(open) => open,
                None => Arc::new(self.open(file)?),
            };
            self.folder.disk().write_at(&open, part, range.start)?;
            // Noted behind the write: a sync that runs meanwhile may not have seen it, the next one does.
            let mut written = self.written();
            if !written.open.iter().any(|(nth, _)| *nth == file) {
                if written.open.len() < WRITTEN_FILES_MAX {
                    written.open.push((file, open));
                } else {
                    written.more = true;
                }
            }
        }
        let _ = self
            .unallocated_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes.len() as u64)));
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = &mut *buffer;
        for Segment { file, range } in self.table.segments(offset..offset + rest.len() as u64) {
            let (part, behind) = rest.split_at_mut((range.end - range.start) as usize);
            self.open_to_read(file)?.read_exact_at(part, range.start)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn sync_written(&self) -> io::Result<()> {
        let Written { open, more } = std::mem::take(&mut *self.written());
        if more {
            return self.folder.sync_beneath();
        }
        open.iter().try_for_each(|(_, file)| self.folder.disk().sync_data(file))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the folder called `name` with those files of a table that were picked, and the folders that they lay in. What else
/// somebody has put there stays, and the folders above it: false then.
pub(super) fn remove_files(
    parent: &Folder,
    name: &std::ffi::OsStr,
    table: &FileTable,
    pick: Option<&Pick>,
) -> io::Result<bool> {
    let top = match parent.subfolder(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        top => top?,
    };
    remove_from(&top, table, |file| pick.is_none_or(|pick| pick.picked.get(file).is_some_and(|picked| *picked)))?;
    match parent.remove_folder(name) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTEMPTY) => Ok(false),
        removed => absent_is_gone(removed).map(|()| true),
    }
}

/// Removes those files of a table, and the folders that hold nothing then.
fn remove_from(top: &Folder, table: &FileTable, goes: impl Fn(usize) -> bool) -> io::Result<()> {
    let (mut folders, mut places) = (Vec::new(), Places::new(top));
    for (_, file) in table.files().iter().enumerate().filter(|(nth, _)| goes(*nth)) {
        let (folder, name) = file.path.split();
        if places.last.as_ref().is_none_or(|(path, _)| path != folder) {
            folders.extend(file.path.folders());
        }
        let removed = places.folder(folder).and_then(|folder| folder.remove(name.as_ref()));
        absent_is_gone(removed)?;
    }
    // A folder comes behind those that it lies in.
    folders.sort_unstable();
    folders.dedup();
    drop(places);
    for path in folders.into_iter().rev() {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let removed = top.subfolder(above.as_ref()).and_then(|above| above.remove_folder(name.as_ref()));
        match removed {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTEMPTY) => {}
            removed => absent_is_gone(removed)?,
        }
    }
    Ok(())
}

fn absent_is_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The folders beneath one: files come in order, and those of one folder stand together.
struct Places<'a> {
    top: &'a Folder,
    last: Option<(String, Folder)>,
}

impl<'a> Places<'a> {
    fn new(top: &'a Folder) -> Places<'a> {
        Places { top, last: None }
    }

    fn folder(&mut self, path: &str) -> io::Result<Folder> {
        match &self.last {
            Some((last, folder)) if last == path => Ok(folder.clone()),
            _ => {
                let folder = self.top.subfolder(path.as_ref())?;
                self.last = Some((path.to_owned(), folder.clone()));
                Ok(folder)
            }
        }
    }
}
