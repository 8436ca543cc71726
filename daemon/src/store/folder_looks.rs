//! How the files of a folder look: each for itself, and all of them as the one stamp that is kept of a shared folder.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use p2p_proto::codec;
use p2p_proto::folder::FileTable;
use sha2::Digest as _;

use super::stamp;
use crate::engine::record::SourceStamp;

/// How one file looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Without its device, which changes over a restart of the machine; 0.
    pub stamp: SourceStamp,
    /// Its time of change, which nobody can set back, in nanoseconds since the Unix epoch.
    pub changed_ns: i128,
}

impl Look {
    /// `None` for what is no regular file.
    pub(super) fn of(metadata: &Metadata) -> Option<Look> {
        let stamp = SourceStamp { device: 0, ..stamp::stamp(metadata) };
        metadata.is_file().then(|| Look { stamp, changed_ns: stamp::changed_ns(metadata) })
    }
}

/// How each file of a folder at `top` looks, links followed; or the path of the first that is not there as a file or cannot be
/// looked at, and why. Blocks.
pub(super) fn look_at_all(top: &Path, table: &FileTable) -> Result<Vec<Look>, (PathBuf, io::Error)> {
    let look = |path: PathBuf| match std::fs::metadata(&path) {
        Ok(metadata) => match Look::of(&metadata) {
            Some(look) => Ok(look),
            None => Err((path, io::ErrorKind::NotFound.into())),
        },
        Err(error) => Err((path, error)),
    };
    table.files().iter().map(|file| look(top.join(file.path.as_str()))).collect()
}

/// The first file that has another length than in the table.
pub(super) fn changed_length(looks: &[Look], table: &FileTable) -> Option<usize> {
    looks.iter().zip(table.files()).position(|(look, file)| look.stamp.length != file.length)
}

/// The stamp of a folder: its own number, and in the place of its time a digest of how its files look.
pub(super) fn stamp(folder: &Metadata, looks: &[Look]) -> SourceStamp {
    let digest = sha2::Sha256::digest(codec::encode(&looks.iter().map(|look| look.stamp).collect::<Vec<_>>()));
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    SourceStamp {
        length: looks.iter().map(|look| look.stamp.length).fold(0, u64::saturating_add),
        modified_ns: i128::from_be_bytes(first),
        device: folder.dev(),
        inode: folder.ino(),
    }
}
