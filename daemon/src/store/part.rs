//! Part files: made, found again, written, and what is known of each of their pieces.
//!
//! A piece goes one way: missing → written (verified, may be offered) → durable (synced and marked in the journal).

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::error::{Aim, io_reject, wrong_state};
use super::folder::{Folder, part_name};
use super::inner::shape_of;
use super::journal::Journal;
use super::record::{FileMark, PartRecord};
use super::recover::{self, Recovered};
use super::stamp;
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
    pub file: Arc<File>,
    pub mark: FileMark,
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
        self.folder.disk().write_at(&self.file, bytes, offset).map_err(|error| self.error("write", &error))?;
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
        self.folder.disk().sync_data(&self.file)
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
        let allocated = self.file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        self.manifest.geometry().length().saturating_sub(allocated)
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
        Ok(Opening { record, manifest, journal, told, folder, name: name.to_owned(), part_name: part_name(name) })
    }

    /// The part file that the journal knows, with its durable pieces as marked and the others that verify.
    fn find_part(&self, known: &PartRecord, bits: &[u8]) -> Result<Option<Part>, Reject> {
        let Some(metadata) = self.look(&self.part_name)? else { return Ok(None) };
        let Some(mark) = known.file else {
            // Made, and not noted before a crash: nothing was written yet, so nothing can be lost.
            if self.is_blank(&metadata)? {
                self.remove_part()?;
            }
            return Ok(None);
        };
        if !stamp::is_marked(&metadata, &mark) {
            return Ok(None);
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
        let count = self.manifest.geometry().piece_count();
        let durable = HaveMap::from_bits(bits, count).unwrap_or_else(|_| HaveMap::empty(count));
        let (path, disk) = (self.part_path(), self.folder.disk());
        let recovered = recover::unmarked_pieces(&file, &path, disk, &self.manifest, durable, |durable| {
            self.journal.mark(&[(self.record.id, durable.bits().to_vec())])
        })?;
        let Recovered { durable, found, hashed_bytes } = &recovered;
        tracing::info!(path = %path.display(), pieces = durable.len(), hashed_bytes, found, "found a part file again");
        Ok(Some(self.part(file, mark, recovered)))
    }

    /// The file that came into its place before a crash (or before this run).
    ///
    /// The store renames only what is complete: a part file that somebody else renamed is not a finished file.
    fn find_in_place(&self, known: &PartRecord, bits: &[u8]) -> Result<Option<SourceStamp>, Reject> {
        let (Some(mark), Some(metadata)) = (known.file, self.look(&self.name)?) else { return Ok(None) };
        let complete =
            HaveMap::from_bits(bits, self.manifest.geometry().piece_count()).is_ok_and(|have| have.is_full());
        if !complete || !stamp::is_marked(&metadata, &mark) || metadata.len() != self.record.length {
            return Ok(None);
        }
        match known.in_place {
            Some(stamped) if !stamp::looks_like(&metadata, &stamped) => Ok(None),
            Some(stamped) => Ok(Some(stamped)),
            None => {
                let stamped = stamp::stamp(&metadata);
                self.folder.sync().map_err(|error| self.part_error("sync the folder of", &error))?;
                self.journal.put_part(self.record.id, &PartRecord { in_place: Some(stamped), ..*known })?;
                Ok(Some(stamped))
            }
        }
    }

    /// A new part file with its space set aside. The journal learns of it twice: that it is about to be made, so that
    /// one left by a crash is known as ours, and which file it is.
    fn create(self, others_need_bytes: impl Fn(u64) -> u64) -> Result<Part, Reject> {
        if !self.record.force && self.look(&self.name)?.is_some() {
            return Err(destination_exists(&self.record.destination));
        }
        check_space(&self.folder, &self.record.destination, self.record.length, others_need_bytes)?;
        if self.look(&self.part_name)?.is_some() {
            return Err(foreign_part(&self.part_path()));
        }
        let shape = shape_of(&self.manifest);
        let intended = PartRecord { content: self.record.content, shape, file: None, in_place: None };
        self.journal.put_part(self.record.id, &intended)?;
        let made = self.make_file().and_then(|(file, mark)| {
            self.journal.put_part(self.record.id, &PartRecord { file: Some(mark), ..intended }).inspect_err(|_| {
                let _ = self.folder.remove(&self.part_name);
            })?;
            Ok((file, mark))
        });
        match made {
            Ok((file, mark)) => {
                let durable = HaveMap::empty(self.manifest.geometry().piece_count());
                Ok(self.part(file, mark, Recovered { durable, found: 0, hashed_bytes: 0 }))
            }
            Err(reject) => {
                let _ = self.journal.forget_part(self.record.id);
                Err(reject)
            }
        }
    }

    fn make_file(&self) -> Result<(File, FileMark), Reject> {
        let file = self.folder.create(&self.part_name).map_err(|error| match error.kind() {
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

    fn part(&self, file: File, mark: FileMark, recovered: Recovered) -> Part {
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
            file: Arc::new(file),
            mark,
            told: self.told,
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

    /// Whether a file holds nothing at all: no length, or the whole one without any data in it.
    fn is_blank(&self, metadata: &Metadata) -> Result<bool, Reject> {
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

/// A file under the part's name that this download did not make.
pub(super) fn foreign_part(path: &std::path::Path) -> Reject {
    let message = format!("{} exists and does not belong to this download", path.display());
    Reject::new(ErrorCode::DESTINATION_EXISTS, message).hint("move or delete it, or choose another destination")
}

/// A part that is not open, or not any more.
pub(super) fn not_open(download: DownloadId) -> Reject {
    wrong_state(format!("the part file of download {download} is not open"))
}
