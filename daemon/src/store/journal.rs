//! The journal: everything that must outlive the process, in one redb database. FORMAT.md draws its tables.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::reject::{ErrorCode, Reject};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError, WriteTransaction,
};
use tokio::sync::mpsc::UnboundedSender;

use super::StoreEvent;
use super::disk::{self, Disk};
use super::error::StoreError;
use super::journal_file::{JournalFile, Syncs};
use super::record::{self, PartRecord, RecordError};
use crate::engine::record::{Change, Restored};

/// The journal's file in the state folder.
const FILE_NAME: &str = "journal.redb";
/// Its name until it is complete.
const NEW_FILE_NAME: &str = "journal.redb.new";

/// The format that is written, and the newest that is read. Format 1: the first.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";

/// Memory for pages, in bytes; redb's own default is 1 GiB. All but manifests is read once, when the journal is opened.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ACCOUNT: TableDefinition<(), &[u8]> = TableDefinition::new("account");
const SHARES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("shares");
const DOWNLOADS: TableDefinition<&[u8; 8], &[u8]> = TableDefinition::new("downloads");
const PARTS: TableDefinition<&[u8; 8], &[u8]> = TableDefinition::new("parts");
const HAVE: TableDefinition<&[u8; 8], &[u8]> = TableDefinition::new("have");
const MANIFESTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("manifests");
/// Not there before limits were first set, nor in a journal of a program that knew none.
const LIMITS: TableDefinition<(), &[u8]> = TableDefinition::new("limits");
/// Not there before something first waits to be published, nor in a journal of a program that knew no such thing.
const PUBLICATIONS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("publications");
/// Lengths of the manifests: their keys can be walked without reading megabytes of values.
const MANIFEST_LENGTHS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("manifest_lengths");

/// The open journal. Every change is one durable transaction: what a call has returned is on disk.
pub(super) struct Journal {
    path: PathBuf,
    /// What it and the files that it tells of are written to.
    pub disk: Disk,
    /// `None` after a disk was full, until it is opened again: redb itself stops at the first error.
    database: RwLock<Option<Database>>,
    pub syncs: Arc<Syncs>,
    /// Why nothing can be written ever again.
    lost: OnceLock<Reject>,
    events: UnboundedSender<StoreEvent>,
}

/// What was found in it.
pub(super) struct Found {
    pub restored: Restored,
    pub parts: Vec<(DownloadId, PartRecord)>,
}

impl Journal {
    /// Opens the journal in `folder`, or makes it.
    pub(super) fn open(
        folder: &Path,
        disk: Disk,
        events: UnboundedSender<StoreEvent>,
    ) -> Result<(Journal, Found), StoreError> {
        let path = folder.join(FILE_NAME);
        if !path.try_exists().map_err(|source| StoreError::Folder { path: folder.to_owned(), source })? {
            create(folder, &disk)?;
        }
        let syncs = Arc::new(Syncs::default());
        let database = open_database(&path, &disk, &syncs).map_err(|error| open_error(&path, error))?;
        let found = load(&path, &database)?;
        let database = RwLock::new(Some(database));
        Ok((Journal { path, disk, database, syncs, lost: OnceLock::new(), events }, found))
    }

    /// Applies changes in order, all or none.
    pub(super) fn apply(&self, changes: &[Change]) -> Result<(), Reject> {
        self.write(|transaction| changes.iter().try_for_each(|change| apply_change(transaction, change)))
    }

    /// Keeps an encoded manifest.
    pub(super) fn put_manifest(&self, content: ContentId, bytes: &[u8]) -> Result<(), Reject> {
        self.write(|transaction| {
            transaction.open_table(MANIFESTS)?.insert(content.as_bytes(), bytes)?;
            transaction.open_table(MANIFEST_LENGTHS)?.insert(content.as_bytes(), bytes.len() as u64)?;
            Ok(())
        })
    }

    /// A kept manifest.
    pub(super) fn manifest(&self, content: ContentId) -> Result<Option<Vec<u8>>, Reject> {
        self.read(|transaction| {
            let found = transaction.open_table(MANIFESTS)?.get(content.as_bytes())?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })
    }

    /// Whether a manifest is kept.
    pub(super) fn has_manifest(&self, content: ContentId) -> Result<bool, Reject> {
        self.read(|transaction| Ok(transaction.open_table(MANIFEST_LENGTHS)?.get(content.as_bytes())?.is_some()))
    }

    /// What is known of a download's file, and the bits of its durable pieces.
    pub(super) fn part(&self, download: DownloadId) -> Result<Option<(PartRecord, Vec<u8>)>, Reject> {
        let found = self.read(|transaction| {
            let parts = transaction.open_table(PARTS)?;
            let have = transaction.open_table(HAVE)?;
            let bits = have.get(download.as_bytes())?.map(|bits| bits.value().to_vec());
            Ok(parts.get(download.as_bytes())?.map(|bytes| (bytes.value().to_vec(), bits.unwrap_or_default())))
        })?;
        let Some((bytes, bits)) = found else { return Ok(None) };
        match record::decode_part(&bytes) {
            Ok(part) => Ok(Some((part, bits))),
            Err(error) => Err(Reject::new(ErrorCode::INTERNAL, format!("part record of {download}: {error}"))),
        }
    }

    /// Notes a download's file; one that is only about to be made has no pieces.
    pub(super) fn put_part(&self, download: DownloadId, part: &PartRecord) -> Result<(), Reject> {
        let bytes = record::encode_part(part);
        self.write(|transaction| {
            transaction.open_table(PARTS)?.insert(download.as_bytes(), bytes.as_slice())?;
            if part.file.is_none() {
                transaction.open_table(HAVE)?.remove(download.as_bytes())?;
            }
            Ok(())
        })
    }

    /// Forgets a download's file.
    pub(super) fn forget_part(&self, download: DownloadId) -> Result<(), Reject> {
        self.write(|transaction| {
            transaction.open_table(PARTS)?.remove(download.as_bytes())?;
            transaction.open_table(HAVE)?.remove(download.as_bytes())?;
            Ok(())
        })
    }

    /// Marks pieces durable: `marks` holds all bits of each download. A download without a file is passed over: it was
    /// discarded meanwhile.
    pub(super) fn mark(&self, marks: &[(DownloadId, Vec<u8>)]) -> Result<(), Reject> {
        self.write(|transaction| {
            let parts = transaction.open_table(PARTS)?;
            let mut have = transaction.open_table(HAVE)?;
            for (download, bits) in marks {
                if parts.get(download.as_bytes())?.is_some() {
                    have.insert(download.as_bytes(), bits.as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Closes the database; every later call is refused.
    pub(super) fn close(&self) {
        let closed = Reject::new(ErrorCode::WRONG_STATE, "the store is shut down");
        let _ = self.lost.set(closed);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Reject> {
        self.with(|database| work(&database.begin_read()?))
    }

    /// One transaction: durable when this returns. Quick repair keeps a start after a crash short.
    fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Reject> {
        self.with(|database| write(database, work))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Reject> {
        self.reopen()?;
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let result = match (slot.as_ref(), self.lost.get()) {
            (_, Some(lost)) => return Err(lost.clone()),
            (Some(database), None) => work(database),
            (None, None) => return Err(Reject::new(ErrorCode::BUSY, "the journal is being opened again")),
        };
        drop(slot);
        result.map_err(|error| self.fail(error))
    }

    /// Opens the database again where a full disk had closed it.
    fn reopen(&self) -> Result<(), Reject> {
        let closed = |slot: &Option<Database>| slot.is_none() && self.lost.get().is_none();
        if !closed(&self.database.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if closed(&slot) {
            *slot = Some(open_database(&self.path, &self.disk, &self.syncs).map_err(|error| self.fail(error.into()))?);
        }
        Ok(())
    }

    /// The refusal for a failed transaction. A full disk is met before anything is committed, and passes; after
    /// anything else, a failed sync above all, nobody knows what the disk holds: the journal is lost until the
    /// process starts again, and trying once more as if nothing had happened would lose data.
    fn fail(&self, error: redb::Error) -> Reject {
        let full = matches!(&error, redb::Error::Io(io) if is_full(io)) || matches!(error, redb::Error::PreviousIo);
        if full && !self.syncs.failed.load(Ordering::Acquire) {
            if let Ok(mut slot) = self.database.try_write() {
                *slot = None;
            }
            let message = format!("cannot write the journal {}: no room on the disk", self.path.display());
            return Reject::new(ErrorCode::DISK_FULL, message).hint("make room; downloads go on by themselves");
        }
        let message = format!("the journal {} failed: {error}", self.path.display());
        let reject = Reject::new(ErrorCode::DISK_ERROR, message).hint("check the disk, then start p2pd again");
        if self.lost.set(reject.clone()).is_ok() {
            tracing::error!(%reject, "the journal is lost");
            let _ = self.events.send(StoreEvent::JournalLost(reject.clone()));
        }
        reject
    }
}

/// Makes an empty journal: complete under another name, then renamed, so that a crash leaves none or a whole one.
fn create(folder: &Path, disk: &Disk) -> Result<(), StoreError> {
    let folder_error = |source| StoreError::Folder { path: folder.to_owned(), source };
    let (new, path) = (folder.join(NEW_FILE_NAME), folder.join(FILE_NAME));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(folder_error)?;
    let handle = File::open(folder).map_err(folder_error)?;
    let name = NEW_FILE_NAME.as_ref();
    match disk.change(disk::Change::Remove { folder: &handle, name }, || fs::remove_file(&new)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(folder_error(error)),
        _ => {}
    }
    disk.change(disk::Change::Create { folder: &handle, name }, || {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)
    })
    .map_err(folder_error)?;
    let database = open_database(&new, disk, &Arc::default()).map_err(|error| open_error(&new, error))?;
    write(&database, |transaction| {
        transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
        transaction.open_table(ACCOUNT)?;
        transaction.open_table(SHARES)?;
        transaction.open_table(DOWNLOADS)?;
        transaction.open_table(PARTS)?;
        transaction.open_table(HAVE)?;
        transaction.open_table(MANIFESTS)?;
        transaction.open_table(MANIFEST_LENGTHS)?;
        Ok(())
    })
    .map_err(|error| damaged(&new, error))?;
    drop(database);
    let rename = disk::Change::Rename { folder: &handle, from: name, to: FILE_NAME.as_ref() };
    disk.change(rename, || fs::rename(&new, &path)).map_err(folder_error)?;
    disk.change(disk::Change::SyncFolder { folder: &handle }, || handle.sync_all()).map_err(folder_error)
}

fn open_database(path: &Path, disk: &Disk, syncs: &Arc<Syncs>) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let file = JournalFile::new(file, disk.clone(), Arc::clone(syncs))?;
    Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file)
}

fn write<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn apply_change(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Account(Some(account)) => {
            transaction.open_table(ACCOUNT)?.insert((), record::encode_account(account).as_slice())?;
        }
        Change::Account(None) => {
            transaction.open_table(ACCOUNT)?.remove(())?;
        }
        Change::PutShare(share) => {
            let key = record::share_key(&share.user, &share.group, &share.name);
            transaction.open_table(SHARES)?.insert(key.as_slice(), record::encode_share(share).as_slice())?;
        }
        Change::DeleteShare(user, group, name) => {
            transaction.open_table(SHARES)?.remove(record::share_key(user, group, name).as_slice())?;
        }
        Change::PutDownload(download) => {
            let bytes = record::encode_download(download);
            transaction.open_table(DOWNLOADS)?.insert(download.id.as_bytes(), bytes.as_slice())?;
        }
        // Its file's record stays until the file is discarded or the journal is opened again: it says which file is ours.
        Change::DeleteDownload(download) => {
            transaction.open_table(DOWNLOADS)?.remove(download.as_bytes())?;
        }
        Change::PutLimits(limits) => {
            transaction.open_table(LIMITS)?.insert((), record::encode_limits(*limits).as_slice())?;
        }
        Change::PutPublication(publication) => {
            let (user, group, name) = publication.key();
            let (key, bytes) = (record::share_key(&user, &group, &name), record::encode_publication(publication));
            transaction.open_table(PUBLICATIONS)?.insert(key.as_slice(), bytes.as_slice())?;
        }
        Change::DeletePublication(user, group, name) => {
            transaction.open_table(PUBLICATIONS)?.remove(record::share_key(user, group, name).as_slice())?;
        }
    }
    Ok(())
}

/// Reads everything but manifests and pieces, and drops what nothing refers to any more.
fn load(path: &Path, database: &Database) -> Result<Found, StoreError> {
    let found = check_format(path, database).and_then(|()| {
        read_all(database)
            .map_err(|error| damaged(path, error))?
            .decode()
            .map_err(|error| StoreError::Damaged { path: path.to_owned(), reason: error.to_string() })
    })?;
    sweep(database, &found).map_err(|error| damaged(path, error))?;
    Ok(found)
}

fn check_format(path: &Path, database: &Database) -> Result<(), StoreError> {
    let format = || -> Result<Option<u64>, redb::Error> {
        Ok(database.begin_read()?.open_table(META)?.get(FORMAT_KEY)?.map(|format| format.value()))
    };
    match format().map_err(|error| damaged(path, error))? {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT }),
        found => {
            let reason = format!("format {found:?}");
            Err(StoreError::Damaged { path: path.to_owned(), reason })
        }
    }
}

/// The tables' bytes.
#[derive(Default)]
struct Raw {
    account: Option<Vec<u8>>,
    shares: Vec<Vec<u8>>,
    downloads: Vec<Vec<u8>>,
    parts: Vec<(DownloadId, Vec<u8>)>,
    limits: Option<Vec<u8>>,
    publications: Vec<Vec<u8>>,
}

fn read_all(database: &Database) -> Result<Raw, redb::Error> {
    let transaction = database.begin_read()?;
    let account = transaction.open_table(ACCOUNT)?.get(())?.map(|bytes| bytes.value().to_vec());
    let mut raw = Raw { account, ..Raw::default() };
    for row in transaction.open_table(SHARES)?.iter()? {
        raw.shares.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(DOWNLOADS)?.iter()? {
        raw.downloads.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(PARTS)?.iter()? {
        let (key, bytes) = row?;
        raw.parts.push((DownloadId(*key.value()), bytes.value().to_vec()));
    }
    raw.limits = match transaction.open_table(LIMITS) {
        Ok(limits) => limits.get(())?.map(|bytes| bytes.value().to_vec()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match transaction.open_table(PUBLICATIONS) {
        Ok(publications) => {
            for row in publications.iter()? {
                raw.publications.push(row?.1.value().to_vec());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(raw)
}

impl Raw {
    fn decode(self) -> Result<Found, RecordError> {
        let parts = self.parts.iter().map(|(id, bytes)| Ok((*id, record::decode_part(bytes)?)));
        Ok(Found {
            restored: Restored {
                account: self.account.map(|bytes| record::decode_account(&bytes)).transpose()?,
                shares: self.shares.iter().map(|bytes| record::decode_share(bytes)).collect::<Result<_, _>>()?,
                downloads: self
                    .downloads
                    .iter()
                    .map(|bytes| record::decode_download(bytes))
                    .collect::<Result<_, _>>()?,
                limits: self.limits.map(|bytes| record::decode_limits(&bytes)).transpose()?.unwrap_or_default(),
                publications: self
                    .publications
                    .iter()
                    .map(|bytes| record::decode_publication(bytes))
                    .collect::<Result<_, _>>()?,
            },
            parts: parts.collect::<Result<_, RecordError>>()?,
        })
    }
}

/// Drops parts without a download and manifests that nothing refers to. Only here: while the daemon runs, a manifest may be
/// kept before the record that will refer to it.
fn sweep(database: &Database, found: &Found) -> Result<(), redb::Error> {
    let Restored { shares, downloads, publications, .. } = &found.restored;
    let known: HashSet<DownloadId> = downloads.iter().map(|download| download.id).collect();
    let shares = shares.iter().chain(publications.iter().map(|publication| &publication.share));
    let contents: HashSet<ContentId> =
        shares.map(|share| share.content).chain(downloads.iter().map(|download| download.content)).collect();
    let parts: Vec<_> = found.parts.iter().map(|(id, _)| *id).filter(|id| !known.contains(id)).collect();
    let mut manifests = Vec::new();
    for row in database.begin_read()?.open_table(MANIFEST_LENGTHS)?.iter()? {
        let content = ContentId(*row?.0.value());
        if !contents.contains(&content) {
            manifests.push(content);
        }
    }
    if parts.is_empty() && manifests.is_empty() {
        return Ok(());
    }
    write(database, |transaction| {
        for download in parts {
            transaction.open_table(PARTS)?.remove(download.as_bytes())?;
            transaction.open_table(HAVE)?.remove(download.as_bytes())?;
        }
        for content in manifests {
            transaction.open_table(MANIFESTS)?.remove(content.as_bytes())?;
            transaction.open_table(MANIFEST_LENGTHS)?.remove(content.as_bytes())?;
        }
        Ok(())
    })
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            StoreError::Folder { path: path.to_owned(), source }
        }
        error => damaged(path, error.into()),
    }
}

fn damaged(path: &Path, error: redb::Error) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
