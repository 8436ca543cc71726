//! `limit`: how fast this node sends and receives at the most.

use bytesize::ByteSize;
use p2p_proto::control::Request;

use crate::error::Failure;
use crate::session::Session;

/// Show or change how fast this node sends and receives at the most
///
/// RATE is in bytes per second, as 500KB, 10MB, or 1.5MiB; 0 is no limit. A change takes effect at once, also for what is
/// under way, and is kept. Without options, the limits are shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl limit --up 2MB --down 10MB\n  p2pctl limit --up 0")]
pub struct Limit {
    /// What goes out to all peers together
    #[arg(long, value_name = "RATE", value_parser = rate)]
    up: Option<u64>,
    /// What comes in from all peers together
    #[arg(long, value_name = "RATE", value_parser = rate)]
    down: Option<u64>,
}

impl Limit {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        session.show(Request::Limit { up: self.up, down: self.down })
    }
}

/// Bytes per second, as people write them.
fn rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    let parsed = size.parse::<ByteSize>().map(|size| size.as_u64());
    // What no number of bytes can be is read as the largest there is.
    parsed
        .ok()
        .filter(|rate| *rate < u64::MAX)
        .ok_or_else(|| format!("`{text}` is no rate; write it as 500KB, 10MB or 0"))
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
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "MB", "10XB", "fast", "1e3", "99999999999999999999GB"] {
            assert!(rate(text).is_err(), "{text}: {:?}", rate(text));
        }
    }
}
