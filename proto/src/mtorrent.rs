//! `.mtorrent` files: what a file of the group `public` holds and which trackers know of it, as text in the ancestors' layout.
//!
//! ```text
//! 192.0.2.10:9000#5d41…       a tracker, with its id where that is known
//! 192.0.2.11:9000             another one, or the first again
//! films/holiday 2026.mkv      the file's path as its publisher gave it
//! 1048577                     its bytes
//! 2fd4e1c6…                   the SHA-1 of each piece in order, 40 hexadecimal digits a line; an empty file has none
//! de9f2c7f…
//! 0b8c2b6e…                   the SHA-1 of all those lines without their ends
//! ```
//!
//! The last line is made from text, so that `sed -n '5,$p' F | sed '$d' | tr -d '\n' | sha1sum` checks it. Among the
//! ancestors some made it from the digests' own 20 bytes each: that is understood too where a file is read. A line ends
//! with a newline, before which a carriage return is passed over; the last line may lack its end. A tracker's line may
//! also be `IP PORT`, as in `tracker_info.txt`.
//!
//! A piece has the length that a manifest of SHA-1 digests gives it ([`Manifest::geometry_for`]: 512 KiB up to 409 GiB), so
//! the text says all that a manifest does, and the content id follows from it. Nothing else in it is believed: the path
//! is shown and its last component is a name; it never leads anywhere. Trackers are told of, not connected to.

use std::fmt::Write as _;

use sha1::Digest as _;

use crate::geometry::GeometryError;
use crate::manifest::{HashAlgorithm, Manifest};
use crate::name::{FileName, NameError};
use crate::reject::{ErrorCode, Reject};
use crate::tracker_info::{TrackerAddress, parse_tracker_info};

/// What the file's name ends with.
pub const SUFFIX: &str = ".mtorrent";

/// Longest path, in bytes: what Linux takes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;

/// Longest line of a tracker, in bytes: a host's name of 253, a port and an id of 64 digits, with room between them.
const TRACKER_BYTES_MAX: usize = 400;

/// Digits of the largest size, 2^64 - 1.
const SIZE_DIGITS_MAX: usize = 20;

/// The lines before the digests have no more bytes than this, their ends included.
pub const HEAD_BYTES_MAX: usize = 2 * TRACKER_BYTES_MAX + PATH_BYTES_MAX + SIZE_DIGITS_MAX + 4 * LINE_END_BYTES_MAX;

/// Digits of a digest.
const DIGEST_DIGITS: usize = 40;

/// A carriage return and a newline.
const LINE_END_BYTES_MAX: usize = 2;

/// Why a text is not a `.mtorrent`, or a file cannot have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MtorrentError {
    /// It ends before this line.
    #[error("line {0} is missing")]
    Missing(usize),
    /// A line has more bytes than what stands there can have, or is not text.
    #[error("line {line} is not {what}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        what: &'static str,
    },
    /// The file's own name is not allowed.
    #[error("the file's name, the last component of its path, is not allowed: {0}")]
    Name(NameError),
    /// A path that cannot stand in a line.
    #[error("a path with {0} cannot stand in a .mtorrent")]
    Path(&'static str),
    /// A size that cannot be divided into pieces.
    #[error(transparent)]
    Size(#[from] GeometryError),
    /// Too few or too many lines behind the size.
    #[error("a size of {length} bytes means {pieces} digests and their own, and so many lines do not follow")]
    Digests {
        /// Bytes that the file is said to have.
        length: u64,
        /// Pieces that it has then.
        pieces: u32,
    },
    /// The last line is not made from the digests above it.
    #[error("the digest in the last line is not that of the lines above it: the .mtorrent was changed or is damaged")]
    Checksum,
    /// A manifest of another kind.
    #[error("a .mtorrent describes pieces by SHA-1 and no whole file's digest")]
    Manifest,
}

impl From<MtorrentError> for Reject {
    fn from(error: MtorrentError) -> Reject {
        let code = match &error {
            MtorrentError::Name(_) | MtorrentError::Path(_) => ErrorCode::BAD_NAME,
            MtorrentError::Checksum => ErrorCode::INTEGRITY,
            MtorrentError::Manifest => ErrorCode::INTERNAL,
            MtorrentError::Missing(_)
            | MtorrentError::Line { .. }
            | MtorrentError::Size(_)
            | MtorrentError::Digests { .. } => ErrorCode::MALFORMED,
        };
        Reject::new(code, error.to_string())
    }
}

/// One `.mtorrent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mtorrent {
    trackers: [TrackerAddress; 2],
    path: String,
    name: FileName,
    manifest: Manifest,
}

impl Mtorrent {
    /// Describes a content and where it is known. `path` is the file's path as its publisher gave it.
    ///
    /// # Errors
    /// [`MtorrentError::Name`], [`MtorrentError::Path`], [`MtorrentError::Manifest`].
    pub fn new(trackers: [TrackerAddress; 2], path: String, manifest: Manifest) -> Result<Mtorrent, MtorrentError> {
        let name = file_name(&path)?;
        let length = manifest.geometry().length();
        let fits = manifest.hash() == HashAlgorithm::Sha1
            && manifest.whole_sha256().is_none()
            && Manifest::geometry_for(length, HashAlgorithm::Sha1).as_ref() == Ok(manifest.geometry());
        if fits { Ok(Mtorrent { trackers, path, name, manifest }) } else { Err(MtorrentError::Manifest) }
    }

    /// Reads a text. Room is made only for as many digests as there are lines of.
    ///
    /// # Errors
    /// Every [`MtorrentError`] but [`MtorrentError::Manifest`].
    pub fn parse(text: &[u8]) -> Result<Mtorrent, MtorrentError> {
        let mut lines = Lines { rest: Some(text), number: 0 };
        let Head { trackers, path, name, length } = Head::read(&mut lines)?;
        let geometry = Manifest::geometry_for(length, HashAlgorithm::Sha1)?;
        let pieces = geometry.piece_count();
        let miscounted = || MtorrentError::Digests { length, pieces };
        let digests_bytes = pieces as usize * (DIGEST_DIGITS + 1) + DIGEST_DIGITS;
        if lines.rest.map_or(0, <[u8]>::len) < digests_bytes {
            return Err(miscounted());
        }
        let mut digests = Vec::with_capacity(pieces as usize * DIGEST_DIGITS / 2);
        for _ in 0..pieces {
            digests.extend_from_slice(&lines.digest().ok_or_else(miscounted)??);
        }
        let last = lines.digest().ok_or_else(miscounted)??;
        if lines.rest.is_some_and(|rest| !rest.is_empty()) {
            return Err(miscounted());
        }
        let of_bytes: Sha1Bytes = sha1::Sha1::digest(&digests).into();
        if last != checksum(&digests) && last != of_bytes {
            return Err(MtorrentError::Checksum);
        }
        let manifest =
            Manifest::new(geometry, HashAlgorithm::Sha1, digests, None).map_err(|_| MtorrentError::Manifest)?;
        Ok(Mtorrent { trackers, path, name, manifest })
    }

    /// The most bytes that the whole of a text can have whose beginning, of at least [`HEAD_BYTES_MAX`] bytes where it has
    /// that many, is this: for who has to decide whether to read the rest.
    ///
    /// # Errors
    /// What [`Mtorrent::parse`] would say of the lines before the digests.
    pub fn text_bytes_max(beginning: &[u8]) -> Result<u64, MtorrentError> {
        let mut lines = Lines { rest: Some(beginning), number: 0 };
        let head = Head::read(&mut lines)?;
        let pieces = Manifest::geometry_for(head.length, HashAlgorithm::Sha1)?.piece_count();
        Ok(HEAD_BYTES_MAX as u64 + (u64::from(pieces) + 1) * (DIGEST_DIGITS + LINE_END_BYTES_MAX) as u64)
    }

    /// The text as it is written.
    pub fn to_text(&self) -> String {
        let digests = self.manifest.digests();
        let mut text = String::with_capacity(HEAD_BYTES_MAX + digests.len() * 2 + digests.len() / 20 + DIGEST_DIGITS);
        let [first, second] = &self.trackers;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{first}\n{second}\n{}\n{}", self.path, self.manifest.geometry().length());
        for digest in digests.chunks(DIGEST_DIGITS / 2) {
            let _ = writeln!(text, "{}", hex::encode(digest));
        }
        let _ = writeln!(text, "{}", hex::encode(checksum(digests)));
        text
    }

    /// The trackers that it names. Not to be connected to on its word alone.
    pub fn trackers(&self) -> &[TrackerAddress; 2] {
        &self.trackers
    }

    /// The file's path as its publisher gave it: to be shown, never to be opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's own name.
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// What the file holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// The name of the file at `path`, if that path can stand in a `.mtorrent`.
///
/// # Errors
/// [`MtorrentError::Name`], [`MtorrentError::Path`].
pub fn file_name(path: &str) -> Result<FileName, MtorrentError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(MtorrentError::Path("more than 4096 bytes"));
    }
    if path.contains(['\n', '\r']) {
        return Err(MtorrentError::Path("a line's end in it"));
    }
    if path.contains(char::is_control) {
        return Err(MtorrentError::Path("a control character in it"));
    }
    path.rsplit('/').next().unwrap_or_default().parse().map_err(MtorrentError::Name)
}

/// A digest as bytes.
type Sha1Bytes = [u8; DIGEST_DIGITS / 2];

/// The SHA-1 of digests as they are written, without the lines' ends. A checksum: what the content is follows from the
/// digests themselves.
fn checksum(digests: &[u8]) -> Sha1Bytes {
    let mut hash = sha1::Sha1::new();
    for digest in digests.chunks(DIGEST_DIGITS / 2) {
        hash.update(hex::encode(digest));
    }
    hash.finalize().into()
}

/// What stands before the digests.
struct Head {
    trackers: [TrackerAddress; 2],
    path: String,
    name: FileName,
    length: u64,
}

impl Head {
    fn read(lines: &mut Lines<'_>) -> Result<Head, MtorrentError> {
        let trackers = [lines.tracker()?, lines.tracker()?];
        let path = lines.text(PATH_BYTES_MAX, "a file's path")?.to_owned();
        let name = file_name(&path)?;
        let what = "a file's size, a decimal number of bytes";
        let digits = lines.text(SIZE_DIGITS_MAX, what)?;
        let size = if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None };
        let length = size.ok_or(MtorrentError::Line { line: lines.number, what })?;
        Ok(Head { trackers, path, name, length })
    }
}

/// The lines of a text, one after the other.
struct Lines<'a> {
    /// What has not been read; `None` behind a last line that has no end.
    rest: Option<&'a [u8]>,
    /// Of the line read last, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its end; `None` behind the last one.
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.filter(|rest| !rest.is_empty())?;
        self.number += 1;
        let line = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                &rest[..end]
            }
            None => {
                self.rest = None;
                rest
            }
        };
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next line as text of at most `max` bytes.
    fn text(&mut self, max: usize, what: &'static str) -> Result<&'a str, MtorrentError> {
        let line = self.next().ok_or(MtorrentError::Missing(self.number + 1))?;
        let text = if line.len() <= max { std::str::from_utf8(line).ok() } else { None };
        text.ok_or(MtorrentError::Line { line: self.number, what })
    }

    fn tracker(&mut self) -> Result<TrackerAddress, MtorrentError> {
        let what = "a tracker's address, HOST:PORT or HOST:PORT#ID";
        let text = self.text(TRACKER_BYTES_MAX, what)?;
        // The older spelling is a line of `tracker_info.txt`, but for the `#` before an id.
        let older = || parse_tracker_info(&text.replacen('#', " ", 1)).ok().and_then(|mut found| found.pop());
        text.parse().ok().or_else(older).ok_or(MtorrentError::Line { line: self.number, what })
    }

    /// The digest in the next line; `None` behind the last one.
    fn digest(&mut self) -> Option<Result<Sha1Bytes, MtorrentError>> {
        let line = self.next()?;
        let mut digest = Sha1Bytes::default();
        let decoded = hex::decode_to_slice(line, &mut digest);
        let what = "a SHA-1 of 40 hexadecimal digits";
        Some(decoded.map(|()| digest).map_err(|_| MtorrentError::Line { line: self.number, what }))
    }
}

#[cfg(test)]
mod tests;
