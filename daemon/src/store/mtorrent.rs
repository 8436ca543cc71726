//! `.mtorrent` files on disk: what strangers wrote is read within a bound, what is written here is whole or not there.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use p2p_proto::mtorrent::{HEAD_BYTES_MAX, Mtorrent, MtorrentError};
use p2p_proto::reject::{ErrorCode, Reject};

use super::disk::Disk;
use super::error::{Aim, io_reject};
use super::finish::FILE_MODE;
use super::folder::{Folder, PRIVATE_FILE_MODE, part_name};
use super::part::foreign_part;
use super::source::open_regular;

/// Reads the `.mtorrent` at `path`. No more of it is read than its own first lines allow. Blocks.
pub(super) fn read(path: &Path) -> Result<Mtorrent, Reject> {
    let unreadable = |error| io_reject(Aim::Read, "read", path, &error);
    let refused = |error: MtorrentError| {
        let Reject { code, message, .. } = error.into();
        Reject::new(code, format!("cannot go by {}: {message}", path.display()))
            .hint("have it sent again by whoever gave it to you")
    };
    let (_, file) = open_regular(path)?;
    let mut text = Vec::new();
    (&file).take(HEAD_BYTES_MAX as u64).read_to_end(&mut text).map_err(unreadable)?;
    let bytes_max = Mtorrent::text_bytes_max(&text).map_err(refused)?;
    // One byte more than may be there is enough to be refused for.
    let rest = (bytes_max + 1).saturating_sub(text.len() as u64);
    file.take(rest).read_to_end(&mut text).map_err(unreadable)?;
    Mtorrent::parse(&text).map_err(refused)
}

/// Makes the file `place`, which was resolved before, with this text. Blocks.
pub(super) fn write(place: &Path, text: &str, umask: u32, disk: &Disk) -> Result<(), Reject> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(Reject::new(ErrorCode::NOT_WRITABLE, format!("{} is no file in a folder", place.display())));
    };
    let folder = Folder::open(parent, disk)?;
    let part = part_name(name);
    match write_part(&folder, &part, text, umask) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(foreign_part(&folder.path_of(&part))),
        Err(error) => {
            // What could not be written is of no use; an error here would only hide the first one.
            let _ = folder.remove(&part);
            return Err(io_reject(Aim::Write, "write", place, &error));
        }
    }
    let placed = folder.rename(&part, name, false).and_then(|()| folder.sync());
    placed.map_err(|error| {
        let _ = folder.remove(&part);
        io_reject(Aim::Write, "make", place, &error)
    })
}

fn write_part(folder: &Folder, part: &OsStr, text: &str, umask: u32) -> io::Result<()> {
    let file = folder.create(part, PRIVATE_FILE_MODE)?;
    folder.disk().write_at(&file, text.as_bytes(), 0)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE & !umask))?;
    folder.disk().sync_all(&file)
}
