//! The ends of a part file: into its place, copied from a file that is here already, or deleted.

use std::ffi::OsStr;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2p_proto::folder::FileTable;
use p2p_proto::manifest::Manifest;
use p2p_proto::name::FileName;
use p2p_proto::reject::{ErrorCode, Reject};
use sha2::Digest as _;

use super::disk::Disk;
use super::error::{Aim, io_reject, wrong_state};
use super::folder::{Folder, part_name};
use super::folder_looks;
use super::inner::shape_of;
use super::journal::Journal;
use super::laid_out::{self, LaidOut};
use super::part::{
    Part, check_space, destination_exists, folder_replaces_nothing, foreign_part, is_complete, not_open, pick_of,
};
use super::record::{FileMark, PartRecord};
use super::stamp;
use crate::engine::pick::Pick;
use crate::engine::record::{DownloadRecord, SourceStamp};

/// Bytes read at a time when a whole file's digest is checked.
const READ_BYTES: usize = 1024 * 1024;

/// What others may do with a finished file before the user's mask is applied.
pub(super) const FILE_MODE: u32 = 0o666;

/// The same for a folder.
const FOLDER_MODE: u32 = 0o777;

/// Moves a part file whose pieces are all durable into its place. Blocks.
pub(super) fn move_into_place(part: &Part, force: bool, umask: u32, journal: &Journal) -> Result<SourceStamp, Reject> {
    let complete = {
        let state = part.state();
        match &state.ended {
            Some(ended) => return Err(ended.clone()),
            None => is_complete(part.pick.as_deref(), &state.durable),
        }
    };
    if !complete {
        return Err(wrong_state(format!("{} is not complete", part.destination.display())));
    }
    // It is in its place already where only what follows had failed.
    if !is_named(part, &part.name)? {
        check_whole(part)?;
        rename(part, force, umask)?;
    }
    part.folder.sync().map_err(|error| part.error("sync the folder of", &error))?;
    let metadata = part.files.metadata().map_err(|error| part.error("look at", &error))?;
    let stamped = match part.manifest.files() {
        None => stamp::stamp(&metadata),
        Some(table) => {
            let looks = folder_looks::look_at_all(&part.destination, table, part.pick.as_deref())
                .map_err(|(path, error)| io_reject(Aim::Write, "look at", &path, &error))?;
            folder_looks::stamp(&metadata, &looks)
        }
    };
    let record = PartRecord {
        content: part.content,
        shape: shape_of(&part.manifest),
        file: Some(part.mark),
        in_place: Some(stamped),
    };
    journal.put_part(part.download, &record)?;
    Ok(stamped)
}

fn rename(part: &Part, force: bool, umask: u32) -> Result<(), Reject> {
    match &part.files {
        LaidOut::File(file) => {
            let mode = Permissions::from_mode(FILE_MODE & !umask);
            file.set_permissions(mode).map_err(|error| part.error("set the permissions of", &error))?;
            part.folder.disk().sync_all(file).map_err(|error| part.error("sync", &error))?;
        }
        LaidOut::Folder(files) => {
            files.remove_unwanted().map_err(|error| part.error("remove what is not wanted from", &error))?;
            let opened = files.folder.set_mode(FOLDER_MODE & !umask);
            opened.map_err(|error| part.error("set the permissions of", &error))?;
            files.folder.sync_beneath().map_err(|error| part.error("sync", &error))?;
        }
    }
    // What is renamed is a name: it must still be that of the file that was checked.
    if !is_named(part, &part.part_name)? {
        let path = part.folder.path_of(&part.part_name);
        let message = format!("{} was moved or replaced by another program", path.display());
        let gone = Reject::new(ErrorCode::DISK_ERROR, message).hint("resume to start this download again");
        part.end(gone.clone());
        return Err(gone);
    }
    // A folder replaces nothing.
    let replace = force && matches!(part.files, LaidOut::File(_));
    part.folder.rename(&part.part_name, &part.name, replace).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if replace != force => folder_replaces_nothing(&part.destination),
        io::ErrorKind::AlreadyExists => destination_exists(&part.destination),
        _ => part.error("rename", &error),
    })
}

fn is_named(part: &Part, name: &OsStr) -> Result<bool, Reject> {
    let metadata = part.folder.look(name).map_err(|error| part.error("look at", &error))?;
    Ok(metadata.is_some_and(|metadata| stamp::is_marked(&metadata, &part.mark)))
}

/// Checks the whole file's digest where the manifest has one: every piece may be as its digest says, and the publisher
/// still have described another file.
fn check_whole(part: &Part) -> Result<(), Reject> {
    let Some(expected) = part.manifest.whole_sha256() else { return Ok(()) };
    let mut digest = sha2::Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, length) = (0, part.manifest.geometry().length());
    while offset < length {
        let bytes = usize::try_from(length - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        part.files.read_exact_at(&mut buffer[..bytes], offset).map_err(|error| part.error("read", &error))?;
        digest.update(&buffer[..bytes]);
        offset += bytes as u64;
    }
    if digest.finalize()[..] == expected[..] {
        return Ok(());
    }
    Err(whole_differs(&format!("the whole of {}", part.destination.display())))
}

/// The refusal of a file whose pieces are right and whose whole is not.
pub(super) fn whole_differs(whole: &str) -> Reject {
    Reject::new(ErrorCode::INTEGRITY, format!("{whole} has another SHA-256 than was published with it"))
        .hint("ask who published it to upload it again")
}

/// Deletes a download's part file, and with `finished` the file in its place, as far as they are the ones this download
/// made. Needs no room on the disk. Blocks.
pub(super) fn discard(
    record: &DownloadRecord,
    part: Option<Arc<Part>>,
    finished: bool,
    journal: &Journal,
) -> Result<(), Reject> {
    if let Some(part) = &part {
        part.end(not_open(part.download));
    }
    let known = journal.part(record.id)?.map(|(known, _)| known);
    let in_place = known.as_ref().and_then(|known| known.in_place);
    let mark = match &part {
        Some(part) => Some(part.mark),
        None => known.and_then(|known| known.file),
    };
    if let (Some(mark), Some(parent), Some(name)) = (mark, record.destination.parent(), record.destination.file_name())
    {
        let folder = match part {
            Some(part) => Some(part.folder.clone()),
            // A folder that is gone took the file with it.
            None => Folder::open(parent, &journal.disk).ok(),
        };
        if let Some(folder) = folder {
            remove_marked(&folder, &part_name(name), &mark, record, journal, false)?;
            if finished {
                check_unchanged(&folder, name, &mark, in_place.as_ref(), record, journal)?;
                remove_marked(&folder, name, &mark, record, journal, true)?;
            }
            let _ = folder.sync();
        }
    }
    if let Err(reason) = journal.forget_part(record.id) {
        tracing::warn!(download = %record.id, %reason, "a discarded part file stays in the journal until the next start");
    }
    Ok(())
}

/// Refuses to delete a finished file that somebody has worked on since: it is no longer only what was downloaded.
fn check_unchanged(
    folder: &Folder,
    name: &OsStr,
    mark: &FileMark,
    in_place: Option<&SourceStamp>,
    record: &DownloadRecord,
    journal: &Journal,
) -> Result<(), Reject> {
    let found = folder.look(name).ok().flatten().filter(|metadata| stamp::is_marked(metadata, mark));
    let looks_so = |metadata: &Metadata, stamped: &SourceStamp| -> Result<bool, Reject> {
        Ok(match metadata.is_dir() {
            false => stamp::looks_like(metadata, stamped),
            true => {
                let (table, pick) = files_of(record, journal)?;
                let looks = folder_looks::look_at_all(&folder.path_of(name), &table, pick.as_ref());
                looks.is_ok_and(|looks| stamp::same_but_device(&folder_looks::stamp(metadata, &looks), stamped))
            }
        })
    };
    match (found, in_place) {
        (Some(metadata), Some(stamped)) if !looks_so(&metadata, stamped)? => {
            let message = format!("{} has changed since it was downloaded", folder.path_of(name).display());
            Err(Reject::new(ErrorCode::SOURCE_CHANGED, message)
                .hint("it is left alone; cancel without --delete-data forgets the download and keeps the file"))
        }
        _ => Ok(()),
    }
}

/// The files of a folder that is being made or is in its place, and which of them are wanted.
fn files_of(record: &DownloadRecord, journal: &Journal) -> Result<(Arc<FileTable>, Option<Pick>), Reject> {
    let bytes = journal.manifest(record.content)?.unwrap_or_default();
    let manifest = Manifest::decode(&bytes, record.content).ok();
    let missing = || Reject::new(ErrorCode::INTERNAL, format!("there is no manifest of {} here", record.name));
    let manifest = manifest.ok_or_else(missing)?;
    Ok((manifest.files().cloned().ok_or_else(missing)?, pick_of(record, &manifest)?))
}

/// Removes what was made of a download: of a part all that is laid out, of what is in its place what was picked.
fn remove_marked(
    folder: &Folder,
    name: &OsStr,
    mark: &FileMark,
    record: &DownloadRecord,
    journal: &Journal,
    in_place: bool,
) -> Result<(), Reject> {
    let removed = match folder.look(name) {
        Ok(Some(metadata)) if stamp::is_marked(&metadata, mark) && metadata.is_dir() => {
            let (files, pick) = files_of(record, journal)?;
            laid_out::remove_files(folder, name, &files, pick.as_ref().filter(|_| in_place)).map(|all| {
            if !all {
                let path = folder.path_of(name);
                tracing::warn!(path = %path.display(), "the folder holds what was not downloaded, and stays with that");
            }
            })
        }
        Ok(Some(metadata)) if stamp::is_marked(&metadata, mark) => folder.remove(name),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| io_reject(Aim::Write, "delete", &folder.path_of(name), &error))
}

/// The file that `destination` means for a file called `name`: itself, or in it where it is a folder. Its folder comes
/// back free of symbolic links, so that one found in it later is a trap. Blocks.
pub(super) fn resolve_destination(
    destination: &Path,
    name: &FileName,
    length: u64,
    force: bool,
    others_need_bytes: impl Fn(u64) -> u64,
) -> Result<PathBuf, Reject> {
    let (parent, file_name) =
        if destination.is_dir() { (destination, OsStr::new(name.as_str())) } else { split(destination)? };
    let real_parent =
        std::fs::canonicalize(parent).map_err(|error| io_reject(Aim::Write, "use the folder", parent, &error))?;
    let folder = Folder::open(&real_parent, &Disk::default())?;
    let path = folder.path_of(file_name);
    folder.check_writable().map_err(|error| io_reject(Aim::Write, "write in", &real_parent, &error))?;
    let error = |error| io_reject(Aim::Write, "look at", &path, &error);
    match folder.look(file_name).map_err(error)? {
        Some(metadata) if metadata.is_dir() => {
            return Err(Reject::new(ErrorCode::DESTINATION_EXISTS, format!("{} is a folder", path.display()))
                .hint("choose another destination"));
        }
        Some(_) if !force => return Err(destination_exists(&path)),
        Some(metadata) if !metadata.is_file() && !metadata.is_symlink() => {
            return Err(Reject::new(ErrorCode::NOT_A_FILE, format!("{} is not a regular file", path.display()))
                .hint("choose another destination"));
        }
        _ => {}
    }
    let part = part_name(file_name);
    if folder.look(&part).map_err(error)?.is_some() {
        return Err(foreign_part(&folder.path_of(&part)));
    }
    check_space(&folder, &path, length, others_need_bytes)?;
    Ok(path)
}

/// The folder and the name of a file that may not exist yet.
fn split(destination: &Path) -> Result<(&Path, &OsStr), Reject> {
    use std::os::unix::ffi::OsStrExt as _;
    let text = destination.as_os_str().as_bytes();
    match (destination.parent(), destination.file_name()) {
        (Some(parent), Some(name)) if !text.ends_with(b"/") && !text.ends_with(b"/.") => Ok((parent, name)),
        _ => Err(Reject::new(ErrorCode::NOT_WRITABLE, format!("there is no folder {}", destination.display()))
            .hint("make the folder first")),
    }
}
