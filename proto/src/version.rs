//! Versions of the protocols: one line of history each, and the ALPN names that carry them.

/// This program's name and version, as it is told in every Hello.
pub const SOFTWARE: &str = concat!("p2p ", env!("CARGO_PKG_VERSION"));

/// ALPN of the tracker protocol (RFC 7301).
pub const ALPN_TRACKER: &[u8] = b"p2p-tracker/1";

/// ALPN between the trackers of a cluster (RFC 7301). Its messages are of one version of the program; another one gets
/// another name.
pub const ALPN_RAFT: &[u8] = b"p2p-raft/1";

/// ALPN of the peer protocol (RFC 7301).
pub const ALPN_PEER: &[u8] = b"p2p-peer/1";

/// Tracker protocol. 1: the first.
pub const TRACKER_PROTOCOL: u16 = 1;

/// Peer protocol. 1: the first.
pub const PEER_PROTOCOL: u16 = 1;

/// Control protocol between `p2pctl` and `p2pd`. 1: the first.
pub const CONTROL_PROTOCOL: u16 = 1;
