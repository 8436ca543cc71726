//! Messages between two daemons, and the codes their streams and connections end with.
//!
//! One connection per pair of nodes, whoever dialled. The dialler opens the first bidirectional stream with [`Hello`]
//! and waits for [`HelloAck`]: until then a QUIC connection says nothing about whether the other end accepted it.
//! After that either side opens bidirectional streams, each beginning with one [`Open`] frame:
//!
//! ```text
//! Interest  →  ← HaveMap | Refused … ← Have ← Load ← Queue …  → Renew …      lives as long as the download
//! Piece     →  ← PieceReply ← raw bytes                              one a request, many at once
//! Manifest  →  ← ManifestReply ← raw bytes
//! ```
//!
//! An interest is opened by who downloads; two daemons that download the same content from each other have two.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::geometry::PieceIndex;
use crate::grant::Grant;
use crate::have_map::WireHaveMap;
use crate::id::ContentId;
use crate::name::GroupName;
use crate::reject::Reject;

/// The dialler's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version spoken ([`crate::version::PEER_PROTOCOL`]).
    pub version: u16,
    /// Name and version of the program, for logs; at most [`crate::limit::SOFTWARE_BYTES_MAX`] bytes.
    pub software: String,
    /// Drawn at random at each start: tells a peer that the connections of an earlier life are dead.
    pub instance: u64,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// Protocol version spoken.
    pub version: u16,
    /// Name and version of the program, for logs.
    pub software: String,
    /// As in [`Hello::instance`].
    pub instance: u64,
    /// The address that the dialler is seen at.
    pub observed: SocketAddr,
}

/// First frame of every bidirectional stream after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// "I download this content": asks for have-map, updates and permission.
    Interest(Interest),
    /// Asks for one piece, permitted by an interest.
    Piece(PieceRequest),
    /// Asks for the manifest, permitted by an interest.
    Manifest(ContentId),
}

/// What a downloader shows to be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    /// What it downloads.
    pub content: ContentId,
    /// The group through which it may.
    pub group: GroupName,
    /// The tracker's word for it.
    pub grant: Grant,
}

/// One piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRequest {
    /// Of which content.
    pub content: ContentId,
    /// Which one.
    pub piece: PieceIndex,
}

/// Further frames on an interest, from who downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDownloader {
    /// A fresh grant, before the old one ends.
    Renew(Grant),
}

/// Frames on an interest, from who serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromProvider {
    /// First of all: what is here.
    HaveMap(WireHaveMap),
    /// Pieces that have come since; at most [`crate::limit::HAVE_PIECES_MAX`].
    Have(Vec<PieceIndex>),
    /// How busy the provider is.
    Load(Load),
    /// Not (or no longer) served; the stream ends behind it.
    Refused(Reject),
    /// How the downloader's requests fare in the queue; told again and again while any of them waits, so that waiting is
    /// not taken for silence.
    Queue(QueueHint),
}

/// How the requests of one interest fare in the provider's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueHint {
    /// Requests of this interest that wait.
    pub waiting: u32,
    /// Requests of others that will be served before the first of them.
    pub ahead: u32,
    /// Bytes per second that the provider sends at the most, to all together; 0: no limit.
    pub up_limit: u64,
}

/// How busy a provider is: a hint for choosing whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Requests of all peers that wait for their turn.
    pub queued_requests: u32,
    /// By how many nodes like the one that is told what is sent is shared: the users that are served, each counted as often
    /// as the told one's user has nodes here.
    pub active_peers: u32,
}

/// First frame of the answer to a piece request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceReply {
    /// So many raw bytes follow, then the stream finishes.
    Bytes(u32),
    /// Not served.
    Refused(Reject),
}

/// First frame of the answer to a manifest request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestReply {
    /// So many raw bytes follow, at most [`crate::limit::MANIFEST_BYTES_MAX`]; then the stream finishes.
    Bytes(u32),
    /// Not served.
    Refused(Reject),
}

/// Codes of a stream's reset or stop (RFC 9000, section 19.4).
pub mod stream_code {
    /// The request is no longer needed.
    pub const CANCELLED: u32 = 1;
    /// What was sent is not a message.
    pub const MALFORMED: u32 = 2;
    /// The sender could not go on; asking again may work.
    pub const FAILED: u32 = 3;
    /// The sender took too long.
    pub const TIMED_OUT: u32 = 4;
    /// Who asks may no longer read it; the interest says why.
    pub const REFUSED: u32 = 5;
}

/// Codes of a connection's close (RFC 9000, section 19.19), for both protocols.
pub mod close_code {
    /// Nothing more to say.
    pub const DONE: u32 = 0;
    /// Another connection between the two nodes is kept.
    pub const DUPLICATE: u32 = 1;
    /// The program ends.
    pub const SHUTDOWN: u32 = 2;
    /// The other end broke the protocol.
    pub const PROTOCOL: u32 = 3;
    /// Too many connections, streams or requests.
    pub const BUSY: u32 = 4;
    /// The Hello did not come in time, or has a version not spoken here.
    pub const HELLO: u32 = 5;
    /// This node is not served here.
    pub const BANNED: u32 = 6;
}
