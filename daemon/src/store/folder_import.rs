//! What a folder holds when it is shared: its files in order, and a refusal by name of what cannot be shared.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use p2p_proto::folder::{FileTable, FolderFile, RelativePath, Segment, TableError};
use p2p_proto::limit::{FOLDER_DEPTH_MAX, FOLDER_FILES_MAX};
use p2p_proto::reject::{ErrorCode, Reject};

use super::error::{Aim, io_reject};
use super::folder_looks::Look;
use super::import::changed_meanwhile;
use super::source::open_readable;
use crate::engine::input::ImportedFolder;

/// Links that are told of by name; of more, their number.
const FOLLOWED_TOLD_MAX: usize = 20;

/// The bit of a file's mode by which its owner may run it.
const OWNER_RUNS: u32 = 0o100;

/// A folder as it was found.
pub(super) struct Listed {
    pub table: FileTable,
    /// How each file looks, in the order of the table.
    pub looks: Vec<Look>,
    pub folder: ImportedFolder,
}

/// Lists the files of the folder at `top`. Symbolic links within it are followed, or the first of them is refused. Blocks.
pub(super) fn list(top: &Path, follow_links: bool) -> Result<Listed, Reject> {
    let mut listing =
        Listing { top, follow_links, found: Vec::new(), folders: 0, empty: 0, links: 0, followed: Vec::new() };
    let metadata = fs::metadata(top).map_err(|error| io_reject(Aim::Read, "read", top, &error))?;
    listing.walk(top, "", &mut vec![(metadata.dev(), metadata.ino())])?;
    let Listing { mut found, empty, links, followed, .. } = listing;
    let listed = |error: TableError| match error {
        TableError::Empty => Reject::new(ErrorCode::NOT_A_FILE, format!("{} holds no file", top.display()))
            .hint("an empty folder cannot be shared"),
        TableError::Clash(..) => Reject::new(ErrorCode::BAD_NAME, format!("cannot share {}: {error}", top.display()))
            .hint("rename one of them: not every file system holds both"),
        TableError::TooMany => too_many(top),
        _ => Reject::new(ErrorCode::UNSUPPORTED, format!("cannot share {}: {error}", top.display()))
            .hint("put it into an archive first"),
    };
    found.sort_unstable_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    let looks = found.iter().map(|(_, look)| *look).collect();
    let table = FileTable::new(found.into_iter().map(|(file, _)| file).collect()).map_err(listed)?;
    let files = u32::try_from(table.files().len()).unwrap_or(u32::MAX);
    Ok(Listed { table, looks, folder: ImportedFolder { files, empty_folders: empty, links, followed } })
}

/// Fills `buffer` from `offset` of a folder's content.
pub(super) fn read(top: &Path, table: &FileTable, buffer: &mut [u8], offset: u64) -> Result<(), Reject> {
    let mut rest = &mut *buffer;
    for Segment { file, range } in table.segments(offset..offset + rest.len() as u64) {
        let (part, behind) = rest.split_at_mut((range.end - range.start) as usize);
        rest = behind;
        let path = top.join(table.files()[file].path.as_str());
        let read = open_readable(&path).and_then(|file| file.read_exact_at(part, range.start));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed_meanwhile(&path),
            _ => io_reject(Aim::Read, "read", &path, &error),
        })?;
    }
    Ok(())
}

fn too_many(top: &Path) -> Reject {
    let message = format!("{} holds more than {FOLDER_FILES_MAX} files or folders", top.display());
    Reject::new(ErrorCode::UNSUPPORTED, message).hint("share parts of it, or put it into an archive first")
}

/// A walk through a folder.
struct Listing<'a> {
    top: &'a Path,
    follow_links: bool,
    found: Vec<(FolderFile, Look)>,
    folders: usize,
    empty: u32,
    links: u32,
    followed: Vec<String>,
}

impl Listing<'_> {
    /// Lists what lies at `path`, which is `within` the top. `above`: the folders on the way, by device and number, so that
    /// a link back to one of them is no way without end.
    fn walk(&mut self, path: &Path, within: &str, above: &mut Vec<(u64, u64)>) -> Result<(), Reject> {
        self.folders += 1;
        if self.folders > FOLDER_FILES_MAX {
            return Err(too_many(self.top));
        }
        if above.len() > FOLDER_DEPTH_MAX {
            let message = format!("{} lies more than {FOLDER_DEPTH_MAX} folders deep", path.display());
            return Err(Reject::new(ErrorCode::BAD_NAME, message).hint("put it into an archive first"));
        }
        let error = |error| io_reject(Aim::Read, "read", path, &error);
        let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut entries = entries.map_err(error)?;
        // So that what is refused is the same each time.
        entries.sort_by_key(DirEntry::file_name);
        if entries.is_empty() {
            self.empty += 1;
        }
        for entry in entries {
            self.take(&entry.path(), within, above)?;
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, within: &str, above: &mut Vec<(u64, u64)>) -> Result<(), Reject> {
        let error = |error| io_reject(Aim::Read, "read", path, &error);
        let name = path.file_name().unwrap_or_default();
        let Some(name) = name.to_str() else {
            let message = format!("the name of {} is not UTF-8 text", path.display());
            return Err(Reject::new(ErrorCode::BAD_NAME, message).hint("rename it"));
        };
        let within = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
        let mut metadata = fs::symlink_metadata(path).map_err(error)?;
        if metadata.is_symlink() {
            if !self.follow_links {
                let message = format!("{} is a symbolic link", path.display());
                return Err(Reject::new(ErrorCode::NOT_A_FILE, message)
                    .hint("take it out of the folder, or share what links lead to with --follow-symlinks"));
            }
            metadata = fs::metadata(path).map_err(error)?;
            self.note_link(path, &within);
        }
        if metadata.is_dir() {
            let folder = (metadata.dev(), metadata.ino());
            if above.contains(&folder) {
                let message = format!("{} leads back to a folder that it lies in", path.display());
                return Err(Reject::new(ErrorCode::NOT_A_FILE, message).hint("take it out of the folder"));
            }
            above.push(folder);
            self.walk(path, &within, above)?;
            above.pop();
            return Ok(());
        }
        let Some(look) = Look::of(&metadata, metadata.len()) else {
            let message = format!("{} is {}, which cannot be shared", path.display(), kind_of(&metadata));
            return Err(Reject::new(ErrorCode::NOT_A_FILE, message).hint("take it out of the folder"));
        };
        if self.found.len() >= FOLDER_FILES_MAX {
            return Err(too_many(self.top));
        }
        let path = RelativePath::try_from(within).map_err(|cause| {
            Reject::new(ErrorCode::BAD_NAME, format!("cannot share {}: {cause}", path.display())).hint("rename it")
        })?;
        let executable = metadata.mode() & OWNER_RUNS != 0;
        self.found.push((FolderFile { path, length: metadata.len(), executable }, look));
        Ok(())
    }

    fn note_link(&mut self, path: &Path, within: &str) {
        self.links = self.links.saturating_add(1);
        if self.followed.len() < FOLLOWED_TOLD_MAX {
            let target = fs::read_link(path).unwrap_or_else(|_| PathBuf::from("?"));
            self.followed.push(format!("{within} -> {}", target.display()));
        }
    }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
