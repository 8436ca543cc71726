//! A copy of all that a tracker keeps, in one file: taken while it runs, put back into a folder that has nothing.
//!
//! | bytes | what |
//! |---|---|
//! | 15 | `p2p-tracker-all` |
//! | 1 | format: 1 |
//! | all but the last 32 | postcard of [`Contents`] |
//! | 32 | SHA-256 of all before it |
//!
//! It holds the tracker's key, the signing key and the password records: whoever has it is the tracker.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use p2p_proto::codec;
use p2p_proto::identity::{Identity, KEY_FILE};
use p2p_proto::private_folder;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::EPOCH_PLACES;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admin::{self, Question};
use crate::clock;
use crate::log::{self, Epoch, Store};
use crate::state::State;
use crate::status;

/// What the file begins with.
const MAGIC: &[u8; 15] = b"p2p-tracker-all";

/// The format that is written.
const FORMAT: u8 = 1;

/// Bytes of the digest at the end.
const DIGEST_BYTES: usize = 32;

/// Longest copy that is read, in bytes: a million listings take some hundred MiB.
const COPY_BYTES_MAX: u64 = 4 << 30;

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// When it was taken.
    pub taken: UnixMillis,
    /// Which tracker of its cluster has taken it.
    pub tracker: u64,
    /// The place behind the last change that it holds.
    pub place: u64,
    /// The text of the tracker's key file.
    pub key: Vec<u8>,
    /// The state ([`State::encode`]).
    pub state: Vec<u8>,
}

impl Contents {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[FORMAT], &codec::encode(self)].concat();
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads a file, all of it or nothing.
    ///
    /// # Errors
    /// That it is no copy, of a later format, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Contents, Reject> {
        let damaged = || {
            Reject::new(ErrorCode::INTEGRITY, "the copy is damaged: its digest is not that of its bytes")
                .hint("use another copy")
        };
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(Reject::new(ErrorCode::MALFORMED, "the file is no copy of a tracker")
                .hint("`tracker backup FILE` writes one"));
        };
        match rest.first() {
            Some(&FORMAT) => {}
            Some(format) => {
                let message = format!("the copy has format {format}, and this version reads format {FORMAT}");
                return Err(Reject::new(ErrorCode::UNSUPPORTED, message).hint("use a later version of the tracker"));
            }
            None => return Err(damaged()),
        }
        let (signed, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or_else(damaged)?;
        if Sha256::digest(signed).as_slice() != digest {
            return Err(damaged());
        }
        let body = signed.get(MAGIC.len() + 1..).ok_or_else(damaged)?;
        codec::decode(body).map_err(|_| damaged())
    }
}

/// Has the tracker of `folder` copy itself into `file`, which is there as a whole or not at all.
///
/// # Errors
/// That none runs there, that the file exists, or cannot be written.
pub fn back_up(folder: &Path, file: &Path) -> Result<(), Reject> {
    if file.symlink_metadata().is_ok() {
        return Err(Reject::new(ErrorCode::DESTINATION_EXISTS, format!("{} exists already", file.display()))
            .hint("name a file that does not; a copy never takes the place of another"));
    }
    let is_current = status::text(folder, Question::CatchUp)? == "true";
    let mut bytes = Vec::new();
    admin::ask(folder, Question::Copy)?
        .take(COPY_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| admin::silent(folder, &error))?;
    let contents = Contents::decode(&bytes)?;
    let state = State::decode(&contents.state).map_err(|error| unusable(&error))?;
    write_new(file, &bytes).map_err(|error| {
        Reject::new(ErrorCode::NOT_WRITABLE, format!("{} cannot be written: {error}", file.display()))
            .hint("name a file in a folder that this user may write to")
    })?;
    let (size, digest) = (bytes.len(), hex(&Sha256::digest(state.encode())));
    println!("{} written: {size} bytes, {} places, state {digest}", file.display(), contents.place % EPOCH_PLACES);
    println!("It holds the tracker's keys: keep it where only you can read it.");
    if !is_current {
        let why = "this tracker has lost sight of the majority of its cluster, or is behind it";
        eprintln!("{} may be old: {why}; a copy of another one may hold more", file.display());
    }
    Ok(())
}

/// Puts a copy back into a state folder that has nothing: as a tracker that is alone.
///
/// # Errors
/// That the folder has something, or that the copy is not usable; nothing is changed then.
pub fn restore(folder: &Path, file: &Path) -> Result<(), Reject> {
    let bytes = fs::read(file).map_err(|error| {
        Reject::new(ErrorCode::FILE_UNREADABLE, format!("{} cannot be read: {error}", file.display()))
    })?;
    let contents = Contents::decode(&bytes)?;
    let mut state = State::decode(&contents.state).map_err(|error| unusable(&error))?;
    // As who takes over: what was granted, voided and read since the copy is of an earlier epoch. The second tells this from
    // another time that the copy is put back.
    let epoch = Epoch::of(contents.place).next(contents.tracker);
    state.void_earlier_counts(epoch.first_place().saturating_add(clock::now().0 / 1000));
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Reject::new(ErrorCode::WRONG_STATE, format!("the state folder {} is not empty", folder.display()))
            .hint("move what is there away, or name another with --home DIR"));
    }
    let disk = |error: &dyn std::fmt::Display| {
        Reject::new(ErrorCode::DISK_ERROR, format!("the state folder {} cannot be filled: {error}", folder.display()))
    };
    // Beside it first, so that a folder that is there is whole.
    let unfinished = unfinished(folder);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(&error)),
        _ => {}
    }
    private_folder::make_closed(&unfinished)?;
    write_new(&unfinished.join(KEY_FILE), &contents.key).map_err(|error| disk(&error))?;
    let identity = Identity::load_or_create(&unfinished).map_err(|error| disk(&error))?;
    let store = Store::open(&unfinished).map_err(|error| disk(&error))?;
    log::begin_alone(&store, contents.tracker, identity.node_id(), epoch.first_place() + 1, &state)
        .map_err(|error| disk(&error))?;
    drop(store);
    // An empty folder gives way.
    fs::rename(&unfinished, folder).map_err(|error| disk(&error))?;
    sync_parent(folder).map_err(|error| disk(&error))?;
    let (place, node) = (contents.place % EPOCH_PLACES, identity.node_id());
    println!("{} restored: tracker {}, id {node}, {place} places", folder.display(), contents.tracker);
    println!(
        "It is alone in its cluster. What was changed since the copy is gone, also what was taken away from somebody."
    );
    Ok(())
}

fn unfinished(folder: &Path) -> PathBuf {
    folder.with_extension("restoring")
}

fn unusable(error: &dyn std::fmt::Display) -> Reject {
    Reject::new(ErrorCode::INTEGRITY, format!("the copy's state is not usable: {error}")).hint("use another copy")
}

/// Writes a file that nobody else may read, and returns when it is on disk; where that fails, there is none.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Writes a file that nobody else may read in the place of one that may be there, and returns when it is on disk.
///
/// # Errors
/// Whatever the system answers; what was there is there still.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&unfinished, bytes)?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)
}

/// Has a file's name put on disk.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        Contents { taken: UnixMillis(1), tracker: 1, place: 7, key: b"key".to_vec(), state: b"state".to_vec() }
    }

    fn refusal(bytes: &[u8]) -> ErrorCode {
        Contents::decode(bytes).expect_err("no copy").code
    }

    #[test]
    fn the_bytes_of_a_copy_stay() {
        let golden = concat!(
            "7032702d747261636b65722d616c6c0101010703",
            "6b657905737461746562a7518b7e6b035e362173",
            "9a1f4a1e64fd0199bbfab256e2837c28a51770ed25",
        );
        assert_eq!(hex(&contents().encode()), golden);
        assert_eq!(Contents::decode(&contents().encode()), Ok(contents()));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let whole = contents().encode();
        for end in 0..whole.len() {
            let code = refusal(&whole[..end]);
            assert!([ErrorCode::MALFORMED, ErrorCode::INTEGRITY].contains(&code), "{end} bytes: {code:?}");
        }
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            let code = refusal(&damaged);
            let expected = match place {
                place if place < MAGIC.len() => ErrorCode::MALFORMED,
                place if place == MAGIC.len() => ErrorCode::UNSUPPORTED,
                _ => ErrorCode::INTEGRITY,
            };
            assert_eq!(code, expected, "byte {place}");
        }
        assert_eq!(refusal(&[&whole[..], b"x"].concat()), ErrorCode::INTEGRITY);
        assert_eq!(refusal(b"something else"), ErrorCode::MALFORMED);
    }
}
