//! Hashing again what is here of a download, as the disk holds it, and whether there is room for the rest.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use p2p_proto::have_map::HaveMap;
use p2p_proto::manifest::Manifest;
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::statvfs;

use super::error::{Aim, io_reject, source_changed};
use super::folder::{Folder, part_name};
use super::inner::Inner;
use super::laid_out::{FolderFiles, LaidOut};
use super::part::pick_of;
use super::record::PartRecord;
use super::stamp;
use crate::engine::input::PiecesFound;
use crate::engine::record::DownloadRecord;

/// Between two words of how far it is.
const PROGRESS_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that the journal may need on its disk before it is worth beginning again.
const JOURNAL_ROOM_BYTES: u64 = 1024 * 1024;

/// Hashes every marked piece of a download that is not open, and takes the marks from those that are bad. Blocks.
pub(super) fn verify(
    inner: &Inner,
    record: &DownloadRecord,
    progress: &impl Fn(u64, u64),
) -> Result<PiecesFound, Reject> {
    let known = inner.journal.part(record.id)?.filter(|(known, _)| known.content == record.content);
    let Some((known, bits)) = known else {
        let geometry = record.shape.and_then(|shape| shape.geometry().ok());
        let pieces = geometry.map_or(0, |geometry| geometry.piece_count());
        return Ok(PiecesFound { in_place: false, pieces, checked: 0, bad: Vec::new(), good_bytes: 0 });
    };
    let manifest = inner.manifest(record.content)?;
    let geometry = manifest.geometry();
    let count = geometry.piece_count();
    let mut good = HaveMap::from_bits(&bits, count).unwrap_or_else(|_| HaveMap::empty(count));
    let in_place = known.in_place.is_some();
    // Of files picked from a folder, a piece that they share with others is here in part only.
    let mut held = good.clone();
    if let (true, Some(pick), Some(table)) = (in_place, pick_of(record, &manifest)?, manifest.files()) {
        let unwanted = (0..pick.picked.len()).filter(|file| !pick.picked[*file]);
        unwanted.for_each(|file| geometry.pieces_in(table.byte_range(file)).for_each(|piece| _ = held.remove(piece)));
    }
    let bad = if good.is_empty() && !in_place {
        Vec::new()
    } else {
        bad_pieces(inner, record, &known, &manifest, &held, progress)?
    };
    let checked = held.len();
    bad.iter().for_each(|piece| _ = good.remove(*piece));
    if !bad.is_empty() {
        inner.journal.mark(&[(record.id, good.bits().to_vec())])?;
        if in_place {
            damaged(inner, record);
        }
    }
    let good_bytes = good.iter().map(|piece| geometry.piece_bytes(piece)).sum();
    Ok(PiecesFound { in_place, pieces: count, checked, bad, good_bytes })
}

/// The marked pieces that are not what their digests say, or cannot be read.
fn bad_pieces(
    inner: &Inner,
    record: &DownloadRecord,
    known: &PartRecord,
    manifest: &Manifest,
    marked: &HaveMap,
    progress: &impl Fn(u64, u64),
) -> Result<Vec<p2p_proto::geometry::PieceIndex>, Reject> {
    let (folder, name) = place(inner, record)?;
    let name = if known.in_place.is_some() { name } else { part_name(&name) };
    let path = folder.path_of(&name);
    let error = |verb, error: std::io::Error| io_reject(Aim::Read, verb, &path, &error);
    let is_ours = |metadata: &std::fs::Metadata| known.file.is_some_and(|mark| stamp::is_marked(metadata, &mark));
    if !folder.look(&name).map_err(|cause| error("look at", cause))?.is_some_and(|metadata| is_ours(&metadata)) {
        let message = format!("{} is gone, or another file has its place", path.display());
        let hint = format!("`p2pctl resume {}` fetches it again where nothing is in its place", record.id.short());
        return Err(Reject::new(ErrorCode::FILE_MISSING, message).hint(hint));
    }
    let files = match manifest.files() {
        None => folder.open_file(&name).map(|file| LaidOut::File(Arc::new(file))),
        Some(table) => folder
            .subfolder(&name)
            .map(|folder| LaidOut::Folder(Arc::new(FolderFiles::new(folder, Arc::clone(table), None)))),
    };
    let files = files.map_err(|cause| error("open", cause))?;
    files.sync_found(&inner.journal.disk).map_err(|cause| error("sync", cause))?;
    let geometry = manifest.geometry();
    let total: u64 = marked.iter().map(|piece| geometry.piece_bytes(piece)).sum();
    let (mut done, mut bad, mut buffer) = (0, Vec::new(), Vec::new());
    for piece in marked.iter() {
        if inner.stopping.load(Ordering::Relaxed) {
            return Err(Reject::new(ErrorCode::BUSY, "the daemon ends").hint("verify again when it runs"));
        }
        let range = geometry.byte_range(piece);
        let bytes = range.end - range.start;
        buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        // So that the hash sees the disk and not a cache in front of it.
        files.forget_cached(range.clone());
        match files.read_exact_at(&mut buffer, range.start) {
            Ok(()) if manifest.verify(piece, &buffer) => {}
            Err(cause) if !is_lost(&cause) => return Err(error("read", cause)),
            _ => bad.push(piece),
        }
        if done / PROGRESS_BYTES != (done + bytes) / PROGRESS_BYTES {
            progress(done + bytes, total);
        }
        done += bytes;
    }
    Ok(bad)
}

/// Whether bytes that cannot be read are not there any more: nothing else says that they are bad.
fn is_lost(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    let medium = cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    medium || matches!(cause.kind(), ErrorKind::UnexpectedEof | ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A finished file is not what was downloaded: it is not read from any more.
fn damaged(inner: &Inner, record: &DownloadRecord) {
    let reason = source_changed(&record.destination, "is damaged");
    for nth in 0.. {
        let Some(source) = inner.catalogue().source(record.content, nth) else { return };
        if source.path == record.destination {
            source.damage();
            inner.pool.close(&source);
            if source.give_up(&reason) {
                inner.source_gone(record.content, &source, &reason);
            }
        }
    }
}

/// Whether the disks have room for what is missing of a download and for the journal. Blocks.
pub(super) fn has_room(inner: &Inner, record: &DownloadRecord) -> bool {
    let journal = statvfs(&inner.folder).is_ok_and(|disk| disk.f_bavail * disk.f_frsize >= JOURNAL_ROOM_BYTES);
    let Ok((folder, name)) = place(inner, record) else { return false };
    let part = folder.look(&part_name(&name)).ok().flatten();
    // A folder's space was set aside with its files: where that failed, they are gone.
    let allocated = part.map_or(0, |part| if part.is_dir() { 0 } else { part.blocks().saturating_mul(512) });
    // How much of a folder is wanted is known once its part is opened: that looks for room itself.
    let length = if record.only.is_some() { 0 } else { record.length };
    let needed = length.saturating_sub(allocated);
    let room = folder.free_bytes().and_then(|free| {
        let promised = inner.promised_bytes(folder.device()?);
        Ok(free.saturating_sub(promised) >= needed)
    });
    journal && room.unwrap_or(false)
}

/// The folder of a download's file, and the file's name in it.
fn place(inner: &Inner, record: &DownloadRecord) -> Result<(Folder, OsString), Reject> {
    match (record.destination.parent(), record.destination.file_name()) {
        (Some(parent), Some(name)) => Ok((Folder::open(parent, &inner.journal.disk)?, name.to_owned())),
        _ => Err(Reject::new(ErrorCode::NOT_A_FILE, format!("{} is a folder", record.destination.display()))),
    }
}
