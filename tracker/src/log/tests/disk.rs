//! A disk that forgets what was not synced, and that can be made to fail.

use std::io;
use std::sync::{Arc, Mutex};

/// A disk in memory. Shared, so that it outlives the database on it.
#[derive(Debug, Clone, Default)]
pub struct TestDisk(Arc<Mutex<TestDiskState>>);

#[derive(Debug, Default)]
pub struct TestDiskState {
    current: Vec<u8>,
    /// What a power cut leaves.
    synced: Vec<u8>,
    syncs: u64,
    /// Every sync from this one on fails.
    pub fail_from: Option<u64>,
}

impl TestDisk {
    pub fn lock(&self) -> std::sync::MutexGuard<'_, TestDiskState> {
        self.0.lock().expect("no test panics with the lock held")
    }

    /// The disk as it is after a power cut now.
    pub fn after_power_cut(&self) -> TestDisk {
        let synced = self.lock().synced.clone();
        let state = TestDiskState { current: synced.clone(), synced, ..TestDiskState::default() };
        TestDisk(Arc::new(Mutex::new(state)))
    }

    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }
}

impl redb::StorageBackend for TestDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.lock();
        let start = offset as usize;
        let bytes = disk.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().current.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.syncs += 1;
        if disk.fail_from.is_some_and(|from| disk.syncs >= from) {
            return Err(io::Error::other("injected"));
        }
        disk.synced = disk.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.lock().current[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
