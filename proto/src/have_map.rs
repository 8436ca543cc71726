//! Which pieces somebody has: one bit a piece, most significant first, as in BitTorrent (BEP 3, `bitfield`).

use serde::{Deserialize, Serialize};

use crate::geometry::PieceIndex;

/// A set of pieces of one content.
#[derive(Clone, PartialEq, Eq)]
pub struct HaveMap {
    bits: Vec<u8>,
    count: u32,
    set: u32,
}

/// A have-map as it travels. All pieces, the usual case, is one byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireHaveMap {
    /// Every piece.
    All,
    /// One bit a piece, the highest bit of the first byte first; spare bits at the end are 0.
    Bits(Vec<u8>),
}

/// A have-map that does not fit its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a have-map of {bytes} bytes, or with bits set beyond the end, for {count} pieces")]
pub struct HaveMapError {
    bytes: usize,
    count: u32,
}

impl HaveMap {
    /// No piece of `count`.
    pub fn empty(count: u32) -> HaveMap {
        HaveMap { bits: vec![0; count.div_ceil(8) as usize], count, set: 0 }
    }

    /// Every piece of `count`.
    pub fn full(count: u32) -> HaveMap {
        let mut map = HaveMap { bits: vec![0xff; count.div_ceil(8) as usize], count, set: count };
        if let (Some(last), spare @ 1..) = (map.bits.last_mut(), count.div_ceil(8) * 8 - count) {
            *last <<= spare;
        }
        map
    }

    /// The map that bytes from outside stand for; the wrong length and spare bits that are set are refused.
    pub fn from_wire(wire: &WireHaveMap, count: u32) -> Result<HaveMap, HaveMapError> {
        match wire {
            WireHaveMap::All => Ok(HaveMap::full(count)),
            WireHaveMap::Bits(bits) => HaveMap::from_bits(bits, count),
        }
    }

    /// The map with these bits, one a piece.
    pub fn from_bits(bits: &[u8], count: u32) -> Result<HaveMap, HaveMapError> {
        let spare_clear = bits.iter().zip(&HaveMap::full(count).bits).all(|(given, allowed)| given & !allowed == 0);
        if bits.len() != count.div_ceil(8) as usize || !spare_clear {
            return Err(HaveMapError { bytes: bits.len(), count });
        }
        let set = bits.iter().map(|byte| byte.count_ones()).sum();
        Ok(HaveMap { bits: bits.to_vec(), count, set })
    }

    /// This map as it travels.
    pub fn to_wire(&self) -> WireHaveMap {
        if self.is_full() { WireHaveMap::All } else { WireHaveMap::Bits(self.bits.clone()) }
    }

    /// The bits, one a piece.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Whether `piece` is in the set; a piece beyond the end never is.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.bits.get(piece.as_usize() / 8).is_some_and(|byte| byte & mask(piece) != 0)
    }

    /// Adds a piece; true if it is new. A piece beyond the end is not added.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.count || self.contains(piece) {
            return false;
        }
        self.bits[piece.as_usize() / 8] |= mask(piece);
        self.set += 1;
        true
    }

    /// Takes a piece out; true if it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.bits[piece.as_usize() / 8] &= !mask(piece);
        self.set -= 1;
        true
    }

    /// Number of pieces in the content.
    pub fn piece_count(&self) -> u32 {
        self.count
    }

    /// Number of pieces in the set.
    pub fn len(&self) -> u32 {
        self.set
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Whether every piece is in the set; an empty content is complete.
    pub fn is_full(&self) -> bool {
        self.set == self.count
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.count).map(PieceIndex).filter(|piece| self.contains(*piece))
    }
}

impl std::fmt::Debug for HaveMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HaveMap({} of {})", self.set, self.count)
    }
}

/// The bit of a piece within its byte.
fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let mut map = HaveMap::empty(10);
        assert!(map.insert(PieceIndex(0)) && map.insert(PieceIndex(9)));
        assert_eq!(map.to_wire(), WireHaveMap::Bits(vec![0x80, 0x40]));
        assert!(!map.insert(PieceIndex(9)) && !map.insert(PieceIndex(10)));
        assert_eq!(map.len(), 2);
        assert!(map.remove(PieceIndex(0)) && !map.remove(PieceIndex(0)));
        assert_eq!(map.iter().collect::<Vec<_>>(), [PieceIndex(9)]);
    }

    #[test]
    fn full_maps_of_every_length_survive_the_wire() {
        for count in 0..40 {
            let full = HaveMap::full(count);
            assert!(full.is_full() && full.iter().count() == count as usize);
            assert_eq!(HaveMap::from_wire(&full.to_wire(), count), Ok(full.clone()));
            assert_eq!(HaveMap::from_bits(full.bits(), count), Ok(full));
        }
    }

    #[test]
    fn a_map_of_the_wrong_length_or_with_spare_bits_is_refused() {
        assert!(HaveMap::from_bits(&[0xff], 9).is_err());
        assert!(HaveMap::from_bits(&[0xff, 0x40], 9).is_err());
        assert!(HaveMap::from_bits(&[0xff, 0x80], 9).is_ok());
        assert!(HaveMap::from_bits(&[0], 0).is_err());
    }
}
