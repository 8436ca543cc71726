//! Import: hashes a file or folder where it lies, on all cores, in one pass.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use p2p_proto::geometry::{Geometry, PieceIndex};
use p2p_proto::manifest::{CollisionAttack, HashAlgorithm, Manifest};
use p2p_proto::reject::{ErrorCode, Reject};
use rustix::fs::{Advice, fadvise};
use sha2::Digest as _;

use super::error::{Aim, io_reject};
use super::folder_import::{self, Listed};
use super::folder_looks;
use super::source::open_regular;
use super::stamp;
use crate::engine::input::Imported;
use crate::engine::output::Folders;
use crate::engine::record::Shape;

/// Memory for pieces being hashed, in bytes. It only matters for files of more than 256 GiB, whose pieces are larger: 32
/// cores at 512 KiB take 16 MiB.
const BUFFER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 32 * 1024 * 1024;

/// Hashes the file or folder at `path`: what it holds, and a file's time of change, which nobody can set back. `stopping`
/// ends it early. Blocks for as long as hashing takes.
pub(super) fn import(
    path: &Path,
    hash: HashAlgorithm,
    whole_digest: bool,
    folders: Folders,
    progress: &(impl Fn(u64, u64) + Sync),
    stopping: &AtomicBool,
) -> Result<(Imported, Manifest, Option<i128>), Reject> {
    let started = Instant::now();
    if let (Folders::Taken { follow_links }, true) = (folders, path.is_dir()) {
        if whole_digest {
            let message = format!("{} is a folder, which has no digest of the whole", path.display());
            return Err(Reject::new(ErrorCode::USAGE, message).hint("leave out --whole-digest"));
        }
        return import_folder(path, hash, follow_links, progress, stopping, started);
    }
    let (path, file) = open_regular(path).map_err(|reject| match reject.code {
        ErrorCode::NOT_A_FILE if folders == Folders::Refused => reject
            .hint("a `.mtorrent` is of a single file: `p2pctl upload_file DIR GROUP` shares a folder, or put it into an archive"),
        ErrorCode::NOT_A_FILE => reject.hint("only regular files and folders of them can be shared"),
        _ => reject,
    })?;
    let before = file.metadata().map_err(|error| io_reject(Aim::Read, "look at", &path, &error))?;
    let geometry = Manifest::geometry_for(before.len(), hash)
        .map_err(|error| Reject::new(ErrorCode::UNSUPPORTED, format!("cannot share {}: {error}", path.display())))?;
    // Advice: reading ahead further helps a disk, and does no harm where it is not taken.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let read = |buffer: &mut [u8], offset| {
        file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed_meanwhile(&path),
            _ => io_reject(Aim::Read, "read", &path, &error),
        })
    };
    let pass = Pass {
        read: &read,
        path: &path,
        geometry,
        hash,
        progress,
        stopping,
        next: AtomicU32::new(0),
        done_bytes: AtomicU64::new(0),
        whole: whole_digest.then(Whole::default),
        failed: OnceLock::new(),
    };
    let (digests, whole_sha256) = pass.run()?;
    let after = file.metadata().map_err(|error| io_reject(Aim::Read, "look at", &path, &error))?;
    if stamp::stamp(&before) != stamp::stamp(&after) || stamp::changed_ns(&before) != stamp::changed_ns(&after) {
        return Err(changed_meanwhile(&path));
    }
    let manifest = Manifest::new(geometry, hash, digests, whole_sha256)
        .map_err(|error| Reject::new(ErrorCode::INTERNAL, format!("manifest of {}: {error}", path.display())))?;
    let imported = Imported {
        content: manifest.content_id(),
        shape: Shape { length: geometry.length(), piece_length: geometry.piece_length(), hash },
        stamp: stamp::stamp(&after),
        whole_sha256,
        elapsed: started.elapsed(),
        folder: None,
    };
    Ok((imported, manifest, Some(stamp::changed_ns(&after))))
}

/// The same for a folder, whose pieces go over all its files.
fn import_folder(
    path: &Path,
    hash: HashAlgorithm,
    follow_links: bool,
    progress: &(impl Fn(u64, u64) + Sync),
    stopping: &AtomicBool,
    started: Instant,
) -> Result<(Imported, Manifest, Option<i128>), Reject> {
    let Listed { table, looks, folder } = folder_import::list(path, follow_links)?;
    let geometry = Manifest::geometry_of(&table, hash)
        .map_err(|error| Reject::new(ErrorCode::UNSUPPORTED, format!("cannot share {}: {error}", path.display())))?;
    let read = |buffer: &mut [u8], offset| folder_import::read(path, &table, buffer, offset);
    let pass = Pass {
        read: &read,
        path,
        geometry,
        hash,
        progress,
        stopping,
        next: AtomicU32::new(0),
        done_bytes: AtomicU64::new(0),
        whole: None,
        failed: OnceLock::new(),
    };
    let (digests, _) = pass.run()?;
    let after = folder_looks::look_at_all(path, &table, None).map_err(|(path, _)| changed_meanwhile(&path))?;
    if let Some(nth) = looks.iter().zip(&after).position(|(before, after)| before != after) {
        return Err(changed_meanwhile(&path.join(table.files()[nth].path.as_str())));
    }
    let metadata = path.metadata().map_err(|error| io_reject(Aim::Read, "look at", path, &error))?;
    let manifest = Manifest::of_folder(geometry, hash, digests, table)
        .map_err(|error| Reject::new(ErrorCode::INTERNAL, format!("manifest of {}: {error}", path.display())))?;
    let imported = Imported {
        content: manifest.content_id(),
        shape: Shape { length: geometry.length(), piece_length: geometry.piece_length(), hash },
        stamp: folder_looks::stamp(&metadata, &after),
        whole_sha256: None,
        elapsed: started.elapsed(),
        folder: Some(folder),
    };
    Ok((imported, manifest, None))
}

pub(super) fn changed_meanwhile(path: &Path) -> Reject {
    Reject::new(ErrorCode::SOURCE_CHANGED, format!("{} changed while it was read", path.display()))
        .hint("try again when nothing writes to it any more")
}

/// The file cannot be told from another one by its SHA-1.
fn attacked(path: &Path, attack: CollisionAttack) -> Reject {
    Reject::new(ErrorCode::INTEGRITY, format!("{} cannot be shared with SHA-1: {attack}", path.display()))
        .hint("share it with another digest: --hash blake3")
}

/// One pass over a file or folder by several threads.
struct Pass<'a, R, P> {
    /// Fills a buffer from an offset.
    read: &'a R,
    path: &'a Path,
    geometry: Geometry,
    hash: HashAlgorithm,
    progress: &'a P,
    stopping: &'a AtomicBool,
    /// The next piece that nobody has taken.
    next: AtomicU32,
    done_bytes: AtomicU64,
    whole: Option<Whole>,
    failed: OnceLock<Reject>,
}

/// The whole file's digest: the threads take turns, in the order of the pieces.
#[derive(Default)]
struct Whole {
    turn: Mutex<(u32, sha2::Sha256)>,
    next: Condvar,
}

impl<R: Fn(&mut [u8], u64) -> Result<(), Reject> + Sync, P: Fn(u64, u64) + Sync> Pass<'_, R, P> {
    /// The digests of all pieces one behind the other, and that of the whole.
    fn run(self) -> Result<(Vec<u8>, Option<[u8; 32]>), Reject> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let threads = cores.min(BUFFER_BYTES_MAX / self.geometry.piece_length());
        let threads = threads.clamp(1, u64::from(self.geometry.piece_count()).max(1));
        let mut digests = vec![0; self.geometry.piece_count() as usize * self.hash.digest_bytes()];
        let found = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work())).collect();
            workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
        });
        for worker in found {
            let worker = worker.map_err(|_| Reject::new(ErrorCode::INTERNAL, "a hashing thread panicked"))?;
            for (piece, digest) in worker.pieces.iter().zip(worker.digests.chunks_exact(self.hash.digest_bytes())) {
                let start = piece.as_usize() * self.hash.digest_bytes();
                digests[start..start + digest.len()].copy_from_slice(digest);
            }
        }
        if let Some(failed) = self.failed.into_inner() {
            return Err(failed);
        }
        (self.progress)(self.geometry.length(), self.geometry.length());
        let whole = self.whole.map(|whole| {
            let (_, digest) = whole.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
            digest.finalize().into()
        });
        Ok((digests, whole))
    }

    /// One thread: takes pieces until there are none.
    fn work(&self) -> Hashed {
        let mut hashed = Hashed::default();
        let mut buffer = Vec::new();
        while let Some(piece) = self.take() {
            let range = self.geometry.byte_range(piece);
            buffer.resize((range.end - range.start) as usize, 0);
            if let Err(reason) = (self.read)(&mut buffer, range.start) {
                self.fail(reason);
                break;
            }
            if let Err(attack) = self.hash.digest_into(&buffer, &mut hashed.digests) {
                self.fail(attacked(self.path, attack));
                break;
            }
            hashed.pieces.push(piece);
            if let Some(whole) = &self.whole
                && !self.add_to_whole(whole, piece, &buffer)
            {
                break;
            }
            self.report(buffer.len() as u64);
        }
        hashed
    }

    fn take(&self) -> Option<PieceIndex> {
        if self.stopping.load(Ordering::Relaxed) {
            self.fail(Reject::new(ErrorCode::CANCELLED, format!("hashing {} was stopped", self.path.display())));
        }
        if self.failed.get().is_some() {
            return None;
        }
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < self.geometry.piece_count()).then_some(next + 1)
        });
        taken.ok().and_then(|piece| self.geometry.piece(piece))
    }

    /// Waits for this piece's turn; false if another thread failed and the turn will not come.
    fn add_to_whole(&self, whole: &Whole, piece: PieceIndex, bytes: &[u8]) -> bool {
        let mut turn = whole.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while turn.0 != piece.0 {
            if self.failed.get().is_some() {
                return false;
            }
            turn = whole.next.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        turn.1.update(bytes);
        turn.0 += 1;
        whole.next.notify_all();
        true
    }

    fn fail(&self, reason: Reject) {
        let _ = self.failed.set(reason);
        if let Some(whole) = &self.whole {
            // Under the lock, so that nobody begins to wait between the look and this call.
            let _turn = whole.turn.lock().unwrap_or_else(PoisonError::into_inner);
            whole.next.notify_all();
        }
    }

    fn report(&self, bytes: u64) {
        let before = self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        if before / PROGRESS_BYTES != after / PROGRESS_BYTES {
            (self.progress)(after, self.geometry.length());
        }
    }
}

/// What one thread hashed.
#[derive(Default)]
struct Hashed {
    pieces: Vec<PieceIndex>,
    digests: Vec<u8>,
}
