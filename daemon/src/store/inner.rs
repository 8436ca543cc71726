//! What stands behind the store's handle, and its work that may wait for the disk.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::Manifest;
use p2p_proto::paths::UPLOADS;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};

use super::catalogue::{Catalogue, Claim};
use super::disk::Disk;
use super::error::wrong_state;
use super::finish;
use super::journal::Journal;
use super::part::{Opened, Part, not_open};
use super::source::{Pool, Source};
use super::spool;
use super::stamp;
use super::sync::Syncer;
use super::{StoreError, StoreEvent};
use crate::engine::record::{Change, DownloadRecord, Restored, Shape, SourceStamp};

/// The store's parts.
pub(super) struct Inner {
    pub folder: PathBuf,
    // Before the journal: fields are dropped in this order, and the syncer's thread uses it.
    pub syncer: Syncer,
    pub journal: Arc<Journal>,
    pub pool: Pool,
    pub events: UnboundedSender<StoreEvent>,
    /// Imports, one at a time: each uses all cores.
    pub imports: Semaphore,
    /// `.mtorrent` files being read or written, one at a time: the longest take 36 MiB of memory.
    pub mtorrents: Semaphore,
    /// Who looks at the sources, one at a time: a disk that does not answer holds up one thread and no more.
    pub looking: Semaphore,
    /// Whether long work should end early.
    pub stopping: AtomicBool,
    /// What new files of this process may not allow.
    pub umask: u32,
    catalogue: RwLock<Catalogue>,
    /// Downloads whose part is being opened.
    opening: Mutex<HashSet<DownloadId>>,
    /// Downloads whose part is being closed: what was written last is being marked.
    closing: Mutex<HashSet<DownloadId>>,
    /// Downloads that are copied from a file here; who is taken out is not copied on.
    copying: Mutex<HashSet<DownloadId>>,
    queued: Mutex<Vec<Queued>>,
    committing: Mutex<()>,
}

/// Changes on their way to the journal, and who waits for them.
type Queued = (Vec<Change>, oneshot::Sender<Result<(), Reject>>);

/// A download's file that is open, or in its place with all its pieces.
pub(super) enum Ready {
    Part(Arc<Part>),
    InPlace(Arc<Manifest>, SourceStamp),
}

impl Inner {
    pub(super) fn open(
        folder: &Path,
        disk: Disk,
        events: UnboundedSender<StoreEvent>,
    ) -> Result<(Inner, Restored), StoreError> {
        let (journal, found) = Journal::open(folder, disk, events.clone())?;
        let journal = Arc::new(journal);
        let inner = Inner {
            folder: folder.to_owned(),
            syncer: Syncer::start(Arc::clone(&journal), events.clone())?,
            journal,
            pool: Pool::default(),
            events,
            imports: Semaphore::new(1),
            mtorrents: Semaphore::new(1),
            looking: Semaphore::new(1),
            stopping: AtomicBool::new(false),
            umask: umask(),
            catalogue: RwLock::new(Catalogue::new(&found)),
            opening: Mutex::default(),
            closing: Mutex::default(),
            copying: Mutex::default(),
            queued: Mutex::default(),
            committing: Mutex::default(),
        };
        Ok((inner, found.restored))
    }

    /// A kept manifest's bytes.
    pub(super) fn manifest_bytes(&self, content: ContentId) -> Result<Vec<u8>, Reject> {
        let missing = || Reject::new(ErrorCode::CONTENT_NOT_FOUND, format!("there is no manifest of {content} here"));
        self.journal.manifest(content)?.ok_or_else(missing)
    }

    /// A kept manifest.
    pub(super) fn manifest(&self, content: ContentId) -> Result<Manifest, Reject> {
        Manifest::decode(&self.manifest_bytes(content)?, content).map_err(|error| {
            Reject::new(ErrorCode::INTEGRITY, format!("manifest of {content} in the journal: {error}"))
        })
    }

    /// The open part of a download, opened if it is not; one that a fault has ended is opened afresh.
    pub(super) fn open_part(&self, record: &DownloadRecord, told: bool) -> Result<Ready, Reject> {
        let open = self.catalogue().part(record.id);
        match open {
            Some(part) if part.state().ended.is_none() => return Ok(Ready::Part(part)),
            Some(part) => drop(self.catalogue_mut().take_part(part.download)),
            None => {}
        }
        self.while_not_opened(record.id, || self.open_part_alone(record, told))
    }

    /// Does work on the file of a download, which nobody else opens meanwhile; refused where somebody does.
    pub(super) fn while_not_opened<T>(
        &self,
        download: DownloadId,
        work: impl FnOnce() -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        if !lock(&self.opening).insert(download) {
            return Err(Reject::new(ErrorCode::BUSY, format!("download {download} is being opened")));
        }
        let done = work();
        lock(&self.opening).remove(&download);
        done
    }

    /// The part of a download is being closed.
    pub(super) fn closes(&self, download: DownloadId) {
        lock(&self.closing).insert(download);
    }

    /// It is closed, and all that was written to it is marked.
    pub(super) fn closed(&self, download: DownloadId) {
        lock(&self.closing).remove(&download);
    }

    /// Whether it is on its way to being so.
    pub(super) fn is_closing(&self, download: DownloadId) -> bool {
        lock(&self.closing).contains(&download)
    }

    /// A download is copied from a file here from now on.
    pub(super) fn copies(&self, download: DownloadId) {
        lock(&self.copying).insert(download);
    }

    /// It is copied no further.
    pub(super) fn copied(&self, download: DownloadId) {
        lock(&self.copying).remove(&download);
    }

    /// Whether it is to be copied on.
    pub(super) fn is_copying(&self, download: DownloadId) -> bool {
        lock(&self.copying).contains(&download)
    }

    fn open_part_alone(&self, record: &DownloadRecord, told: bool) -> Result<Ready, Reject> {
        self.catalogue().check_part(record.id, record.content, told)?;
        let manifest = Arc::new(self.manifest(record.content)?);
        match Part::open(record, Arc::clone(&manifest), &self.journal, told, |device| self.promised_bytes(device))? {
            Opened::Part(part) => {
                self.catalogue_mut().add_part(&part)?;
                Ok(Ready::Part(part))
            }
            Opened::InPlace(stamp) => {
                // Files picked from a folder are not the content.
                if record.only.is_none() {
                    let (claim, shape) = (Claim::Download(record.id), shape_of(&manifest));
                    self.catalogue_mut().add_source(claim, record.content, shape, &record.destination, stamp, None);
                }
                Ok(Ready::InPlace(manifest, stamp))
            }
        }
    }

    /// Moves a part whose pieces are all written into its place; the content is read from there at once.
    pub(super) fn finish(&self, part: &Arc<Part>, force: bool) -> Result<SourceStamp, Reject> {
        answered(self.syncer.flush(part).blocking_recv())?;
        let stamp = finish::move_into_place(part, force, self.umask, &self.journal)?;
        let claim = Claim::Download(part.download);
        let shape = shape_of(&part.manifest);
        // A folder's files are looked at one by one when they are read.
        let vouching = part.files.metadata().ok().filter(|metadata| metadata.is_file());
        let changed_ns = vouching.map(|metadata| stamp::changed_ns(&metadata));
        let mut catalogue = self.catalogue_mut();
        if part.pick.is_none() {
            catalogue.add_source(claim, part.content, shape, &part.destination, stamp, changed_ns);
        }
        catalogue.take_part(part.download);
        drop(catalogue);
        part.end(not_open(part.download));
        Ok(stamp)
    }

    /// A source turned out to be another file than it was: it is told.
    pub(super) fn source_gone(&self, content: ContentId, source: &Source, reason: &Reject) {
        tracing::warn!(path = %source.path.display(), %reason, "no longer shared");
        let _ = self.events.send(StoreEvent::SourceChanged(content, source.path.clone(), reason.clone()));
    }

    /// Looks at the next sources, and tells what is news.
    pub(super) fn look_at_sources(&self, count: usize) {
        let next = self.catalogue_mut().next_sources(count);
        for (content, source) in next {
            match (source.look(|| self.manifest(content)), source.broken()) {
                (Err(reason), None) if reason.code.is_of_a_source() && source.give_up(&reason) => {
                    self.pool.close(&source);
                    self.source_gone(content, &source, &reason);
                }
                (Ok(()), Some(_)) if source.may_come_back() && self.catalogue_mut().revive(content, &source) => {
                    tracing::info!(path = %source.path.display(), "shared again");
                    let _ = self.events.send(StoreEvent::SourceBack(content, source.path.clone()));
                }
                _ => (),
            }
        }
    }

    /// Bytes of a disk that open parts will still take, where the file system could not set them aside.
    pub(super) fn promised_bytes(&self, device: u64) -> u64 {
        let on_device = |part: &&Arc<Part>| part.files.metadata().is_ok_and(|metadata| metadata.dev() == device);
        self.catalogue().parts().filter(on_device).map(|part| part.unallocated_bytes()).sum()
    }

    /// Puts changes in line for the next transaction.
    pub(super) fn queue_changes(&self, changes: Vec<Change>, told: oneshot::Sender<Result<(), Reject>>) {
        let mut queued = lock(&self.queued);
        self.catalogue_mut().apply(&changes);
        queued.push((changes, told));
    }

    /// Commits all that is in line, in order, in one transaction.
    pub(super) fn commit_queued(&self) {
        let _one_at_a_time = lock(&self.committing);
        let (changes, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut *lock(&self.queued)).into_iter().unzip();
        if waiting.is_empty() {
            return;
        }
        let result = self.journal.apply(&changes.concat());
        // Forgotten where that failed: a start finds what is left.
        let gone = self.catalogue_mut().take_unclaimed(&self.folder.join(UPLOADS));
        if result.is_ok() {
            gone.iter().for_each(|path| spool::delete(path));
        }
        for told in waiting {
            let _ = told.send(result.clone());
        }
    }

    pub(super) fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalogue_mut(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine has to know of a manifest.
pub(super) fn shape_of(manifest: &Manifest) -> Shape {
    let geometry = manifest.geometry();
    Shape { length: geometry.length(), piece_length: geometry.piece_length(), hash: manifest.hash() }
}

/// The answer of one of the store's own threads, or that it has ended.
pub(super) fn answered<E>(answer: Result<Result<(), Reject>, E>) -> Result<(), Reject> {
    answer.unwrap_or_else(|_| Err(wrong_state("the store is shut down")))
}

/// What new files of this process may not allow. Read, since asking the system means setting it, for all threads. Where
/// that fails, files are their owner's alone.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
