//! The wall clock: the only place that reads it.

use std::time::SystemTime;

use p2p_proto::time::UnixMillis;

/// Now.
pub fn now() -> UnixMillis {
    SystemTime::now().into()
}
