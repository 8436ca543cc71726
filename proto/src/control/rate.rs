//! What `limit` asks for and tells.

use serde::{Deserialize, Serialize};

/// Limits of this node's rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateLimits {
    /// Bytes per second going out at the most, to all peers together; 0: no limit.
    pub up_limit: u64,
    /// Bytes per second coming in at the most, from all peers together; 0: no limit.
    pub down_limit: u64,
}
