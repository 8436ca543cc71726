//! Everything that the engine can ask of the shells.

use std::net::SocketAddr;
use std::path::PathBuf;

use p2p_proto::control;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::Grant;
use p2p_proto::id::{ContentId, DownloadId, NodeId, RequestId};
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::{FileName, UserName};
use p2p_proto::peer::{FromProvider, Interest};
use p2p_proto::reject::Reject;
use p2p_proto::tracker::{self, Envelope};
use p2p_proto::tracker_info::TrackerAddress;

use super::input::{AskId, CommandId, ConnectionId, FetchId, InterestId, ServedId, TrackerId, UploadId};
use super::record::{Change, DownloadRecord};

/// Everything that can be asked. Sorted by the shell that does it.
#[derive(Debug)]
pub enum Output {
    // control
    /// A frame for a command; after a [`control::Frame::Result`] nothing more comes.
    Tell(CommandId, control::Frame),
    /// A line for the log: something an operator may want to know.
    Note(String),
    /// A download is complete, in its place and remembered to be. Told once for each time that one is.
    Completed(Box<DownloadRecord>),
    /// End the process: sync what is written, close connections, exit; with an error if something forces it.
    Exit(Result<(), Reject>),

    // tracker_link
    /// Ask a tracker; answered by [`super::Input::TrackerAnswered`], also when it is lost meanwhile.
    AskTracker(AskId, TrackerId, Envelope),
    /// Make an account there (OPAQUE); answered likewise.
    Register(AskId, TrackerId, UserName, control::Password),
    /// Enrol this node's key there (OPAQUE); answered likewise.
    Login(AskId, TrackerId, UserName, control::Password),
    /// Change the user's password there (OPAQUE), under the id that makes its retry safe; answered likewise.
    ChangePassword(AskId, TrackerId, RequestId, Box<PasswordChange>),
    /// Try every tracker that is not connected now, rather than at the next turn.
    WakeTrackers,

    // net
    /// Connect to a peer: [`super::Input::PeerConnected`] or [`super::Input::DialFailed`].
    Dial(NodeId, Vec<SocketAddr>),
    /// Close a connection with one of [`p2p_proto::peer::close_code`].
    Close(ConnectionId, u32),
    /// Open an interest.
    OpenInterest(InterestId, ConnectionId, Interest),
    /// Show a fresh grant on it.
    RenewInterest(InterestId, Grant),
    /// End it.
    CloseInterest(InterestId),
    /// The grant shown with an interest that a peer opened holds, and is that user's: its connection is worth its place.
    Admitted(ServedId, UserName),
    /// Tell a peer that opened an interest here; behind a [`FromProvider::Refused`] its stream ends.
    Provide(ServedId, FromProvider),
    /// Refuse a peer's request.
    RefuseUpload(UploadId, Reject),
    /// Stop sending what is being served, or refuse it where nothing was sent yet: [`super::Input::UploadEnded`] follows
    /// as for every upload.
    StopUpload(UploadId, Reject),
    /// Send at most so many bytes a second to all peers together, from now on; 0: without a limit.
    LimitUploads(u64),

    // net and store together, wired by the driver
    /// Read a piece of so many bytes and send it: [`super::Input::UploadEnded`].
    ServePiece(UploadId, ContentId, PieceIndex, u64),
    /// Send a manifest of at most so many bytes: [`super::Input::UploadEnded`].
    ServeManifest(UploadId, ContentId, u64),
    /// Get a manifest, check it against its content id, keep it: [`super::Input::ManifestFetched`].
    FetchManifest(FetchId, ConnectionId, ContentId),
    /// Get a piece of so many bytes, check it, write it: [`super::Input::PieceFetched`].
    FetchPiece(FetchId, ConnectionId, ContentId, PieceIndex, u64),
    /// Stop a fetch.
    CancelFetch(FetchId),

    // control and store together, wired by the driver
    /// Read a piece of so many bytes and give it to a command, whose stream that download is:
    /// [`super::Input::PieceStreamed`].
    StreamPiece(CommandId, DownloadId, ContentId, PieceIndex, u64),
    /// All of a stream is out: check the whole's digest if there is one: [`super::Input::StreamChecked`].
    CheckStream(DownloadId, ContentId),

    // store
    /// Hash a file or folder where it lies and keep its manifest: [`super::Input::Imported`].
    Import {
        /// Number of the answer.
        ask: AskId,
        /// The file.
        path: PathBuf,
        /// Digest of the pieces.
        hash: HashAlgorithm,
        /// Also the whole file's SHA-256.
        whole_digest: bool,
        /// What is done where a folder stands there.
        folders: Folders,
    },
    /// Delete what came from standard input and is not shared.
    DeleteUpload(PathBuf),
    /// Make (or find again) the part file of a download whose manifest is kept: [`super::Input::PartOpened`].
    OpenPart(DownloadRecord),
    /// All pieces are durable: check the whole digest if there is one, rename into place: [`super::Input::PartFinished`].
    FinishPart(DownloadRecord),
    /// Make the destination from a content that is complete here: [`super::Input::PartFinished`], also where
    /// [`Output::ClosePart`] stops it.
    CopyLocal(DownloadRecord),
    /// Hash again what is here of a download: [`super::Input::PartVerified`].
    VerifyPart(AskId, DownloadRecord),
    /// Look whether the disks have room for the rest of a download: [`super::Input::RoomLookedFor`].
    LookForRoom(DownloadRecord),
    /// Close the part file and keep it; what is being copied into it is not copied on.
    ClosePart(DownloadId),
    /// Delete the part file (with `true` also a destination that is complete): [`super::Input::PartDiscarded`].
    DiscardPart(DownloadRecord, bool),
    /// Keep changes; answered by [`super::Input::Remembered`] once they are on disk.
    Remember(AskId, Vec<Change>),
    /// What a kept manifest says: [`super::Input::Described`].
    DescribeContent(AskId, ContentId),
    /// The file that `destination` (a file or a folder) means for a file of this name, refused where it exists or
    /// its folder cannot be written: [`super::Input::DestinationResolved`].
    ResolveDestination {
        /// Number of the answer.
        ask: AskId,
        /// As the user gave it, absolute.
        destination: PathBuf,
        /// The file's name in its group.
        name: FileName,
        /// Bytes it will need.
        length: u64,
        /// Whether it may exist.
        force: bool,
    },
    /// Bytes free where the daemon keeps its state: [`super::Input::DiskMeasured`].
    MeasureDisk(AskId),
    /// Read a `.mtorrent` and keep its manifest: [`super::Input::MtorrentRead`].
    ReadMtorrent(AskId, PathBuf),
    /// Write one: [`super::Input::MtorrentWritten`].
    WriteMtorrent(AskId, MtorrentToWrite),
}

/// What an import does with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folders {
    /// A single file is wanted.
    Refused,
    /// All its files are one content.
    Taken {
        /// Whether symbolic links in it are followed, or refused.
        follow_links: bool,
    },
}

/// A `.mtorrent` to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtorrentToWrite {
    /// The file to make, as [`super::Input::DestinationResolved`] told it; refused where it exists by then.
    pub place: PathBuf,
    /// What it describes; its manifest is in the store.
    pub content: ContentId,
    /// The described file's path as its publisher gave it.
    pub given: String,
    /// Where it is known.
    pub trackers: [TrackerAddress; 2],
}

/// Another password for who is logged in.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// Who.
    pub user: UserName,
    /// The password until now.
    pub old: control::Password,
    /// From now on.
    pub new: control::Password,
    /// Also logs out every other node of the user.
    pub log_out_everywhere: bool,
}

impl Output {
    /// A request to a tracker with the id that makes its retry safe, and what is known of its cluster's log here.
    pub fn ask_tracker(ask: AskId, tracker: TrackerId, id: RequestId, seen: u64, request: tracker::Request) -> Output {
        Output::AskTracker(ask, tracker, Envelope { id, seen, request })
    }
}
