//! How a length divides into pieces: the only place that multiplies or divides piece numbers.
//!
//! An index that exists can only be made by [`Geometry::piece`], which checks it.

use std::num::NonZeroU64;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::limit::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};

/// Number of a piece within its content, from 0. Small enough for the wire and for a `Vec` index on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// The index into a table with one entry a piece.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Why a length cannot be divided as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Not a power of two between the smallest and the largest piece.
    #[error("a piece length of {0} bytes is not a power of two between {PIECE_BYTES_MIN} and {PIECE_BYTES_MAX}")]
    PieceLength(u64),
    /// More pieces than a number can count.
    #[error("{0} bytes are more than can be divided into pieces")]
    TooLong(u64),
}

/// The division of a content into pieces of one length, the last one shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    length: u64,
    piece_length: NonZeroU64,
    count: u32,
}

impl Geometry {
    /// The division of `length` bytes into pieces of `piece_length` bytes.
    pub fn new(length: u64, piece_length: u64) -> Result<Geometry, GeometryError> {
        let allowed = piece_length.is_power_of_two() && (PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&piece_length);
        let piece_length =
            NonZeroU64::new(piece_length).filter(|_| allowed).ok_or(GeometryError::PieceLength(piece_length))?;
        let count = u32::try_from(length.div_ceil(piece_length.get())).map_err(|_| GeometryError::TooLong(length))?;
        Ok(Geometry { length, piece_length, count })
    }

    /// The division used for a new content: the smallest pieces whose digests fit `digests_max` entries.
    pub fn for_length(length: u64, digests_max: u64) -> Result<Geometry, GeometryError> {
        let mut piece_length = PIECE_BYTES_MIN;
        while length.div_ceil(piece_length) > digests_max {
            piece_length *= 2;
            if piece_length > PIECE_BYTES_MAX {
                return Err(GeometryError::TooLong(length));
            }
        }
        Geometry::new(length, piece_length)
    }

    /// Bytes of the whole content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub fn piece_length(&self) -> u64 {
        self.piece_length.get()
    }

    /// Number of pieces; an empty content has none.
    pub fn piece_count(&self) -> u32 {
        self.count
    }

    /// The piece with this number, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.count).then_some(PieceIndex(index))
    }

    /// Every piece in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.count).map(PieceIndex)
    }

    /// Where a piece lies in the content, in bytes. A number beyond the last piece gives an empty range at the end.
    pub fn byte_range(&self, piece: PieceIndex) -> Range<u64> {
        // u32 × 32 MiB stays below 2^57: no overflow.
        let start = (u64::from(piece.0) * self.piece_length.get()).min(self.length);
        let end = start.saturating_add(self.piece_length.get()).min(self.length);
        start..end
    }

    /// The pieces that hold any byte of a range of the content, in order.
    pub fn pieces_in(&self, range: Range<u64>) -> impl Iterator<Item = PieceIndex> + use<> {
        let end = if range.is_empty() { 0 } else { range.end.div_ceil(self.piece_length.get()) };
        let numbers = range.start / self.piece_length.get()..end.min(self.count.into());
        numbers.filter_map(|number| u32::try_from(number).ok().map(PieceIndex))
    }

    /// Bytes of one piece.
    pub fn piece_bytes(&self, piece: PieceIndex) -> u64 {
        let range = self.byte_range(piece);
        range.end - range.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_length_exactly_or_it_is_refused() {
        let p = PIECE_BYTES_MIN;
        for length in [0, 1, p - 1, p, p + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1] {
            let geometry = Geometry::new(length, p).expect("divides");
            let mut end = 0;
            for piece in geometry.pieces() {
                let range = geometry.byte_range(piece);
                assert_eq!(range.start, end);
                assert!(range.end > range.start);
                end = range.end;
            }
            assert_eq!(end, length);
            assert_eq!(geometry.piece(geometry.piece_count()), None);
        }
        for length in [1 << 63, u64::MAX] {
            assert_eq!(Geometry::new(length, p), Err(GeometryError::TooLong(length)));
            assert_eq!(Geometry::for_length(length, 524_000), Err(GeometryError::TooLong(length)));
        }
    }

    #[test]
    fn only_powers_of_two_in_range_are_piece_lengths() {
        for bad in [0, 1, PIECE_BYTES_MIN / 2, PIECE_BYTES_MIN + 1, PIECE_BYTES_MIN * 3, PIECE_BYTES_MAX * 2, u64::MAX]
        {
            assert_eq!(Geometry::new(10, bad), Err(GeometryError::PieceLength(bad)));
        }
    }

    #[test]
    fn pieces_grow_when_their_digests_would_not_fit() {
        assert_eq!(Geometry::for_length(100 * PIECE_BYTES_MIN, 100).expect("fits").piece_length(), PIECE_BYTES_MIN);
        assert_eq!(
            Geometry::for_length(100 * PIECE_BYTES_MIN + 1, 100).expect("fits").piece_length(),
            2 * PIECE_BYTES_MIN
        );
    }
}
