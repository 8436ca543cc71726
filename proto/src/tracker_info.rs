//! Where trackers are: `HOST:PORT[#NODE-ID]` as people type it, and `tracker_info.txt`, one `IP PORT [NODE-ID]` a line.
//!
//! ```text
//! # first tracker
//! 192.0.2.10 9000
//! 192.0.2.11 9000 5d41…(64 hexadecimal digits)
//! ```
//!
//! The order counts: `tracker tracker_info.txt ID` names a line by its place among the trackers, from 1.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use crate::id::NodeId;

/// Trackers in one list: more than any cluster has, and each costs a connection.
pub const TRACKERS_MAX: usize = 16;

/// Longest `tracker_info.txt` read, in bytes: the most lines it may have, with room for comments.
const TRACKER_INFO_BYTES_MAX: u64 = 64 * 1024;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Where a tracker is, and which key it must have where that was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerAddress {
    /// `HOST:PORT`, an IPv6 address in brackets; names are lower case.
    pub host_port: String,
    /// The name of its key.
    pub pin: Option<NodeId>,
}

/// A text that is not a tracker's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a tracker's address: {what}")]
pub struct TrackerAddressError {
    text: String,
    what: &'static str,
}

/// Why a list of trackers was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackerInfoError {
    /// A line that is not one tracker.
    #[error("line {line}: {error}")]
    Line {
        /// Which line of the file, from 1.
        line: usize,
        /// What is wrong with it.
        error: TrackerAddressError,
    },
    /// The same address again.
    #[error("line {line}: {host_port} is listed twice")]
    Twice {
        /// Which line of the file, from 1.
        line: usize,
        /// The address.
        host_port: String,
    },
    /// No line names a tracker.
    #[error("no tracker is listed")]
    Empty,
    /// More than [`TRACKERS_MAX`].
    #[error("more than {TRACKERS_MAX} trackers are listed")]
    TooMany,
}

impl TrackerAddress {
    /// The address of a host (name, IPv4 or IPv6, in brackets or not) and a port.
    fn new(text: &str, host: &str, port: &str, pin: Option<&str>) -> Result<TrackerAddress, TrackerAddressError> {
        let refused = |what| TrackerAddressError { text: text.chars().take(80).collect(), what };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bare {
            Some(v6) => {
                format!("[{}]", v6.parse::<Ipv6Addr>().map_err(|_| refused("no IPv6 address in the brackets"))?)
            }
            None => match host.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) => v4.to_string(),
                Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
                Err(_) if is_host_name(host) => host.to_ascii_lowercase(),
                Err(_) => return Err(refused("the host is neither a name nor an IP address")),
            },
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(refused("the port is not a number from 1 to 65535")),
        };
        let pin =
            pin.map(NodeId::from_str).transpose().map_err(|_| refused("the node id is not 64 hexadecimal digits"))?;
        Ok(TrackerAddress { host_port: format!("{host}:{port}"), pin })
    }
}

impl FromStr for TrackerAddress {
    type Err = TrackerAddressError;

    /// `HOST:PORT` or `HOST:PORT#NODE-ID`.
    fn from_str(text: &str) -> Result<TrackerAddress, TrackerAddressError> {
        let (place, pin) = match text.split_once('#') {
            Some((place, pin)) => (place, Some(pin)),
            None => (text, None),
        };
        match place.rsplit_once(':') {
            // Without brackets nobody can tell where an IPv6 address ends.
            Some((host, port)) if host.starts_with('[') || !host.contains(':') => {
                TrackerAddress::new(text, host, port, pin)
            }
            _ => Err(TrackerAddressError { text: text.chars().take(80).collect(), what: "it has to be HOST:PORT" }),
        }
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host_port)?;
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

/// The text of a `tracker_info.txt`. No more of it is read than the most trackers take, with room for comments.
///
/// # Errors
/// Why it cannot be read.
pub fn tracker_info_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TRACKER_INFO_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The trackers that a `tracker_info.txt` lists, in its order. Empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// Every [`TrackerInfoError`].
pub fn parse_tracker_info(text: &str) -> Result<Vec<TrackerAddress>, TrackerInfoError> {
    let mut trackers: Vec<TrackerAddress> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let words: Vec<&str> = content.split_ascii_whitespace().take(4).collect();
        let tracker = match words[..] {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [host, port] => TrackerAddress::new(content, host, port, None),
            [host, port, pin] => TrackerAddress::new(content, host, port, Some(pin)),
            _ => Err(TrackerAddressError {
                text: content.chars().take(80).collect(),
                what: "a line has to be IP PORT [NODE-ID]",
            }),
        };
        let tracker = tracker.map_err(|error| TrackerInfoError::Line { line, error })?;
        if trackers.iter().any(|other| other.host_port == tracker.host_port) {
            return Err(TrackerInfoError::Twice { line, host_port: tracker.host_port });
        }
        if trackers.len() == TRACKERS_MAX {
            return Err(TrackerInfoError::TooMany);
        }
        trackers.push(tracker);
    }
    if trackers.is_empty() { Err(TrackerInfoError::Empty) } else { Ok(trackers) }
}

/// Letters, digits, hyphens and underscores between dots; not all digits, which would be a mistyped address.
fn is_host_name(host: &str) -> bool {
    let label_fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= HOST_BYTES_MAX
        && host.strip_suffix('.').unwrap_or(host).split('.').all(label_fits)
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn an_address_reads_back_from_its_own_spelling() {
        for text in ["127.0.0.1:9000", "tracker.example:1", "[2001:db8::1]:65535"] {
            let address: TrackerAddress = text.parse().expect(text);
            assert_eq!((address.to_string().as_str(), address.pin), (text, None));
            let pinned = format!("{text}#{ID}");
            let address: TrackerAddress = pinned.parse().expect(text);
            assert_eq!((address.to_string(), address.pin.map(|pin| pin.to_string())), (pinned, Some(ID.to_owned())));
        }
        assert_eq!("Tracker.Example:9".parse::<TrackerAddress>().expect("a name").host_port, "tracker.example:9");
    }

    #[test]
    fn a_wrong_address_is_refused() {
        for text in [
            "",
            "host",
            ":9000",
            "host:",
            "host:0",
            "host:65536",
            "host:+1x",
            "host:9000#",
            "host:9000#12",
            "::1:9000",
            "[::1:9000",
            "[127.0.0.1]:9000",
            "300.1.1.1:9000",
            "a b:9000",
            "a..b:9000",
            "a/b:9000",
            "host:9000 ",
        ] {
            assert!(text.parse::<TrackerAddress>().is_err(), "{text}");
        }
        assert!(format!("{}:9000", "a".repeat(254)).parse::<TrackerAddress>().is_err());
    }

    #[test]
    fn a_file_lists_one_tracker_a_line() {
        let text = format!("# ours\n\n127.0.0.1 9000\r\n  ::1\t9001 {ID}  \nt.example 9002\n");
        let trackers = parse_tracker_info(&text).expect("parses");
        let places: Vec<_> = trackers.iter().map(|tracker| tracker.host_port.as_str()).collect();
        assert_eq!(places, ["127.0.0.1:9000", "[::1]:9001", "t.example:9002"]);
        assert_eq!(trackers[1].pin.map(|pin| pin.to_string()).as_deref(), Some(ID));
    }

    #[test]
    fn a_wrong_file_names_its_line() {
        let error = parse_tracker_info("127.0.0.1 9000\n127.0.0.1").expect_err("no port");
        assert!(matches!(error, TrackerInfoError::Line { line: 2, .. }), "{error}");
        let error = parse_tracker_info("127.0.0.1 9000 x y").expect_err("four words");
        assert!(matches!(error, TrackerInfoError::Line { line: 1, .. }), "{error}");
        let error = parse_tracker_info("127.0.0.1 9000\n\n127.0.0.1 9000").expect_err("twice");
        assert!(matches!(error, TrackerInfoError::Twice { line: 3, .. }), "{error}");
        assert_eq!(parse_tracker_info("\n# none\n"), Err(TrackerInfoError::Empty));
        let many: String = (1..=17).map(|port| format!("127.0.0.1 {port}\n")).collect();
        assert_eq!(parse_tracker_info(&many), Err(TrackerInfoError::TooMany));
    }
}
