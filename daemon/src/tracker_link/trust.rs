//! Trust on first use: which key each tracker had when it was met first, in one file of the state folder.
//!
//! ```text
//! tracker.example:9000 5d41…        one line a tracker: address as it was given, node id
//! ```
//!
//! Read anew at each attempt, so that removing a line works at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use p2p_proto::id::NodeId;
use rustix::io::Errno;

/// The file inside the state folder.
pub const KNOWN_TRACKERS_FILE: &str = "known_trackers";

/// Longest file read, in bytes: thousands of trackers.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why it is not known which key a tracker has to have.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A line that is not an address and a key. Guessing would mean trusting anybody.
    #[error("line {line} of {} is not `ADDRESS NODE-ID`", path.display())]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// The file.
        path: PathBuf,
    },
}

impl TrustError {
    /// Whether the next attempt may succeed without anybody's doing: descriptors have run out, or room on the disk.
    pub fn passes_by_itself(&self) -> bool {
        let TrustError::Disk { source, .. } = self else { return false };
        matches!(Errno::from_io_error(source), Some(Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::DQUOT))
    }
}

/// The file of known trackers.
pub struct KnownTrackers {
    path: PathBuf,
    /// Held while the file is changed: several trackers may be met at once.
    changing: Mutex<()>,
}

impl KnownTrackers {
    /// The file in a state folder; it need not exist.
    pub fn in_folder(state_folder: &Path) -> KnownTrackers {
        KnownTrackers { path: state_folder.join(KNOWN_TRACKERS_FILE), changing: Mutex::new(()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that the tracker at `address` had when it was met first.
    ///
    /// # Errors
    /// Every [`TrustError`].
    pub fn lookup(&self, address: &str) -> Result<Option<NodeId>, TrustError> {
        Ok(self.read()?.into_iter().find(|(known, _)| known == address).map(|(_, node)| node))
    }

    /// Remembers the key of a tracker met for the first time; on disk when this returns.
    ///
    /// # Errors
    /// Every [`TrustError`].
    pub fn remember(&self, address: &str, node: NodeId) -> Result<(), TrustError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.read()?;
        if known.iter().any(|(other, _)| other == address) {
            return Ok(());
        }
        known.push((address.to_owned(), node));
        self.write(&known)
    }

    fn read(&self) -> Result<Vec<(String, NodeId)>, TrustError> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(TrustError::Disk { action: "read", path: self.path.clone(), source }),
        }
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(line, content)| parse(content).ok_or(TrustError::Malformed { line, path: self.path.clone() }))
            .collect()
    }

    /// Writes beside the file, syncs, renames, syncs the folder: the file is always whole.
    fn write(&self, known: &[(String, NodeId)]) -> Result<(), TrustError> {
        let temporary = self.path.with_extension("new");
        let text: String = known.iter().map(|(address, node)| format!("{address} {node}\n")).collect();
        let write = || -> io::Result<()> {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        write().map_err(|source| TrustError::Disk { action: "write", path: self.path.clone(), source })
    }
}

fn parse(line: &str) -> Option<(String, NodeId)> {
    let (address, node) = line.trim().split_once(char::is_whitespace)?;
    Some((address.to_owned(), node.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_key_of_an_address_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = KnownTrackers::in_folder(folder.path());
        assert_eq!(known.lookup("a:1").expect("reads"), None);
        known.remember("a:1", NodeId([1; 32])).expect("writes");
        known.remember("b:1", NodeId([2; 32])).expect("writes");
        known.remember("a:1", NodeId([3; 32])).expect("nothing to do");
        let known = KnownTrackers::in_folder(folder.path());
        assert_eq!(known.lookup("a:1").expect("reads"), Some(NodeId([1; 32])));
        assert_eq!(known.lookup("b:1").expect("reads"), Some(NodeId([2; 32])));
        let mode = fs::metadata(known.path()).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_read_trusts_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = KnownTrackers::in_folder(folder.path());
        fs::write(known.path(), "\na:1 12\n").expect("writes");
        assert!(matches!(known.lookup("b:1"), Err(TrustError::Malformed { line: 2, .. })));
        assert!(known.remember("b:1", NodeId([1; 32])).is_err());
        fs::write(known.path(), [0xff, 0xfe]).expect("writes");
        assert!(matches!(known.lookup("b:1"), Err(TrustError::Disk { .. })));
    }
}
