//! What comes from standard input, kept in a file of the daemon's own so that it can be shared from there.
//!
//! The file has no name until all of it is there: a command that is interrupted or killed before leaves nothing. (Where the
//! file system knows no such files, what a killed one leaves is swept when the daemon starts.) Once it is shared it is the
//! daemon's, which deletes it when it is shared no longer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use p2p_proto::private_folder;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{AtFlags, CWD, OFlags, linkat, statvfs};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::error::Failure;
use crate::session::Session;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Bytes between two looks at how much room the disk has.
const LOOK_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of the disk that are left free: the daemon keeps what it remembers there.
const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// What came from standard input, whole. Deleted when dropped, unless it was given away.
#[derive(Debug)]
pub struct Spooled {
    /// Where it lies.
    pub path: PathBuf,
    kept: bool,
}

impl Spooled {
    /// Reads standard input to its end.
    ///
    /// # Errors
    /// Where it cannot be read, the disk has no room for it, or nobody waits for its end any more: then nothing is left.
    pub fn read(session: &Session, name: &str) -> Result<Spooled, Failure> {
        let folder = session.folders.uploads();
        session.folders.make_state().and_then(|()| private_folder::make_closed(&folder)).map_err(Reject::from)?;
        let (told, all_read) = oneshot::channel();
        let mut file = Unpublished::create(&folder)?;
        // A thread of its own, which may wait for input while Ctrl-C is heard; it ends with the process, wherever it is.
        std::thread::spawn(move || told.send(file.read_stdin().map(|()| file)));
        let ended = session.or_enough(all_read)?;
        let ended = ended.map_err(|enough| enough.reject(&format!("nothing is published as {name}")))?;
        ended.map_err(|_| Failure::new(ErrorCode::INTERNAL, "the reader of standard input ended"))??.publish()
    }

    /// The daemon has it from now on.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.kept {
            // The daemon finds what cannot be deleted here.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file that is being filled.
struct Unpublished {
    file: File,
    folder: PathBuf,
    /// Its name, where it had to have one from the start. Deleted with this.
    named: Option<Spooled>,
}

impl Unpublished {
    fn create(folder: &Path) -> Result<Unpublished, Failure> {
        let unwritable = |error: io::Error| write_failure(folder, &error);
        let options = || OpenOptions::new().read(true).write(true).mode(0o600).to_owned();
        let unnamed = options().custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(folder);
        let knows_none = |error: &io::Error| {
            Errno::from_io_error(error).is_some_and(|error| [Errno::OPNOTSUPP, Errno::ISDIR].contains(&error))
        };
        let folder = folder.to_owned();
        match unnamed {
            Ok(file) => Ok(Unpublished { file, folder, named: None }),
            Err(error) if knows_none(&error) => {
                let path = new_path(&folder);
                let file = options().create_new(true).open(&path).map_err(unwritable)?;
                Ok(Unpublished { file, folder, named: Some(Spooled { path, kept: false }) })
            }
            Err(error) => Err(unwritable(error)),
        }
    }

    /// Takes all of standard input, onto the disk.
    fn read_stdin(&mut self) -> Result<(), Failure> {
        let (mut stdin, mut buffer) = (io::stdin().lock(), vec![0; READ_BYTES]);
        let (mut length, mut looked) = (0, None);
        loop {
            let bytes = match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::file("standard input", &error)),
            };
            if looked.is_none_or(|looked| length - looked >= LOOK_BYTES) {
                check_room(&self.folder)?;
                looked = Some(length);
            }
            self.file.write_all(&buffer[..bytes]).map_err(|error| write_failure(&self.folder, &error))?;
            length += bytes as u64;
        }
        self.file.sync_all().map_err(|error| write_failure(&self.folder, &error))
    }

    /// Gives it a name that survives a power cut.
    fn publish(self) -> Result<Spooled, Failure> {
        let named = match self.named {
            Some(named) => Ok(named),
            None => link(&self.file, &self.folder),
        };
        let synced = named.and_then(|named| File::open(&self.folder)?.sync_all().map(|()| named));
        synced.map_err(|error| write_failure(&self.folder, &error))
    }
}

/// Gives a file without a name one in `folder`.
fn link(file: &File, folder: &Path) -> io::Result<Spooled> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = new_path(folder);
    linkat(CWD, &unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(Spooled { path, kept: false })
}

/// A path that no other command makes: of this moment and this process.
fn new_path(folder: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    folder.join(format!("{:x}-{}", now.as_nanos(), std::process::id()))
}

fn check_room(folder: &Path) -> Result<(), Failure> {
    let disk = statvfs(folder).map_err(|error| write_failure(folder, &error.into()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN + LOOK_BYTES {
        return Err(disk_full(folder));
    }
    Ok(())
}

fn disk_full(folder: &Path) -> Failure {
    let message = format!("no room for what comes from standard input in {}", folder.display());
    Failure::new(ErrorCode::DISK_FULL, message).hint("make room, or write it to a file elsewhere and share that")
}

fn write_failure(folder: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk_full(folder),
        _ => {
            let what = format!("{}, which is to hold what comes from standard input", folder.display());
            Failure::new(ErrorCode::NOT_WRITABLE, format!("{what}: {}", crate::error::cause(error)))
        }
    }
}
