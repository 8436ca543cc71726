//! The file under the journal: reserves room before it grows, and tells a failed sync from every other error.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use super::disk::Disk;

/// The seam between redb and the disk.
#[derive(Debug)]
pub(super) struct JournalFile {
    backend: FileBackend,
    file: File,
    disk: Disk,
    syncs: Arc<Syncs>,
}

/// How syncing the journal goes.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// A sync failed; never cleared.
    pub failed: AtomicBool,
    /// The next one shall fail.
    #[cfg(test)]
    pub fail_next: AtomicBool,
}

impl JournalFile {
    /// A journal in `file` on `disk`; `syncs` learns of a failed sync of it.
    pub(super) fn new(file: File, disk: Disk, syncs: Arc<Syncs>) -> Result<JournalFile, DatabaseError> {
        let backend = FileBackend::new(file.try_clone()?)?;
        Ok(JournalFile { backend, file, disk, syncs })
    }
}

impl StorageBackend for JournalFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.backend.read(offset, out)
    }

    /// A longer file gets its blocks here, so that a full disk is met before anything of a transaction is written.
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.disk.set_length(&self.file, self.backend.len()?, len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let synced = self.disk.sync_data(&self.file);
        #[cfg(test)]
        let synced = synced.and_then(|()| match self.syncs.fail_next.swap(false, Ordering::Relaxed) {
            true => Err(rustix::io::Errno::IO.into()),
            false => Ok(()),
        });
        synced.inspect_err(|_| self.syncs.failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk.write_at(&self.file, data, offset)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
