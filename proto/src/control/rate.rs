//! Limits of rates: what `limit` asks for and tells, and how people write them.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::limit::RATE_LIMIT_BYTES_PER_SECOND_MIN;
use crate::reject::{ErrorCode, Reject};

/// Limits of this node's rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateLimits {
    /// Bytes per second going out at the most, to all peers together; 0: no limit.
    pub up_limit: u64,
    /// Bytes per second coming in at the most, from all peers together; 0: no limit.
    pub down_limit: u64,
}

/// Bytes per second, as people write them: 500KB, 10MB, 1.5MiB.
///
/// # Errors
/// That a text is none.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    let parsed = size.parse::<ByteSize>().map(|size| size.as_u64());
    // What no number of bytes can be is read as the largest there is.
    parsed
        .ok()
        .filter(|rate| *rate < u64::MAX)
        .ok_or_else(|| format!("`{text}` is no rate; write it as 500KB, 10MB or 0"))
}

/// Refuses a limit under which pieces would not arrive in time; 0 is none.
///
/// # Errors
/// That it is too low, with the lowest that is not.
pub fn check_rate_limit(rate: u64) -> Result<(), Reject> {
    if !(1..RATE_LIMIT_BYTES_PER_SECOND_MIN).contains(&rate) {
        return Ok(());
    }
    let message = format!("a limit of {rate} bytes per second is too low for pieces to arrive in time");
    let hint = format!("the lowest is {RATE_LIMIT_BYTES_PER_SECOND_MIN} (32 KiB/s); 0 is none");
    Err(Reject::new(ErrorCode::USAGE, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let read = [
            ("0", 0),
            ("40000", 40_000),
            ("10MB", 10_000_000),
            ("10mb/s", 10_000_000),
            ("1.5MiB", 3 << 19),
            ("256KB", 256_000),
            ("2 GiB", 2 << 30),
        ];
        for (text, bytes) in read {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "MB", "10XB", "fast", "1e3", "99999999999999999999GB"] {
            assert!(parse_rate(text).is_err(), "{text}: {:?}", parse_rate(text));
        }
    }
}
