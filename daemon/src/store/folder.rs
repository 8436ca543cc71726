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
    Access, AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, accessat, fchmod, fstatvfs, linkat, mkdirat, openat,
    openat2, renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;
use sha2::Digest as _;

use super::disk::{Change, Disk};
use super::error::{Aim, io_reject};

/// What a file is called until it is complete.
const PART_SUFFIX: &str = ".part";

/// What others may do with a file that is not complete: nothing.
pub(super) const PRIVATE_FILE_MODE: u32 = 0o600;

/// And with a folder.
pub(super) const PRIVATE_FOLDER_MODE: u32 = 0o700;

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

    /// The folder at `path` beneath it, itself where that is empty. Like everything beneath, it is reached without a symbolic
    /// link: whatever is exchanged for one meanwhile, nothing outside is touched.
    pub(super) fn subfolder(&self, path: &OsStr) -> io::Result<Folder> {
        if path.is_empty() {
            return Ok(self.clone());
        }
        let handle = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Folder { handle: Arc::new(handle), path: self.path.join(path), disk: self.disk.clone() })
    }

    /// Opens the file at `path` beneath it for reading and writing, without waiting for a fifo.
    pub(super) fn open_file_beneath(&self, path: &OsStr) -> io::Result<File> {
        self.open_beneath(path, OFlags::RDWR | OFlags::NONBLOCK)
    }

    /// The same for reading alone.
    pub(super) fn open_to_read_beneath(&self, path: &OsStr) -> io::Result<File> {
        self.open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    fn open_beneath(&self, path: &OsStr, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.handle, path, flags, Mode::empty(), resolve) {
            // A kernel or a filter without openat2: folder by folder.
            Err(Errno::NOSYS | Errno::PERM) => {
                let names: Vec<_> = path.as_bytes().split(|byte| *byte == b'/').map(OsStr::from_bytes).collect();
                let Some((name, folders)) = names.split_last() else { return Err(Errno::NOENT.into()) };
                let mut at = Arc::clone(&self.handle);
                for folder in folders {
                    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    at = Arc::new(openat(&at, *folder, through, Mode::empty())?.into());
                }
                Ok(openat(&at, *name, flags, Mode::empty())?.into())
            }
            opened => Ok(opened?.into()),
        }
    }

    /// How it looks itself.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.handle.metadata()
    }

    /// Makes a folder in it; fails where anything stands under the name.
    pub(super) fn create_folder(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let create = Change::CreateFolder { folder: &self.handle, name };
        self.disk.change(create, || Ok(mkdirat(&self.handle, name, Mode::from_raw_mode(mode))?))
    }

    /// Removes a folder that holds nothing.
    pub(super) fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        let remove = Change::RemoveFolder { folder: &self.handle, name };
        self.disk.change(remove, || Ok(unlinkat(&self.handle, name, AtFlags::REMOVEDIR)?))
    }

    /// Makes all that lies beneath it survive a power cut: with a call for each of thousands of files a disk would do nothing
    /// else. It is a call for the whole file system, and tells of what failed there since the folder was opened (Linux 5.8).
    pub(super) fn sync_beneath(&self) -> io::Result<()> {
        self.disk.change(Change::SyncBeneath { folder: &self.handle }, || Ok(syncfs(&self.handle)?))
    }

    /// Says who may use it.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.handle, Mode::from_raw_mode(mode))?)
    }

    /// Makes a file that those can use whom `mode` and the user's mask allow; fails where anything stands under the name, a
    /// dangling link too.
    pub(super) fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = Change::Create { folder: &self.handle, name };
        self.disk.change(create, || Ok(openat(&self.handle, name, flags, Mode::from_raw_mode(mode))?.into()))
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
