//! How the files of a folder look: each for itself, and all of them as the one stamp that is kept of a shared folder.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use p2p_proto::codec;
use p2p_proto::folder::FileTable;
use sha2::Digest as _;

use super::stamp;
use crate::engine::pick::Pick;
use crate::engine::record::SourceStamp;

/// How one file looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Without its device, which changes over a restart of the machine; 0.
    pub stamp: SourceStamp,
    /// Whether it has the length that it should have.
    pub has_length: bool,
    /// Its time of change, which nobody can set back, in nanoseconds since the Unix epoch.
    pub changed_ns: i128,
}

impl Look {
    /// `None` for what is no regular file.
    pub(super) fn of(metadata: &Metadata, length: u64) -> Option<Look> {
        let stamp = SourceStamp { device: 0, ..stamp::stamp(metadata) };
        metadata.is_file().then(|| Look {
            stamp,
            has_length: metadata.len() == length,
            changed_ns: stamp::changed_ns(metadata),
        })
    }
}

/// How each file of a folder at `top` looks, or each that is picked, links followed; or the path of the first that is not there as a file or cannot be
/// looked at, and why. Blocks.
pub(super) fn look_at_all(
    top: &Path,
    table: &FileTable,
    pick: Option<&Pick>,
) -> Result<Vec<Look>, (PathBuf, io::Error)> {
    let look = |path: PathBuf, length| match std::fs::metadata(&path) {
        Ok(metadata) => match Look::of(&metadata, length) {
            Some(look) => Ok(look),
            None => Err((path, io::ErrorKind::NotFound.into())),
        },
        Err(error) => Err((path, error)),
    };
    let files = table.files().iter().enumerate();
    let files = files.filter(|(nth, _)| pick.is_none_or(|pick| pick.picked[*nth]));
    files.map(|(_, file)| look(top.join(file.path.as_str()), file.length)).collect()
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
