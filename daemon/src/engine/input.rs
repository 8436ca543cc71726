//! Everything that can happen to the engine.

use std::path::PathBuf;
use std::time::Duration;

use p2p_proto::control;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::Grant;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId, NodeId};
use p2p_proto::name::FileName;
use p2p_proto::peer::{FromProvider, Interest, PieceRequest};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Event, HelloAck, Knowledge, Reply};
use p2p_proto::tracker_info::TrackerAddress;

use super::record::{Shape, SourceStamp};

/// A moment, told to the engine since it has no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Time since some fixed moment; never goes back.
    pub monotonic: Duration,
    /// What the wall clock says; may jump.
    pub wall: UnixMillis,
}

/// Defines a number that names something for as long as the daemon runs.
macro_rules! define_number {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);)*
    };
}

define_number! {
    /// A command connected to the control socket; numbered by `control`.
    CommandId;
    /// A tracker, by its place in the list that the daemon was given, from 0.
    TrackerId;
    /// A connection to a peer; numbered by `net`.
    ConnectionId;
    /// An interest that a peer opened here; numbered by `net`.
    ServedId;
    /// A request of a peer for a piece or manifest; numbered by `net`.
    UploadId;
    /// An interest opened by this daemon; numbered by the engine.
    InterestId;
    /// A piece or manifest being fetched; numbered by the engine.
    FetchId;
    /// Something else asked of a shell; numbered by the engine.
    AskId;
}

/// Everything that can happen. Sorted by the shell that tells it.
#[derive(Debug)]
pub enum Input {
    // control
    /// A command asks; it is answered by [`super::Output::Tell`] with that number.
    Command(CommandId, control::Request),
    /// The command hung up; nothing is told to it any more.
    CommandGone(CommandId),
    /// The operating system asks the daemon to end.
    Terminate,
    /// The settings were read again. A limit that is `None` stays as it is.
    Tuned {
        /// Bytes per second going out, 0 for no limit.
        up_limit: Option<u64>,
        /// Bytes per second coming in, likewise.
        down_limit: Option<u64>,
        /// [`super::Limits::active_downloads_max`].
        active_downloads_max: usize,
    },
    /// What is wrong with a watched folder, each by a number of its own; `None`: nothing any more.
    Watched(usize, Option<String>),

    // tracker_link
    /// A tracker accepted this daemon.
    TrackerConnected {
        /// Which.
        tracker: TrackerId,
        /// Its key's name.
        node: NodeId,
        /// What it said.
        ack: HelloAck,
        /// Time of one round trip.
        round_trip: Duration,
        /// TLS key exchange in use.
        key_exchange: String,
    },
    /// A tracker does not answer (any more); it is tried again without being asked to.
    TrackerLost {
        /// Which.
        tracker: TrackerId,
        /// What it is now: unreachable, another key, refused.
        state: control::TrackerState,
        /// Why.
        reason: Reject,
    },
    /// A tracker tells something.
    TrackerEvent(TrackerId, Event),
    /// What came of [`super::Output::AskTracker`], a register or a login.
    TrackerAnswered {
        /// Which question.
        ask: AskId,
        /// Who was asked.
        tracker: TrackerId,
        /// What came of it.
        reply: Reply,
        /// How much that tracker knew; `None` where it has not answered.
        knowledge: Option<Knowledge>,
    },

    // net
    /// A connection to a peer is there, both Hellos exchanged.
    PeerConnected {
        /// Its number.
        connection: ConnectionId,
        /// Who, by verified key.
        node: NodeId,
        /// Whether this daemon dialled.
        dialled: bool,
        /// The other daemon's life ([`p2p_proto::peer::Hello::instance`]).
        instance: u64,
    },
    /// A connection is gone, with everything on it: its interests, requests and fetches are each told too.
    PeerLost {
        /// Which.
        connection: ConnectionId,
        /// Whether the other end closed it because others need the place.
        busy: bool,
    },
    /// None of the addresses led to that peer.
    DialFailed {
        /// Whom.
        node: NodeId,
        /// Why, for the log.
        reason: String,
        /// Whether somebody is there who has no room at present.
        busy: bool,
    },
    /// A provider tells what it has.
    Offered(InterestId, FromProvider),
    /// An interest of this daemon ended: refused, reset or lost.
    InterestClosed(InterestId, Option<Reject>),
    /// A peer opens an interest here.
    InterestOpened {
        /// Its number.
        served: ServedId,
        /// On which connection.
        connection: ConnectionId,
        /// What it shows.
        interest: Interest,
    },
    /// The peer shows a fresh grant.
    InterestRenewed(ServedId, Grant),
    /// The peer's interest ended.
    ServedClosed(ServedId),
    /// A peer asks for a piece: answered by [`super::Output::ServePiece`] or [`super::Output::RefuseUpload`].
    PieceRequested(UploadId, ConnectionId, PieceRequest),
    /// A peer asks for a manifest: answered by [`super::Output::ServeManifest`] or [`super::Output::RefuseUpload`].
    ManifestRequested(UploadId, ConnectionId, ContentId),

    // net and store together, wired by the driver
    /// What was to be served is sent, or could not be; so many bytes of payload were.
    UploadEnded(UploadId, u64),
    /// The end of [`super::Output::FetchManifest`]: verified and kept, or not.
    ManifestFetched(FetchId, Result<Shape, FetchError>),
    /// The end of [`super::Output::FetchPiece`]: verified and written, or not. Told once, also after a cancel.
    PieceFetched {
        /// Which.
        fetch: FetchId,
        /// Bytes received.
        received_bytes: u64,
        /// The connection's round trip as QUIC measures it.
        round_trip: Duration,
        /// How it ended.
        result: Result<(), FetchError>,
    },

    // control and store together, wired by the driver
    /// The end of [`super::Output::StreamPiece`]: the command has taken all of it, or it could not be read. Where the command
    /// has hung up, that is told instead.
    PieceStreamed(DownloadId, Result<(), Reject>),
    /// The end of [`super::Output::CheckStream`].
    StreamChecked(DownloadId, Result<(), Reject>),

    // store
    /// Pieces of a download's part file that survive a power cut now.
    PiecesDurable(DownloadId, Vec<PieceIndex>),
    /// Syncing written pieces failed: they must not be believed, and the download stops.
    SyncFailed(DownloadId, Reject),
    /// The file at this path is no longer what was shared.
    SourceChanged(ContentId, PathBuf, Reject),
    /// It looks as it did again, and can be read.
    SourceBack(ContentId, PathBuf),
    /// What the daemon remembers can no longer be kept: it ends, to start again from what is on disk.
    JournalLost(Reject),
    /// How far hashing is.
    ImportProgress {
        /// Which.
        ask: AskId,
        /// Bytes hashed.
        done_bytes: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// The end of [`super::Output::Import`]; the manifest is in the store.
    Imported(AskId, Result<Imported, Reject>),
    /// The end of [`super::Output::OpenPart`]: the pieces that are there; `content_not_found` while the manifest is not.
    PartOpened(DownloadId, Result<Opened, Reject>),
    /// The end of [`super::Output::FinishPart`] or [`super::Output::CopyLocal`]: the file is in its place.
    PartFinished(DownloadId, Result<SourceStamp, Reject>),
    /// The end of [`super::Output::VerifyPart`].
    PartVerified(AskId, DownloadId, Result<PiecesFound, Reject>),
    /// The end of [`super::Output::LookForRoom`].
    RoomLookedFor(DownloadId, bool),
    /// The end of [`super::Output::DiscardPart`].
    PartDiscarded(DownloadId, Result<(), Reject>),
    /// The end of [`super::Output::Remember`].
    Remembered(AskId, Result<(), Reject>),
    /// The end of [`super::Output::DescribeContent`].
    Described(AskId, Result<Description, Reject>),
    /// The end of [`super::Output::ResolveDestination`]: the file to make.
    DestinationResolved(AskId, Result<PathBuf, Reject>),
    /// The end of [`super::Output::MeasureDisk`]: bytes free.
    DiskMeasured(AskId, Option<u64>),
    /// The end of [`super::Output::ReadMtorrent`]; the manifest is in the store.
    MtorrentRead(AskId, Result<MtorrentRead, Reject>),
    /// The end of [`super::Output::WriteMtorrent`].
    MtorrentWritten(AskId, Result<(), Reject>),
}

/// A part file that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The pieces that are to be here in the end, where not all are.
    pub wanted: Option<HaveMap>,
    /// How the content divides.
    pub shape: Shape,
    /// The pieces that are in it, verified and durable.
    pub have: HaveMap,
}

/// What was found of a download when it was hashed again. Pieces that are bad are no longer marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PiecesFound {
    /// Whether it is the finished file, in its place.
    pub in_place: bool,
    /// Pieces of the whole.
    pub pieces: u32,
    /// Those that were marked, and so were hashed.
    pub checked: u32,
    /// Those that are not what their digests say.
    pub bad: Vec<PieceIndex>,
    /// Bytes of the others.
    pub good_bytes: u64,
}

/// A file that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What it holds.
    pub content: ContentId,
    /// How it divides.
    pub shape: Shape,
    /// How it looked.
    pub stamp: SourceStamp,
    /// SHA-256 of the whole, where asked for.
    pub whole_sha256: Option<[u8; 32]>,
    /// Time spent.
    pub elapsed: Duration,
    /// What is to be said of a folder; `None` for a file.
    pub folder: Option<ImportedFolder>,
}

/// A folder that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFolder {
    /// Number of its files.
    pub files: u32,
    /// Folders within it that hold nothing: they are left out.
    pub empty_folders: u32,
    /// Symbolic links that were followed.
    pub links: u32,
    /// The first of them, with what they lead to.
    pub followed: Vec<String>,
}

/// A manifest as `file_info` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// How the content divides.
    pub shape: Shape,
    /// The digest of every piece, in order.
    pub digests: Vec<Vec<u8>>,
    /// SHA-256 of the whole, where it was recorded.
    pub whole_sha256: Option<[u8; 32]>,
}

/// What a `.mtorrent` says that the engine has to know. None of it is believed but that the content has these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtorrentRead {
    /// The file's own name.
    pub name: FileName,
    /// What the file holds.
    pub content: ContentId,
    /// Bytes.
    pub length: u64,
    /// Where it is said to be known.
    pub trackers: [TrackerAddress; 2],
}

/// Why a fetch brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The bytes are not what their digest says: the peer's fault.
    Corrupt,
    /// The peer refuses.
    Refused(Reject),
    /// The stream or connection broke, or nothing came in time.
    Lost,
    /// The engine cancelled it.
    Cancelled,
    /// The bytes could not be written here.
    Store(Reject),
}

#[cfg(test)]
impl Input {
    /// The answer of the first tracker, which is alone.
    pub fn answered(ask: AskId, reply: Reply) -> Input {
        Input::TrackerAnswered { ask, tracker: TrackerId(0), reply, knowledge: None }
    }
}
