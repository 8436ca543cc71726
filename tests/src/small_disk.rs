//! A small disk that can be filled: a file system in memory, mounted for one test.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted disk; gone with this, whoever still has files open on it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// A disk of so many MiB; `None`, and a word about it, where this user may not mount one.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn new(size_mib: u32) -> Option<SmallDisk> {
        let folder = tempfile::Builder::new().prefix("p2p-disk-").tempdir().expect("a temporary folder");
        let size = format!("size={size_mib}m,mode=1777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        if mounted.is_ok_and(|mount| mount.status.success()) {
            return Some(SmallDisk { folder });
        }
        eprintln!("skipped: only root can mount a small disk");
        None
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all room but `free_bytes`, with a file that is deleted to make room again.
    ///
    /// # Panics
    /// If the disk takes less than it says.
    pub fn fill(&self, free_bytes: u64) -> PathBuf {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).expect("makes");
        let disk = rustix::fs::statvfs(self.folder.path()).expect("measures");
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(free_bytes);
        file.write_all(&vec![1; bytes as usize]).expect("writes");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
