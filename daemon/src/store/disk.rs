//! The disk: every change that the store makes to it goes through here, so that a test can record all of them in the
//! order they are made, and cut the power after any.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
#[cfg(test)]
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

#[cfg(test)]
use super::tests::tape::Tape;

/// Where changes are made. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    /// What the changes are recorded on; a test's.
    #[cfg(test)]
    pub tape: Option<Arc<Tape>>,
}

/// A change, as it is recorded. A folder or file is named by its handle.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "what is not recorded is not read"))]
pub(super) enum Change<'a> {
    /// A new file of no length.
    Create { folder: &'a File, name: &'a OsStr },
    /// A file's length; what it gains is zeros.
    SetLength { file: &'a File, length: u64 },
    /// Bytes of a file.
    Write { file: &'a File, bytes: &'a [u8], offset: u64 },
    /// What was written to a file survives a power cut from now on, and its length.
    SyncData { file: &'a File },
    /// The same, and its times and mode.
    SyncAll { file: &'a File },
    /// Another name for a file, in the place of what had it.
    Rename { folder: &'a File, from: &'a OsStr, to: &'a OsStr },
    /// A name is gone.
    Remove { folder: &'a File, name: &'a OsStr },
    /// A new folder.
    CreateFolder { folder: &'a File, name: &'a OsStr },
    /// A folder without anything in it is gone.
    RemoveFolder { folder: &'a File, name: &'a OsStr },
    /// All that lies beneath a folder survives a power cut from now on: data, lengths and names.
    SyncBeneath { folder: &'a File },
    /// The names in a folder survive a power cut from now on.
    SyncFolder { folder: &'a File },
}

impl Disk {
    /// Makes a change.
    pub(super) fn change<T>(&self, what: Change<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        if let Some(tape) = &self.tape {
            return tape.record(what, make);
        }
        let _ = what;
        make()
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { file, bytes, offset }, || file.write_all_at(bytes, offset))
    }

    /// Gives a file another length; one it gains gets its blocks now where the file system can do that, so that a full
    /// disk is met here and not by a later write.
    pub(super) fn set_length(&self, file: &File, old: u64, length: u64) -> io::Result<()> {
        self.change(Change::SetLength { file, length }, || {
            if length > old {
                match fallocate(file, FallocateFlags::empty(), old, length - old) {
                    Ok(()) => return Ok(()),
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            file.set_len(length)
        })
    }

    /// Makes what was written survive a power cut.
    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.change(Change::SyncData { file }, || file.sync_data())
    }

    /// The same with the file's times and mode.
    pub(super) fn sync_all(&self, file: &File) -> io::Result<()> {
        self.change(Change::SyncAll { file }, || file.sync_all())
    }
}
