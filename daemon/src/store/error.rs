//! What can go wrong with a disk, and the one place that turns an error of the operating system into a refusal.

use std::io;
use std::path::{Path, PathBuf};

use p2p_proto::reject::{ErrorCode, Reject};
use rustix::io::Errno;

/// Why the store cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state folder cannot be used.
    #[error("cannot use the state folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread for syncing.
    #[error("cannot start the thread that syncs files: {0}")]
    Thread(io::Error),
    /// Another process has the journal open.
    #[error("the journal {path} is in use by another p2pd; stop that one or choose another --home")]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// Not a journal, or a damaged one. Nothing was changed.
    #[error(
        "the journal {path} is damaged or is not a journal of p2pd ({reason}); restore it from a backup, or move it \
         away to start without shares and downloads"
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later version of this program. Nothing was changed.
    #[error("the journal {path} has format {found} and this p2pd knows up to {known}; start the newer p2pd again")]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known here.
        known: u64,
    },
}

/// What a failed operation was for: the same error number means another thing to who reads and to who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Reading a file of the user's.
    Read,
    /// Making, writing or removing a file for a download.
    Write,
}

/// The refusal for `error`, met when trying to `verb` the file or folder at `path`.
pub(super) fn io_reject(aim: Aim, verb: &str, path: &Path, error: &io::Error) -> Reject {
    let errno = Errno::from_io_error(error);
    let code = match (errno, aim) {
        (Some(Errno::NOENT | Errno::NOTDIR), Aim::Read) => ErrorCode::FILE_MISSING,
        (Some(Errno::NOENT | Errno::NOTDIR), Aim::Write) => ErrorCode::NOT_WRITABLE,
        (Some(Errno::ACCESS | Errno::PERM | Errno::LOOP), Aim::Read) => ErrorCode::FILE_UNREADABLE,
        (Some(Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::ROFS | Errno::FBIG), Aim::Write) => {
            ErrorCode::NOT_WRITABLE
        }
        (Some(Errno::NOSPC | Errno::DQUOT), _) => ErrorCode::DISK_FULL,
        (Some(Errno::EXIST | Errno::NOTEMPTY), _) => ErrorCode::DESTINATION_EXISTS,
        (Some(Errno::ISDIR | Errno::NXIO | Errno::NODEV), _) => ErrorCode::NOT_A_FILE,
        (Some(Errno::NAMETOOLONG), _) => ErrorCode::BAD_NAME,
        (Some(Errno::MFILE | Errno::NFILE), _) => ErrorCode::BUSY,
        _ => ErrorCode::DISK_ERROR,
    };
    let cause = match errno {
        Some(Errno::NOENT) => "it does not exist".to_owned(),
        Some(Errno::ACCESS | Errno::PERM) => "permission denied".to_owned(),
        Some(Errno::NOSPC) => "no room on the disk".to_owned(),
        Some(Errno::DQUOT) => "the disk quota is used up".to_owned(),
        Some(Errno::ROFS) => "the file system is read-only".to_owned(),
        Some(Errno::FBIG) => "the file system takes no file of that size".to_owned(),
        Some(Errno::LOOP) => "a symbolic link is in the way".to_owned(),
        Some(Errno::EXIST) => "it exists".to_owned(),
        Some(Errno::ISDIR) => "it is a folder".to_owned(),
        Some(Errno::NOTDIR) => "a part of the path is not a folder".to_owned(),
        Some(Errno::NAMETOOLONG) => "the name is too long".to_owned(),
        Some(Errno::MFILE | Errno::NFILE) => "too many files are open".to_owned(),
        _ => error.to_string().to_lowercase(),
    };
    Reject::new(code, format!("cannot {verb} {}: {cause}", path.display())).hint(hint(code))
}

/// What to do about a refusal of the store.
fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::FILE_MISSING => "check the path; a shared file has to stay where it is",
        ErrorCode::FILE_UNREADABLE => "check the permissions of the file and of the folders above it",
        ErrorCode::NOT_WRITABLE => "check that the folder exists and that you may write in it",
        ErrorCode::DISK_FULL => "make room; the download goes on by itself",
        ErrorCode::DESTINATION_EXISTS => "choose another destination, or replace it with --force",
        ErrorCode::NOT_A_FILE => "only regular files can be shared or replaced",
        ErrorCode::BUSY => "try again, or raise the limit of open files",
        ErrorCode::DISK_ERROR => "check the disk and the system's log",
        _ => "",
    }
}

/// A file that is no longer what was shared.
pub(super) fn source_changed(path: &Path, how: &str) -> Reject {
    Reject::new(ErrorCode::SOURCE_CHANGED, format!("{} {how} since it was shared", path.display()))
        .hint("upload it again to share what it holds now")
}

/// Something that this content or download cannot do now.
pub(super) fn wrong_state(message: impl Into<String>) -> Reject {
    Reject::new(ErrorCode::WRONG_STATE, message)
}
