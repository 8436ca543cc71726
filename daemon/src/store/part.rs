//! Part files: made, found again, written, and what is known of each of their pieces.
//!
//! A piece goes one way: missing → written (verified, may be offered) → durable (synced and marked in the journal).

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use p2p_proto::folder::FileTable;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::error::{Aim, io_reject, wrong_state};
use super::folder::{Folder, PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE, part_name};
use super::folder_looks;
use super::inner::shape_of;
use super::journal::Journal;
use super::laid_out::{self, FolderFiles, LaidOut};
use super::record::{FileMark, PartRecord};
use super::recover::{self, Recovered};
use super::stamp;
use crate::engine::pick::Pick;
use crate::engine::record::{DownloadRecord, SourceStamp};

/// An open part file.
#[derive(Debug)]
pub(super) struct Part {
    pub download: DownloadId,
    pub content: ContentId,
    pub manifest: Arc<Manifest>,
    pub folder: Folder,
    /// Its name, and the name it will have.
    pub part_name: OsString,
    pub name: OsString,
    pub destination: PathBuf,
    pub files: LaidOut,
    pub mark: FileMark,
    /// The files of a folder that are wanted, where not all are.
    pub pick: Option<Arc<Pick>>,
    /// Whether the driver is told of its pieces; not where the store copies by itself.
    pub told: bool,
    /// Bytes that were hashed to find it again.
    #[cfg(test)]
    pub hashed_bytes: u64,
    state: Mutex<PartState>,
}

/// What is known of the pieces.
#[derive(Debug)]
pub(super) struct PartState {
    /// Verified and written; survives the end of the process.
    pub written: HaveMap,
    /// Synced and marked as well; survives a power cut.
    pub durable: HaveMap,
    /// Written and not yet durable.
    pub unsynced: Vec<PieceIndex>,
    pub unsynced_bytes: u64,
    /// Since when there have been unsynced pieces.
    pub unsynced_since: Option<Instant>,
    /// Whether the syncer has it on its list.
    pub queued: bool,
    /// Why nothing can be written any more: a failed sync, or it was closed.
    pub ended: Option<Reject>,
    #[cfg(test)]
    pub fail_next_sync: bool,
}

/// What [`Part::write`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Verified and written.
    New,
    /// Verified; it was there already.
    Known,
    /// Not the piece that its digest says; nothing was written.
    Corrupt,
}

/// What [`Part::open`] found.
#[derive(Debug)]
pub(super) enum Opened {
    /// A part file, new or found again.
    Part(Arc<Part>),
    /// The finished file, in its place already.
    InPlace(SourceStamp),
}

impl Part {
    /// Makes or finds the file of `record`. `others_need_bytes(device)` tells what other parts will still take of a disk.
    pub(super) fn open(
        record: &DownloadRecord,
        manifest: Arc<Manifest>,
        journal: &Journal,
        told: bool,
        others_need_bytes: impl Fn(u64) -> u64,
    ) -> Result<Opened, Reject> {
        let opening = Opening::new(record, manifest, journal, told)?;
        if let Some((known, bits)) = journal.part(record.id)?
            && known.content == record.content
        {
            if let Some(part) = opening.find_part(&known, &bits)? {
                return Ok(Opened::Part(Arc::new(part)));
            }
            if let Some(stamp) = opening.find_in_place(&known, &bits)? {
                return Ok(Opened::InPlace(stamp));
            }
            tracing::warn!(download = %record.id, path = %opening.part_path().display(),
                "the part file is gone or is another file, starting again from nothing");
        }
        opening.create(others_need_bytes).map(|part| Opened::Part(Arc::new(part)))
    }

    /// Checks a piece and writes it; it may be offered to others from now on.
    ///
    /// Inline on the caller's thread: a hash and a copy into the page cache take less time than handing over a piece
    /// to another thread and back; where the kernel makes a writer wait for the disk, waiting is the back-pressure.
    pub(super) fn write(&self, piece: PieceIndex, bytes: &[u8]) -> Result<Wrote, Reject> {
        if !self.manifest.verify(piece, bytes) {
            return Ok(Wrote::Corrupt);
        }
        let state = self.state();
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        if state.written.contains(piece) {
            return Ok(Wrote::Known);
        }
        drop(state);
        let offset = self.manifest.geometry().byte_range(piece).start;
        self.files.write_at(self.folder.disk(), bytes, offset).map_err(|error| self.error("write", &error))?;
        let mut state = self.state();
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        if !state.written.insert(piece) {
            return Ok(Wrote::Known);
        }
        state.unsynced.push(piece);
        state.unsynced_bytes += bytes.len() as u64;
        state.unsynced_since.get_or_insert_with(Instant::now);
        Ok(Wrote::New)
    }

    /// Makes what is written survive a power cut.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut self.state().fail_next_sync) {
            return Err(Errno::IO.into());
        }
        self.files.sync_data(self.folder.disk())
    }

    /// Whether a piece is there and verified.
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.state().written.contains(piece)
    }

    /// Nothing more is written or believed, for this reason.
    pub(super) fn end(&self, reason: Reject) {
        self.state().ended.get_or_insert(reason);
    }

    /// Bytes that the disk has not set aside for it yet.
    pub(super) fn unallocated_bytes(&self) -> u64 {
        self.files.unallocated_bytes(self.manifest.geometry().length())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PartState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusal for an error met while working on the part file.
    pub(super) fn error(&self, verb: &str, error: &io::Error) -> Reject {
        io_reject(Aim::Write, verb, &self.folder.path_of(&self.part_name), error)
    }
}

/// A part on its way to being open.
struct Opening<'a> {
    record: &'a DownloadRecord,
    manifest: Arc<Manifest>,
    journal: &'a Journal,
    told: bool,
    pick: Option<Arc<Pick>>,
    folder: Folder,
    name: OsString,
    part_name: OsString,
}

impl<'a> Opening<'a> {
    fn new(
        record: &'a DownloadRecord,
        manifest: Arc<Manifest>,
        journal: &'a Journal,
        told: bool,
    ) -> Result<Opening<'a>, Reject> {
        let length = manifest.geometry().length();
        if length != record.length {
            let message =
                format!("{} is listed with {} bytes and its manifest has {length}", record.name, record.length);
            return Err(Reject::new(ErrorCode::INTEGRITY, message));
        }
        let (Some(parent), Some(name)) = (record.destination.parent(), record.destination.file_name()) else {
            return Err(Reject::new(ErrorCode::NOT_A_FILE, format!("{} is a folder", record.destination.display())));
        };
        let folder = Folder::open(parent, &journal.disk)?;
        let pick = pick_of(record, &manifest)?.map(Arc::new);
        Ok(Opening { record, manifest, journal, told, pick, folder, name: name.to_owned(), part_name: part_name(name) })
    }

    /// The part file that the journal knows, with its durable pieces as marked and the others that verify.
    fn find_part(&self, known: &PartRecord, bits: &[u8]) -> Result<Option<Part>, Reject> {
        let Some(metadata) = self.look(&self.part_name)? else { return Ok(None) };
        let Some(mark) = known.file else {
            // Made, and not noted before a crash: nothing was written yet, so nothing can be lost.
            if self.is_blank(&metadata)? && !metadata.is_dir() {
                self.remove_part()?;
            }
            return Ok(None);
        };
        if !stamp::is_marked(&metadata, &mark) {
            return Ok(None);
        }
        let count = self.manifest.geometry().piece_count();
        let durable = HaveMap::from_bits(bits, count).unwrap_or_else(|_| HaveMap::empty(count));
        if let Some(table) = self.manifest.files() {
            return self.find_folder(table, mark, durable);
        }
        if metadata.len() != self.record.length {
            tracing::warn!(path = %self.part_path().display(), length = metadata.len(), "the part file has another length");
            self.remove_part()?;
            return Ok(None);
        }
        let file = self.folder.open_file(&self.part_name).map_err(|error| self.part_error("open", &error))?;
        if !file.metadata().is_ok_and(|metadata| stamp::is_marked(&metadata, &mark)) {
            return Ok(None);
        }
        let files = LaidOut::File(Arc::new(file));
        let recovered = self.recover(&files, durable)?;
        Ok(Some(self.part(files, mark, recovered)))
    }

    /// The folder of a part, found again. A file of it that is gone or has another length is made again, once the pieces
    /// that lay in it are no longer marked.
    fn find_folder(
        &self,
        table: &Arc<FileTable>,
        mark: FileMark,
        mut durable: HaveMap,
    ) -> Result<Option<Part>, Reject> {
        let folder = self.folder.subfolder(&self.part_name).map_err(|error| self.part_error("open", &error))?;
        if !folder.metadata().is_ok_and(|metadata| stamp::is_marked(&metadata, &mark)) {
            return Ok(None);
        }
        let files = FolderFiles::new(folder, Arc::clone(table), self.pick.clone());
        // Of one that is about to come into its place, the files that do not belong there may be gone already.
        let complete = self.pick.as_ref().is_some_and(|pick| pick.wanted.iter().all(|piece| durable.contains(piece)));
        let missing = files.missing(complete).map_err(|error| self.part_error("look through", &error))?;
        if !missing.is_empty() {
            let geometry = self.manifest.geometry();
            let before = durable.len();
            for file in &missing {
                geometry.pieces_in(table.byte_range(*file)).for_each(|piece| _ = durable.remove(piece));
            }
            if durable.len() < before {
                tracing::warn!(path = %self.part_path().display(), files = missing.len(),
                    pieces = before - durable.len(), "files of a part are gone, their pieces are fetched again");
                self.journal.mark(&[(self.record.id, durable.bits().to_vec())])?;
            }
            files.make(&missing).map_err(|error| self.part_error("set space aside in", &error))?;
        }
        let files = LaidOut::Folder(Arc::new(files));
        let recovered = self.recover(&files, durable)?;
        Ok(Some(self.part(files, mark, recovered)))
    }

    /// The pieces that were marked, and the others that verify.
    fn recover(&self, files: &LaidOut, durable: HaveMap) -> Result<Recovered, Reject> {
        let (path, disk) = (self.part_path(), self.folder.disk());
        let recovered = recover::unmarked_pieces(files, &path, disk, &self.manifest, durable, |durable| {
            self.journal.mark(&[(self.record.id, durable.bits().to_vec())])
        })?;
        let Recovered { durable, found, hashed_bytes } = &recovered;
        tracing::info!(path = %path.display(), pieces = durable.len(), hashed_bytes, found, "found a part file again");
        Ok(recovered)
    }

    /// The file that came into its place before a crash (or before this run).
    ///
    /// The store renames only what is complete: a part file that somebody else renamed is not a finished file.
    fn find_in_place(&self, known: &PartRecord, bits: &[u8]) -> Result<Option<SourceStamp>, Reject> {
        let (Some(mark), Some(metadata)) = (known.file, self.look(&self.name)?) else { return Ok(None) };
        let have = HaveMap::from_bits(bits, self.manifest.geometry().piece_count());
        let complete = have.is_ok_and(|have| is_complete(self.pick.as_deref(), &have));
        if !complete || !stamp::is_marked(&metadata, &mark) {
            return Ok(None);
        }
        let found = match self.manifest.files() {
            None => (metadata.len() == self.record.length).then(|| stamp::stamp(&metadata)),
            Some(table) => folder_looks::look_at_all(&self.record.destination, table, self.pick.as_deref())
                .ok()
                .filter(|looks| looks.iter().all(|look| look.has_length))
                .map(|looks| folder_looks::stamp(&metadata, &looks)),
        };
        let Some(found) = found else { return Ok(None) };
        match known.in_place {
            Some(stamped) if !stamp::same_but_device(&found, &stamped) => Ok(None),
            Some(stamped) => Ok(Some(stamped)),
            None => {
                let stamped = found;
                self.folder.sync().map_err(|error| self.part_error("sync the folder of", &error))?;
                self.journal.put_part(self.record.id, &PartRecord { in_place: Some(stamped), ..*known })?;
                Ok(Some(stamped))
            }
        }
    }

    /// A new part file with its space set aside. The journal learns of it twice: that it is about to be made, so that
    /// one left by a crash is known as ours, and which file it is.
    fn create(self, others_need_bytes: impl Fn(u64) -> u64) -> Result<Part, Reject> {
        let is_folder = self.manifest.files().is_some();
        if (!self.record.force || is_folder) && self.look(&self.name)?.is_some() {
            return Err(match is_folder && self.record.force {
                true => folder_replaces_nothing(&self.record.destination),
                false => destination_exists(&self.record.destination),
            });
        }
        let length = self.pick.as_ref().map_or(self.record.length, |pick| pick.laid_bytes);
        check_space(&self.folder, &self.record.destination, length, others_need_bytes)?;
        if self.look(&self.part_name)?.is_some() {
            return Err(foreign_part(&self.part_path()));
        }
        let shape = shape_of(&self.manifest);
        let intended = PartRecord { content: self.record.content, shape, file: None, in_place: None };
        self.journal.put_part(self.record.id, &intended)?;
        let known = |mark| PartRecord { file: Some(mark), ..intended };
        let made = match self.manifest.files() {
            None => self.make_file().and_then(|(file, mark)| {
                self.journal.put_part(self.record.id, &known(mark)).inspect_err(|_| {
                    let _ = self.folder.remove(&self.part_name);
                })?;
                Ok((LaidOut::File(Arc::new(file)), mark))
            }),
            Some(table) => self.make_folder(table, known).inspect_err(|_| {
                let _ = laid_out::remove_files(&self.folder, &self.part_name, table, None);
            }),
        };
        match made {
            Ok((files, mark)) => {
                let durable = HaveMap::empty(self.manifest.geometry().piece_count());
                Ok(self.part(files, mark, Recovered { durable, found: 0, hashed_bytes: 0 }))
            }
            Err(reject) => {
                let _ = self.journal.forget_part(self.record.id);
                Err(reject)
            }
        }
    }

    /// The folder first, and its files once the journal knows which it is: files that are missing from it are made whenever
    /// it is found again.
    fn make_folder(
        &self,
        table: &Arc<FileTable>,
        known: impl Fn(FileMark) -> PartRecord,
    ) -> Result<(LaidOut, FileMark), Reject> {
        let made = self.folder.create_folder(&self.part_name, PRIVATE_FOLDER_MODE);
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => foreign_part(&self.part_path()),
            _ => self.part_error("make the folder", &error),
        })?;
        let set_aside = |error| self.part_error("set space aside in", &error);
        self.folder.sync().map_err(set_aside)?;
        let folder = self.folder.subfolder(&self.part_name).map_err(set_aside)?;
        let mark = stamp::mark(&folder.metadata().map_err(set_aside)?);
        self.journal.put_part(self.record.id, &known(mark))?;
        let files = FolderFiles::new(folder, Arc::clone(table), self.pick.clone());
        let all = files.missing(false).map_err(set_aside)?;
        files.make(&all).map_err(set_aside)?;
        Ok((LaidOut::Folder(Arc::new(files)), mark))
    }

    fn make_file(&self) -> Result<(File, FileMark), Reject> {
        let file = self.folder.create(&self.part_name, PRIVATE_FILE_MODE).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => foreign_part(&self.part_path()),
            _ => self.part_error("create", &error),
        })?;
        let disk = self.folder.disk();
        let set_aside = disk
            .set_length(&file, 0, self.record.length)
            .and_then(|()| disk.sync_all(&file))
            .and_then(|()| self.folder.sync())
            .and_then(|()| file.metadata());
        match set_aside {
            Ok(metadata) => Ok((file, stamp::mark(&metadata))),
            Err(error) => {
                let _ = self.folder.remove(&self.part_name);
                Err(self.part_error("set space aside for", &error))
            }
        }
    }

    fn part(&self, files: LaidOut, mark: FileMark, recovered: Recovered) -> Part {
        let durable = recovered.durable;
        Part {
            #[cfg(test)]
            hashed_bytes: recovered.hashed_bytes,
            download: self.record.id,
            content: self.record.content,
            manifest: Arc::clone(&self.manifest),
            folder: self.folder.clone(),
            part_name: self.part_name.clone(),
            name: self.name.clone(),
            destination: self.record.destination.clone(),
            files,
            mark,
            told: self.told,
            pick: self.pick.clone(),
            state: Mutex::new(PartState {
                written: durable.clone(),
                durable,
                unsynced: Vec::new(),
                unsynced_bytes: 0,
                unsynced_since: None,
                queued: false,
                ended: None,
                #[cfg(test)]
                fail_next_sync: false,
            }),
        }
    }

    /// Whether a file holds nothing at all: no length, or the whole one without any data in it. A folder that holds something
    /// cannot be removed as one that holds nothing.
    fn is_blank(&self, metadata: &Metadata) -> Result<bool, Reject> {
        if metadata.is_dir() {
            let removed = self.folder.remove_folder(&self.part_name);
            return match removed {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTEMPTY) => Ok(false),
                _ => Ok(true),
            };
        }
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(metadata.is_file());
        }
        let file = self.folder.open_file(&self.part_name).map_err(|error| self.part_error("open", &error))?;
        Ok(metadata.len() == self.record.length && seek(&file, SeekFrom::Data(0)) == Err(Errno::NXIO))
    }

    fn remove_part(&self) -> Result<(), Reject> {
        self.folder.remove(&self.part_name).map_err(|error| self.part_error("remove", &error))
    }

    fn look(&self, name: &std::ffi::OsStr) -> Result<Option<Metadata>, Reject> {
        let error = |error| io_reject(Aim::Write, "look at", &self.folder.path_of(name), &error);
        self.folder.look(name).map_err(error)
    }

    fn part_path(&self) -> PathBuf {
        self.folder.path_of(&self.part_name)
    }

    fn part_error(&self, verb: &str, error: &io::Error) -> Reject {
        io_reject(Aim::Write, verb, &self.part_path(), error)
    }
}

/// The files of a folder that a download is for, where not all are.
pub(super) fn pick_of(record: &DownloadRecord, manifest: &Manifest) -> Result<Option<Pick>, Reject> {
    let Some(only) = &record.only else { return Ok(None) };
    match manifest.files() {
        Some(table) => Pick::new(table, manifest.geometry(), only).map(Some),
        None => {
            let message = format!("{} is a file, and --only picks files of a folder", record.name);
            Err(Reject::new(ErrorCode::USAGE, message))
        }
    }
}

/// Whether all that is wanted is here.
pub(super) fn is_complete(pick: Option<&Pick>, have: &HaveMap) -> bool {
    pick.map_or_else(|| have.is_full(), |pick| pick.wanted.iter().all(|piece| have.contains(piece)))
}

/// Refuses a length that the disk has no room for, before anything is made.
pub(super) fn check_space(
    folder: &Folder,
    destination: &std::path::Path,
    length: u64,
    others_need_bytes: impl Fn(u64) -> u64,
) -> Result<(), Reject> {
    let free = folder.free_bytes().and_then(|free| Ok((free, folder.device()?)));
    let (free, device) = free.map_err(|error| io_reject(Aim::Write, "measure the disk of", destination, &error))?;
    let promised = others_need_bytes(device);
    if length <= free.saturating_sub(promised) {
        return Ok(());
    }
    let message = format!(
        "{} needs {length} bytes and the disk has {free} free, {promised} of them for other downloads",
        destination.display()
    );
    Err(Reject::new(ErrorCode::DISK_FULL, message).hint("make room, or choose another destination"))
}

/// The destination stands there and may not be replaced.
pub(super) fn destination_exists(destination: &std::path::Path) -> Reject {
    Reject::new(ErrorCode::DESTINATION_EXISTS, format!("{} exists", destination.display()))
        .hint("choose another destination, or replace it with --force")
}

/// The destination stands there, and a folder is not put in the place of anything: what it holds would be gone.
pub(super) fn folder_replaces_nothing(destination: &std::path::Path) -> Reject {
    Reject::new(
        ErrorCode::DESTINATION_EXISTS,
        format!("{} exists, and a folder replaces nothing", destination.display()),
    )
    .hint("move it away, or choose another destination")
}

/// A file under the part's name that this download did not make.
pub(super) fn foreign_part(path: &std::path::Path) -> Reject {
    let message = format!("{} exists and does not belong to this download", path.display());
    Reject::new(ErrorCode::DESTINATION_EXISTS, message).hint("move or delete it, or choose another destination")
}

/// A part that is not open, or not any more.
pub(super) fn not_open(download: DownloadId) -> Reject {
    wrong_state(format!("the part file of download {download} is not open"))
}
