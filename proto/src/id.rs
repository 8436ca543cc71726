//! Ids: fixed-length byte strings that name nodes, contents, requests and downloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A text that is not the hexadecimal spelling of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of {digits} hexadecimal digits")]
pub struct IdError {
    text: String,
    digits: usize,
}

/// Defines an id of a fixed number of bytes: hexadecimal for people and JSON, raw bytes on the wire.
macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// The id's bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first eight hexadecimal digits, for logs and narrow tables.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(_) => Err(IdError { text: text.chars().take(80).collect(), digits: $bytes * 2 }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

define_id! {
    /// Names a node (one running `p2pd`) or a tracker: SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    NodeId, 32
}
define_id! {
    /// Names a content everywhere: SHA-256 of its encoded manifest.
    ContentId, 32
}
define_id! {
    /// Names a request to the tracker, chosen at random by who asks: a retry carries the same one and is applied once.
    RequestId, 16
}
define_id! {
    /// Names a download of one daemon, chosen at random; people use its first digits.
    DownloadId, 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_own_spelling() {
        let id = DownloadId([0xa9, 0x1f, 0, 1, 2, 3, 4, 0xff]);
        assert_eq!(id.to_string(), "a91f0001020304ff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_wrong_spelling_is_refused() {
        for text in ["", "a9", "zz1f0001020304ff", "a91f0001020304ff00"] {
            assert!(text.parse::<DownloadId>().is_err(), "{text}");
        }
    }
}
