//! Encoding: postcard, with every refusal named.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not an encoding of the type: cut short, a number out of range, a name that is not allowed, an unknown message.
    #[error("malformed message: {0}")]
    Malformed(postcard::Error),
    /// A whole message with something behind it.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// The bytes of `message`.
///
/// Cannot fail for the types of this crate: all have known lengths and no serializer of theirs refuses.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages have known lengths and serialize into memory")
}

/// The message that `bytes` hold, all of them.
///
/// Allocates no more than the bytes given can fill: postcard takes strings and byte strings from the input, and
/// sequences grow element by element.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes).map_err(CodecError::Malformed)? {
        (message, []) => Ok(message),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        assert_eq!(decode::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert!(decode::<Vec<u8>>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]).is_err());
        assert!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]).is_err());
        assert!(decode::<String>(&[0xff; 11]).is_err(), "a varint that overflows");
    }
}
