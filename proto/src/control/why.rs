//! What `why` tells: what keeps a download from going on, or from going faster, with its figures.

use serde::{Deserialize, Serialize};

use super::Download;
use crate::id::NodeId;
use crate::name::UserName;
use crate::time::UnixMillis;

/// The present bottleneck of a download.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The download, as `show_downloads` shows it.
    pub download: Download,
    /// What it is.
    pub bottleneck: Bottleneck,
    /// The same as a sentence, where the figures do not say all.
    pub reason: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
    /// Since when nothing has come.
    pub waiting_since: Option<UnixMillis>,
    /// When it is tried again by itself.
    pub retry_at: Option<UnixMillis>,
    /// Bytes per second that the limit leaves, this node's own or the peers' together.
    pub limit: Option<u64>,
    /// Downloads that receive now, where it waits in the queue.
    pub active: Option<u32>,
    /// How many come first: downloads in the queue here, or requests in the queue of the peer where it is shortest.
    pub ahead: Option<u32>,
    /// Whose node was the last to have all of it.
    pub last_seeder: Option<UserName>,
    /// When that node was last online.
    pub last_seen: Option<UnixMillis>,
    /// Who is known to have some of it.
    pub peers: Vec<PeerOfDownload>,
}

/// What can be the bottleneck of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// Nothing: it is complete.
    None,
    /// It was paused.
    Paused,
    /// A full disk stopped it.
    DiskFull,
    /// Another fault stopped it.
    Fault,
    /// Other downloads receive, and come first.
    Queue,
    /// Another download brings the same content.
    SameContent,
    /// What is here is being checked.
    Checking,
    /// No tracker answers.
    NoTracker,
    /// No tracker has given leave to read the group.
    NoGrant,
    /// The group lists it no longer, and nobody serves it.
    NotListed,
    /// Nobody online has it.
    NoSeeder,
    /// Nobody online has the pieces that are missing.
    MissingPieces,
    /// Those who have it cannot be reached.
    Unreachable,
    /// Connections to those who have it are being made.
    Connecting,
    /// What came was not what its digest says.
    BadPeers,
    /// The limit of what comes in here.
    OwnLimit,
    /// The limits of what those send who have it.
    PeerLimit,
    /// The queues of those who have it.
    PeerQueue,
    /// How fast those send who have it, or the way from them.
    PeerSpeed,
    /// The program that reads the standard output it goes to.
    Reader,
}

/// One peer of a download.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerOfDownload {
    /// Which node.
    pub node: NodeId,
    /// Whose, where a tracker has told.
    pub user: Option<UserName>,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Pieces it has; `None` where it has not told.
    pub pieces: Option<u32>,
    /// Requests that it has not answered yet.
    pub requests: u32,
    /// Bytes per second that come from it for this download.
    pub rate: u64,
    /// Those of the requests that wait in its queue, as it says.
    pub waiting: u32,
    /// Requests of others that it says come first.
    pub ahead: u32,
    /// Bytes per second that it says it sends to all together at the most; 0: it has told of no limit.
    pub up_limit: u64,
}
