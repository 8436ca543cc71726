//! Frames: a message behind its length, so that a stream carries several.
//!
//! ```text
//! 0        4            4 + length
//! +--------+------------+
//! | length |  message   |     length: u32, little-endian, of the message alone
//! +--------+------------+
//! ```

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};

/// Bytes before the message.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the place it arrived at allows; nothing was allocated for it.
    #[error("a frame of {length} bytes where at most {max} are allowed")]
    TooLong {
        /// What the prefix claims.
        length: usize,
        /// What is allowed here.
        max: usize,
    },
    /// The right length, but not a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// `message` as one frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let bytes = codec::encode(message);
    let length = u32::try_from(bytes.len()).expect("no message of ours comes near 4 GiB");
    let mut frame = Vec::with_capacity(PREFIX_BYTES + bytes.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&bytes);
    frame
}

/// The length that a prefix announces, refused above `max` before anything is allocated.
pub fn length(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > max { Err(FrameError::TooLong { length, max }) } else { Ok(length) }
}

/// The message of a frame whose prefix has been taken off.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(codec::decode(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_length_and_its_message() {
        assert_eq!(encode(&300u32), [2, 0, 0, 0, 0xac, 0x02]);
        assert_eq!(decode::<u32>(&[0xac, 0x02]), Ok(300));
    }

    #[test]
    fn a_length_over_the_limit_is_refused() {
        assert_eq!(
            length(u32::MAX.to_le_bytes(), 1024),
            Err(FrameError::TooLong { length: u32::MAX as usize, max: 1024 })
        );
        assert_eq!(length(1024u32.to_le_bytes(), 1024), Ok(1024));
    }
}
