//! What `verify` tells: what is here of a download, hashed again.

use serde::{Deserialize, Serialize};

use super::Download;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The download, after what was found to be bad was taken out.
    pub download: Download,
    /// Pieces of the whole file.
    pub pieces: u32,
    /// Those that were here and were hashed.
    pub checked_pieces: u32,
    /// Numbers of those that are not what their digests say, in order.
    pub bad_pieces: Vec<u32>,
}
