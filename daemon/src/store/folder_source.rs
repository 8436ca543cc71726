//! Shared folders: each file is read where it lies, and never after it changed.
//!
//! Kept is one stamp of all files together. How each of them looks is seen when the folder is first read or looked at, and
//! believed if together they have that stamp. A piece is checked against its digest before it first leaves, and again
//! whenever a file that it lies in has another time of change.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p2p_proto::folder::{FileTable, Segment};
use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::Reject;

use super::error::{Aim, io_reject, source_changed};
use super::folder_looks::{self, Look};
use super::source::open_readable;
use super::stamp;
use crate::engine::record::SourceStamp;

/// What is known of the files of a shared folder.
#[derive(Debug)]
pub(super) struct FolderSource {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// How each file looks; empty until they have been looked at.
    looks: Vec<Look>,
    /// Pieces that are as they were hashed while their files have these times of change.
    right: HaveMap,
}

impl FolderSource {
    /// `none`: a map of its pieces that holds none.
    pub(super) fn new(none: HaveMap) -> FolderSource {
        FolderSource { seen: Mutex::new(Seen { looks: Vec::new(), right: none }) }
    }

    /// Looks at every file, without opening any. Blocks.
    pub(super) fn look(&self, top: &Path, stamped: &SourceStamp, table: Option<&Arc<FileTable>>) -> Result<(), Reject> {
        let table = table.ok_or_else(|| source_changed(top, "is a folder now"))?;
        let looks = look_at(top, table)?;
        self.hold_to(top, stamped, table, &looks)
    }

    /// Reads a piece into `buffer`, whose length becomes the piece's; false where it is not what its digest says. Blocks.
    pub(super) fn read(
        &self,
        top: &Path,
        stamped: &SourceStamp,
        manifest: &Manifest,
        piece: PieceIndex,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, Reject> {
        let table = manifest.files().ok_or_else(|| source_changed(top, "is a folder now"))?;
        if self.seen().looks.is_empty() {
            let looks = look_at(top, table)?;
            self.hold_to(top, stamped, table, &looks)?;
        }
        let range = manifest.geometry().byte_range(piece);
        buffer.resize((range.end - range.start) as usize, 0);
        let (mut rest, mut read) = (buffer.as_mut_slice(), Vec::new());
        for Segment { file, range } in table.segments(range) {
            let (part, behind) = rest.split_at_mut((range.end - range.start) as usize);
            rest = behind;
            let path = top.join(table.files()[file].path.as_str());
            let error = |error: io::Error| match error.kind() {
                io::ErrorKind::UnexpectedEof => source_changed(&path, "was cut short"),
                _ => io_reject(Aim::Read, "read", &path, &error),
            };
            let open = open_readable(&path).map_err(error)?;
            let length = table.files()[file].length;
            let before = Look::of(&open.metadata().map_err(error)?, length);
            open.read_exact_at(part, range.start).map_err(error)?;
            let after = Look::of(&open.metadata().map_err(error)?, length);
            let known = self.seen().looks.get(file).copied();
            match after.zip(known) {
                Some((after, known)) if after.stamp == known.stamp => {
                    // One that changes just now vouches for nothing.
                    read.push((file, after, before == Some(after)));
                }
                _ => return Err(source_changed(&path, "has changed")),
            }
        }
        if self.is_right(piece, &read) {
            return Ok(true);
        }
        let right = manifest.verify(piece, buffer);
        if right {
            self.note_right(manifest, table, piece, &read);
        }
        Ok(right)
    }

    /// Whether the files that a piece was read from have the times of change that it was found right with.
    fn is_right(&self, piece: PieceIndex, read: &[(usize, Look, bool)]) -> bool {
        let seen = self.seen();
        let same = |(file, look, still): &(usize, Look, bool)| *still && seen.looks.get(*file) == Some(look);
        seen.right.contains(piece) && read.iter().all(same)
    }

    fn note_right(&self, manifest: &Manifest, table: &FileTable, piece: PieceIndex, read: &[(usize, Look, bool)]) {
        let geometry = manifest.geometry();
        let mut seen = self.seen();
        for (file, look, _) in read {
            match seen.looks.get_mut(*file) {
                Some(known) if known != look => *known = *look,
                _ => continue,
            }
            geometry.pieces_in(table.byte_range(*file)).for_each(|piece| _ = seen.right.remove(piece));
        }
        if read.iter().all(|(_, _, still)| *still) {
            seen.right.insert(piece);
        }
    }

    /// Refuses files that do not look as they were stamped; the first time, how each looks is noted.
    fn hold_to(&self, top: &Path, stamped: &SourceStamp, table: &FileTable, looks: &[Look]) -> Result<(), Reject> {
        let mut seen = self.seen();
        if !seen.looks.is_empty() {
            let changed = seen.looks.iter().zip(looks).position(|(seen, now)| seen.stamp != now.stamp);
            return changed.map_or(Ok(()), |nth| Err(source_changed(&path_of(top, table, nth), "has changed")));
        }
        let metadata = std::fs::metadata(top).map_err(|error| io_reject(Aim::Read, "look at", top, &error))?;
        if stamp::same_but_device(&folder_looks::stamp(&metadata, looks), stamped) {
            looks.clone_into(&mut seen.looks);
            return Ok(());
        }
        // Which of them it was is known of a length; else the one that was changed last it is in all likelihood.
        let latest = || (0..looks.len()).max_by_key(|nth| looks[*nth].changed_ns);
        let changed = looks.iter().position(|look| !look.has_length).or_else(latest).unwrap_or_default();
        Err(source_changed(&path_of(top, table, changed), "has changed"))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_at(top: &Path, table: &FileTable) -> Result<Vec<Look>, Reject> {
    folder_looks::look_at_all(top, table, None).map_err(|(path, error)| io_reject(Aim::Read, "look at", &path, &error))
}

fn path_of(top: &Path, table: &FileTable, nth: usize) -> PathBuf {
    table.files().get(nth).map_or_else(|| top.to_owned(), |file| top.join(file.path.as_str()))
}
