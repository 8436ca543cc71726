//! The piece store: files shared in place, files being made, and the journal that outlives the process.
//!
//! FORMAT.md draws what is on disk and derives the order of writes.

mod catalogue;
mod disk;
mod error;
mod finish;
mod folder;
mod folder_import;
mod folder_looks;
mod folder_source;
mod import;
mod inner;
mod journal;
mod journal_file;
mod laid_out;
mod mtorrent;
mod part;
mod record;
mod recover;
mod source;
pub mod spool;
mod stamp;
mod sync;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::{HashAlgorithm, Manifest};
use p2p_proto::mtorrent::Mtorrent;
use p2p_proto::name::FileName;
use p2p_proto::reject::{ErrorCode, Reject};
use sha2::Digest as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use self::catalogue::Claim;
use self::disk::Disk;
pub use self::error::StoreError;
use self::error::wrong_state;
use self::inner::{Inner, Ready, answered, shape_of};
use self::part::{Part, Wrote, not_open};
use self::source::SourceError;
use crate::engine::input::{Description, Imported, MtorrentRead, Opened, PiecesFound};
use crate::engine::output::{Folders, MtorrentToWrite};
use crate::engine::record::{Change, DownloadRecord, Restored, Shape, SourceStamp};

/// Pause before something is tried again that descriptors had run out for: they come back when something ends.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What a piece turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Verified and written: it may be offered, and is durable once [`StoreEvent::PiecesDurable`] says so.
    Written,
    /// Not what its digest says; nothing was written.
    Corrupt,
}

/// What the store tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// Pieces that survive a power cut now.
    PiecesDurable(DownloadId, Vec<PieceIndex>),
    /// Syncing failed: what was written and not told durable must not be believed, and the part takes nothing more until
    /// it is closed and opened again.
    SyncFailed(DownloadId, Reject),
    /// The file at this path is no longer what was shared and is not read any more. Told once for a file.
    SourceChanged(ContentId, PathBuf, Reject),
    /// It looks as it did when it was shared, and is read again.
    SourceBack(ContentId, PathBuf),
    /// The journal cannot be trusted to keep anything: the process must end, and starts from what is on disk.
    JournalLost(Reject),
}

/// The store's handle: cheap to clone. Dropping the last one stops at once, as a kill does, and loses nothing that was
/// told durable; [`Store::shut_down`] syncs first.
///
/// Methods are of three kinds:
/// - called for every piece, and quick: [`Store::write_piece`], [`Store::read_piece`];
/// - called once a transfer or command, and done on threads that may wait for the disk: all others that are `async`;
/// - [`Store::remember`], whose order of calls is the order on disk, whatever the order its answers are awaited in.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the store whose journal lies in `folder`, or makes it, and tells what was remembered. No file is read.
    ///
    /// The channel holds at most one event for each sync (of which there are two a second for a slow download) and one
    /// for each source that broke.
    pub fn open(folder: &Path, events: UnboundedSender<StoreEvent>) -> Result<(Store, Restored), StoreError> {
        Store::open_on(Disk::default(), folder, events)
    }

    fn open_on(
        disk: Disk,
        folder: &Path,
        events: UnboundedSender<StoreEvent>,
    ) -> Result<(Store, Restored), StoreError> {
        let (inner, restored) = Inner::open(folder, disk, events)?;
        Ok((Store { inner: Arc::new(inner) }, restored))
    }

    /// Hashes the file or folder at `path` and keeps its manifest. `progress` is told the bytes hashed and the file's length, from
    /// several threads, every 32 MiB and at the end.
    pub async fn import(
        &self,
        path: PathBuf,
        hash: HashAlgorithm,
        whole_digest: bool,
        folders: Folders,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<Imported, Reject> {
        let _turn = self.inner.imports.acquire().await;
        self.work(move |inner| {
            let (imported, manifest, changed_ns) =
                import::import(&path, hash, whole_digest, folders, &progress, &inner.stopping)?;
            inner.journal.put_manifest(imported.content, &manifest.encode())?;
            if let Some(changed_ns) = changed_ns {
                inner.catalogue_mut().note_hashed(imported.content, path, changed_ns);
            }
            Ok(imported)
        })
        .await
    }

    /// Keeps a manifest that a peer sent, if it is that of `content`; else the refusal is `integrity`.
    pub async fn keep_manifest(&self, content: ContentId, bytes: Vec<u8>) -> Result<Shape, Reject> {
        self.work(move |inner| {
            let manifest = Manifest::decode(&bytes, content)
                .map_err(|error| Reject::new(ErrorCode::INTEGRITY, format!("manifest of {content}: {error}")))?;
            if !inner.journal.has_manifest(content)? {
                inner.journal.put_manifest(content, &bytes)?;
            }
            Ok(shape_of(&manifest))
        })
        .await
    }

    /// Reads the `.mtorrent` at `path` and keeps the manifest that it describes.
    pub async fn read_mtorrent(&self, path: PathBuf) -> Result<MtorrentRead, Reject> {
        let _turn = self.inner.mtorrents.acquire().await;
        self.work(move |inner| {
            let mtorrent = mtorrent::read(&path)?;
            let manifest = mtorrent.manifest();
            let content = manifest.content_id();
            if !inner.journal.has_manifest(content)? {
                inner.journal.put_manifest(content, &manifest.encode())?;
            }
            let (name, trackers) = (mtorrent.name().clone(), mtorrent.trackers().clone());
            Ok(MtorrentRead { name, content, length: manifest.geometry().length(), trackers })
        })
        .await
    }

    /// Writes a `.mtorrent` of a content whose manifest is kept, whole or not at all; refused where `place` exists.
    pub async fn write_mtorrent(&self, written: MtorrentToWrite) -> Result<(), Reject> {
        let _turn = self.inner.mtorrents.acquire().await;
        self.work(move |inner| {
            let MtorrentToWrite { place, content, given, trackers } = written;
            let mtorrent = Mtorrent::new(trackers, given, inner.manifest(content)?)?;
            mtorrent::write(&place, &mtorrent.to_text(), inner.umask, &inner.journal.disk)
        })
        .await
    }

    /// A kept manifest as it travels.
    pub async fn manifest_bytes(&self, content: ContentId) -> Result<Vec<u8>, Reject> {
        self.work(move |inner| inner.manifest_bytes(content)).await
    }

    /// What a kept manifest says.
    pub async fn describe(&self, content: ContentId) -> Result<Description, Reject> {
        self.work(move |inner| {
            let manifest = inner.manifest(content)?;
            Ok(Description {
                shape: shape_of(&manifest),
                digests: manifest.geometry().pieces().map(|piece| manifest.digest(piece).to_vec()).collect(),
                whole_sha256: manifest.whole_sha256().copied(),
            })
        })
        .await
    }

    /// The file that `destination` (a file or a folder) means for a file called `name`, if it can be made there.
    pub async fn resolve_destination(
        &self,
        destination: PathBuf,
        name: FileName,
        length: u64,
        force: bool,
    ) -> Result<PathBuf, Reject> {
        self.work(move |inner| {
            finish::resolve_destination(&destination, &name, length, force, |device| inner.promised_bytes(device))
        })
        .await
    }

    /// Makes the part file of a download whose manifest is kept, or finds it again, and tells which pieces are durable
    /// in it. All of them, where the file is in its place already.
    pub async fn open_part(&self, record: DownloadRecord) -> Result<Opened, Reject> {
        let opened = self.work(move |inner| {
            Ok(match inner.open_part(&record, true)? {
                Ready::Part(part) => Opened {
                    shape: shape_of(&part.manifest),
                    have: part.state().durable.clone(),
                    wanted: part.pick.as_ref().map(|pick| pick.wanted.clone()),
                },
                Ready::InPlace(manifest, _) => {
                    let have = HaveMap::full(manifest.geometry().piece_count());
                    Opened { shape: shape_of(&manifest), have, wanted: None }
                }
            })
        });
        let opened = opened.await;
        // Who is told to try again does so at once.
        if opened.as_ref().is_err_and(|reason| reason.code == ErrorCode::BUSY) {
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        opened
    }

    /// Checks a piece and writes it into the open part of its content. Waits where too much is unsynced.
    pub async fn write_piece(&self, content: ContentId, piece: PieceIndex, bytes: &[u8]) -> Result<Verdict, Reject> {
        let part = self.inner.catalogue().part_of(content);
        let part = part.ok_or_else(|| wrong_state(format!("content {content} is not being downloaded")))?;
        self.write_into(&part, piece, bytes).await
    }

    /// Reads a piece of a content that is shared or being downloaded into `buffer`, whose length becomes the piece's;
    /// its memory is used again. After an error the buffer is empty.
    pub async fn read_piece(&self, content: ContentId, piece: PieceIndex, buffer: &mut Vec<u8>) -> Result<(), Reject> {
        let part = self.inner.catalogue().part_with(content, piece);
        if let Some(part) = part {
            let range = part.manifest.geometry().byte_range(piece);
            return part.files.read_exact(range, buffer).await.map_err(|error| {
                buffer.clear();
                part.error("read", &error)
            });
        }
        let mut failed =
            Reject::new(ErrorCode::CONTENT_NOT_FOUND, format!("piece {} of {content} is not here", piece.0));
        for nth in 0.. {
            let Some(source) = self.inner.catalogue().source(content, nth) else { break };
            let Some(range) = source.range_of(piece) else { continue };
            let manifest = self.work(move |inner| inner.manifest(content));
            match self.inner.pool.read(&source, (content, piece), range, buffer, manifest).await {
                Ok(()) => return Ok(()),
                Err(SourceError::Failed(reason)) => failed = reason,
                Err(SourceError::GoneNow(reason)) => {
                    self.inner.source_gone(content, &source, &reason);
                    failed = reason;
                }
            }
        }
        buffer.clear();
        Err(failed)
    }

    /// Checks the whole's digest of a content all of which can be read here, where its manifest has one.
    pub async fn check_whole(&self, content: ContentId) -> Result<(), Reject> {
        let manifest = self.work(move |inner| inner.manifest(content)).await?;
        let Some(expected) = manifest.whole_sha256() else { return Ok(()) };
        let (mut digest, mut buffer) = (sha2::Sha256::new(), Vec::new());
        for piece in manifest.geometry().pieces() {
            self.read_piece(content, piece, &mut buffer).await?;
            digest.update(&buffer);
            // Cached pieces are read without waiting: others have their turn between two of them.
            tokio::task::yield_now().await;
        }
        if digest.finalize()[..] == expected[..] { Ok(()) } else { Err(finish::whole_differs("the file's whole")) }
    }

    /// Looks at up to so many of the files that contents are read from, the next ones with each call, and tells which of
    /// them are no longer what was shared, and which are again. One call at a time does so; others return at once.
    pub async fn look_at_sources(&self, count: usize) {
        let Ok(_alone) = self.inner.looking.try_acquire() else { return };
        let looked = self.work(move |inner| {
            inner.look_at_sources(count);
            Ok(())
        });
        if let Err(reason) = looked.await {
            tracing::warn!(%reason, "cannot look at shared files");
        }
    }

    /// Moves the file of a download, all of whose pieces are written, into its place; done once already, it says so
    /// again. From then on the content is read from there, until the download is forgotten.
    ///
    /// Waits where descriptors have run out: all of the file is here, and nobody has to ask for it again.
    pub async fn finish_part(&self, record: DownloadRecord) -> Result<SourceStamp, Reject> {
        loop {
            let record = record.clone();
            let finished = self.work(move |inner| match inner.open_part(&record, true)? {
                Ready::Part(part) => inner.finish(&part, record.force),
                Ready::InPlace(_, stamp) => Ok(stamp),
            });
            match finished.await {
                Err(reason) if reason.code == ErrorCode::BUSY && !self.inner.stopping.load(Ordering::Relaxed) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                finished => return finished,
            }
        }
    }

    /// Makes the destination of a download from a file here that has the whole content, checking every piece. It is being
    /// copied when this returns, until it is or [`Store::close_part`] stops it; one copy of a download at a time.
    pub fn copy_local(
        &self,
        record: DownloadRecord,
    ) -> impl Future<Output = Result<SourceStamp, Reject>> + Send + use<> {
        self.inner.copies(record.id);
        let store = self.clone();
        async move {
            let id = record.id;
            let finished = store.copy_and_finish(record).await;
            store.inner.copied(id);
            finished
        }
    }

    async fn copy_and_finish(&self, record: DownloadRecord) -> Result<SourceStamp, Reject> {
        let (id, content, force) = (record.id, record.content, record.force);
        let opened = self.work(move |inner| {
            not_stopped(inner, record.id)?;
            inner.open_part(&record, false)
        });
        let part = match opened.await? {
            Ready::Part(part) => part,
            Ready::InPlace(_, stamp) => return Ok(stamp),
        };
        let copied = self.copy(content, &part).await;
        self.work(move |inner| {
            let finished = copied.and_then(|()| not_stopped(inner, id)).and_then(|()| inner.finish(&part, force));
            if finished.is_err() {
                inner.catalogue_mut().take_part(id);
                part.end(not_open(id));
            }
            finished
        })
        .await
    }

    async fn copy(&self, content: ContentId, part: &Arc<Part>) -> Result<(), Reject> {
        let mut buffer = Vec::new();
        let wanted = |piece: &PieceIndex| part.pick.as_ref().is_none_or(|pick| pick.wanted.contains(*piece));
        for piece in part.manifest.geometry().pieces().filter(wanted).filter(|piece| !part.has(*piece)) {
            not_stopped(&self.inner, part.download)?;
            self.read_piece(content, piece, &mut buffer).await?;
            if self.write_into(part, piece, &buffer).await? == Verdict::Corrupt {
                let message = format!("piece {} of {content} is damaged in the file that is here", piece.0);
                return Err(Reject::new(ErrorCode::SOURCE_CHANGED, message).hint("download it from others"));
            }
        }
        Ok(())
    }

    async fn write_into(&self, part: &Arc<Part>, piece: PieceIndex, bytes: &[u8]) -> Result<Verdict, Reject> {
        // The length first: room is asked for only as much as a piece has.
        if bytes.len() as u64 != part.manifest.geometry().piece_bytes(piece) {
            return Ok(Verdict::Corrupt);
        }
        let room = self.inner.syncer.room_for(bytes.len() as u64).await?;
        let wrote = part.write(piece, bytes)?;
        self.inner.syncer.written(part, room, wrote == Wrote::New);
        Ok(if wrote == Wrote::Corrupt { Verdict::Corrupt } else { Verdict::Written })
    }

    /// Hashes again what is here of a download whose part is closed, and takes the marks from pieces that are bad.
    /// `progress` is told the bytes hashed and those to be hashed, every 32 MiB.
    pub async fn verify_part(
        &self,
        record: DownloadRecord,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<PiecesFound, Reject> {
        // What was written last is marked first.
        while self.inner.is_closing(record.id) {
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        self.work(move |inner| inner.while_not_opened(record.id, || verify::verify(inner, &record, &progress))).await
    }

    /// Whether the disks have room for what is missing of a download.
    pub async fn has_room(&self, record: DownloadRecord) -> bool {
        self.work(move |inner| Ok(verify::has_room(inner, &record))).await.unwrap_or(false)
    }

    /// Closes a part file and keeps it; what is written becomes durable first. One that is not open stays so.
    /// It is closed for others when this returns; what is awaited is only that. What is being copied into it is not copied
    /// on, and gets into its place only if that is the step that it was at.
    pub fn close_part(&self, download: DownloadId) -> impl Future<Output = Result<(), Reject>> + Send + use<> {
        self.inner.copied(download);
        let taken = self.inner.catalogue_mut().take_part(download);
        let inner = Arc::clone(&self.inner);
        if taken.is_some() {
            inner.closes(download);
        }
        async move {
            let Some(part) = taken else { return Ok(()) };
            let result = answered(inner.syncer.flush(&part).await);
            part.end(not_open(download));
            inner.closed(download);
            result
        }
    }

    /// Deletes a download's part file; with `finished` also the file in its place, if it is still the one that was made.
    /// Works without room on the disk. To be called before the download is forgotten.
    pub async fn discard_part(&self, record: DownloadRecord, finished: bool) -> Result<(), Reject> {
        self.work(move |inner| {
            let part = inner.catalogue_mut().take_part(record.id);
            if finished {
                inner.catalogue_mut().drop_claim(&Claim::Download(record.id));
            }
            finish::discard(&record, part, finished, &inner.journal)
        })
        .await
    }

    /// Keeps changes: all of a call or none, in the order of the calls. The answer comes when they are on disk; calls that
    /// wait for the disk at the same time share one transaction. Must be called within the runtime; the changes are
    /// made whether or not the answer is awaited.
    pub fn remember(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), Reject>> + Send + use<> {
        let (told, answer) = oneshot::channel();
        self.inner.queue_changes(changes, told);
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || inner.commit_queued());
        async move { answered(answer.await) }
    }

    /// Bytes free where the state folder lies.
    pub fn disk_free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.inner.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Syncs what is written, marks it, and closes the journal. Every later call is refused.
    pub async fn shut_down(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        let done = self
            .work(|inner| {
                inner.syncer.finish();
                inner.commit_queued();
                inner.journal.close();
                Ok(())
            })
            .await;
        if let Err(reason) = done {
            tracing::error!(%reason, "the store did not shut down cleanly");
        }
    }

    /// Does work that may wait for the disk on a thread that may wait.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Reject> + Send + 'static,
    ) -> Result<T, Reject> {
        let inner = Arc::clone(&self.inner);
        let done = spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(Reject::new(ErrorCode::INTERNAL, format!("work of the store failed: {error}"))))
    }
}

/// Refuses to copy on what was stopped.
fn not_stopped(inner: &Inner, download: DownloadId) -> Result<(), Reject> {
    match inner.is_copying(download) {
        true => Ok(()),
        false => Err(Reject::new(ErrorCode::CANCELLED, format!("download {download} is copied no further"))),
    }
}
