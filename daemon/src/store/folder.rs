//! Folders that downloads are made in: opened once, and everything beneath goes through the handle.
//!
//! Linux only, as the daemon is: `openat2`, `O_PATH` and `renameat2` have no portable spelling.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2p_proto::limit::NAME_BYTES_MAX;
use p2p_proto::reject::Reject;
use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, accessat, fstatvfs, linkat, openat, openat2,
    renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use sha2::Digest as _;

use super::disk::{Change, Disk};
use super::error::{Aim, io_reject};

/// What a file is called until it is complete.
const PART_SUFFIX: &str = ".part";

/// Digits of the digest in a shortened name: 64 bits, so that no two names of one folder meet by chance.
const SHORTENED_DIGITS: usize = 16;

/// A folder held open: exchanging it, or a folder above it, for a symbolic link leads nowhere else.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    handle: Arc<File>,
    path: PathBuf,
    disk: Disk,
}

impl Folder {
    /// Opens the folder at `path`, which was resolved before: a symbolic link anywhere in it now is a trap.
    pub(super) fn open(path: &Path, disk: &Disk) -> Result<Folder, Reject> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // A kernel or a filter without openat2: at least the last component is checked.
            Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
            opened => opened,
        };
        match opened {
            Ok(handle) => Ok(Folder { handle: Arc::new(handle.into()), path: path.to_owned(), disk: disk.clone() }),
            Err(error) => Err(io_reject(Aim::Write, "open the folder", path, &error.into())),
        }
    }

    /// The path of a file in it, for messages.
    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// How what stands under `name` looks, itself where it is a symbolic link; `None` where there is nothing.
    pub(super) fn look(&self, name: &OsStr) -> io::Result<Option<Metadata>> {
        match openat(&self.handle, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(handle) => File::from(handle).metadata().map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file that only its owner can use; fails where anything stands under the name, a dangling link too.
    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = Change::Create { folder: &self.handle, name };
        self.disk.change(create, || Ok(openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?.into()))
    }

    /// Opens a file for reading and writing, without following a link and without waiting for a fifo.
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&self.handle, name, flags, Mode::empty())?.into())
    }

    /// Where its files are written.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        let remove = Change::Remove { folder: &self.handle, name };
        self.disk.change(remove, || Ok(unlinkat(&self.handle, name, AtFlags::empty())?))
    }

    /// Gives a file another name; with `replace` in the place of what has it.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr, replace: bool) -> io::Result<()> {
        self.disk.change(Change::Rename { folder: &self.handle, from, to }, || {
            if replace {
                return Ok(renameat(&self.handle, from, &self.handle, to)?);
            }
            match renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.rename_by_link(from, to),
                result => Ok(result?),
            }
        })
    }

    /// For file systems that cannot refuse to replace (NFS): a second name does, and then the first goes.
    fn rename_by_link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match linkat(&self.handle, from, &self.handle, to, AtFlags::empty()) {
            Ok(()) => Ok(unlinkat(&self.handle, from, AtFlags::empty())?),
            // Nor links (FAT): nothing is left but to look first.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match self.look(to)? {
                Some(_) => Err(Errno::EXIST.into()),
                None => Ok(renameat(&self.handle, from, &self.handle, to)?),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Makes names made and removed in it survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.change(Change::SyncFolder { folder: &self.handle }, || self.handle.sync_all())
    }

    /// Bytes that this user can still write on its disk.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.handle)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether files can be made in it, as far as permissions tell.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        Ok(accessat(&self.handle, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
    }

    /// Which disk it lies on.
    pub(super) fn device(&self) -> io::Result<u64> {
        self.handle.metadata().map(|metadata| std::os::unix::fs::MetadataExt::dev(&metadata))
    }
}

/// The name that a file has until it is complete: `<name>.part`. Where that is too long, the name is cut at a character
/// and gets the first digits of its SHA-256 behind a `~`: every start finds the same one again.
pub(super) fn part_name(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() + PART_SUFFIX.len() <= NAME_BYTES_MAX {
        return OsString::from_vec([bytes, PART_SUFFIX.as_bytes()].concat());
    }
    let mut end = NAME_BYTES_MAX - PART_SUFFIX.len() - 1 - SHORTENED_DIGITS;
    while end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let digest = sha2::Sha256::digest(bytes);
    let digits: String = digest.iter().take(SHORTENED_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    OsString::from_vec([&bytes[..end], b"~", digits.as_bytes(), PART_SUFFIX.as_bytes()].concat())
}
