//! What the daemon answers: the same types are rendered as tables for people and as JSON for scripts.
//!
//! Units are in the names; a rate is bytes per second; unknown is `None`; times are [`UnixMillis`].

use serde::{Deserialize, Serialize};

use super::{Copied, LocalPath, RateLimits, Verified, Why};
use crate::id::{ContentId, DownloadId, NodeId};
use crate::manifest::HashAlgorithm;
use crate::name::{FileName, GroupName, UserName};
use crate::reject::ErrorCode;
use crate::time::UnixMillis;
use crate::tracker::{EnrolledNode, Group, JoinPolicy, JoinRequest, Member, OwnedRequest};

/// The daemon's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The account exists now; it is not logged in.
    UserCreated(UserCreated),
    /// This daemon's key is enrolled.
    LoggedIn(LoggedIn),
    /// It no longer is.
    LoggedOut(LoggedOut),
    /// How everything is.
    Status(Box<Status>),
    /// The group exists now.
    GroupCreated(GroupPolicy),
    /// Joined, or waiting for the owner.
    GroupJoined(GroupJoined),
    /// No member any more.
    GroupLeft(GroupChange),
    /// The group and its listings are gone.
    GroupDeleted(GroupChange),
    /// Groups by name.
    Groups(Groups),
    /// Members by name.
    Members(Members),
    /// Who waits, by name.
    Requests(Requests),
    /// The user is a member now.
    RequestAccepted(MemberChange),
    /// The user's request is gone.
    RequestRejected(MemberChange),
    /// The user is no member any more.
    MemberRemoved(MemberChange),
    /// The user is the owner now.
    GroupTransferred(MemberChange),
    /// The file is listed and seeded.
    Uploaded(Uploaded),
    /// Files by name.
    Files(Files),
    /// One file.
    FileInfo(Box<FileInfo>),
    /// A download that goes on in the daemon.
    DownloadStarted(Download),
    /// A download that is done.
    Downloaded(Downloaded),
    /// A download after the change asked for.
    DownloadChanged(Download),
    /// Every download.
    Downloads(Downloads),
    /// The file is no longer shared from here.
    ShareStopped(ShareStopped),
    /// What this node shares.
    Shares(Shares),
    /// The daemon ends now.
    ShuttingDown(ShuttingDown),
    /// The password is another one now.
    PasswordChanged(PasswordChanged),
    /// The node is no longer logged in.
    NodeLoggedOut(NodeLoggedOut),
    /// The group has another policy now.
    PolicySet(GroupPolicy),
    /// The listing is gone.
    FileRemoved(FileRemoved),
    /// The file is in the group `public`, and its `.mtorrent` is written.
    Shared(Shared),
    /// The limits that hold now.
    Limits(RateLimits),
    /// What holds a download up.
    Why(Box<Why>),
    /// What is here of a download was hashed again.
    Verified(Verified),
    /// The file is shared, and as many other nodes as were wanted hold all of it.
    Copied(Copied),
}

/// A new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCreated {
    /// Its name.
    pub user: UserName,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// Under whom.
    pub user: UserName,
    /// The key that was enrolled.
    pub node: NodeId,
    /// Shares that are seeded again.
    pub shares: u32,
    /// Unfinished downloads that go on.
    pub downloads: u32,
}

/// A logout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOut {
    /// Who was logged in.
    pub user: UserName,
    /// Shares kept for the user's next login.
    pub shares: u32,
    /// Unfinished downloads kept for it.
    pub downloads: u32,
}

/// A group and its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPolicy {
    /// Its name.
    pub group: GroupName,
    /// Who may join.
    pub policy: JoinPolicy,
}

/// What became of a request to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupJoined {
    /// Which group.
    pub group: GroupName,
    /// Whether this user is a member now.
    pub member: bool,
    /// Who has to decide, where the user waits.
    pub waiting_for: Option<UserName>,
}

/// A change of a whole group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChange {
    /// Which group.
    pub group: GroupName,
}

/// A change of one user's standing in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// Which group.
    pub group: GroupName,
    /// Whose.
    pub user: UserName,
}

/// Groups by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// One entry a group.
    pub groups: Vec<Group>,
}

/// Members by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Of which group.
    pub group: GroupName,
    /// One entry a member.
    pub members: Vec<Member>,
}

/// Requests to join, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Of which group.
    pub group: GroupName,
    /// One entry a user who waits.
    pub requests: Vec<JoinRequest>,
}

/// How far hashing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashing {
    /// The file.
    pub path: LocalPath,
    /// Bytes hashed.
    pub done_bytes: u64,
    /// Bytes of the file.
    pub length: u64,
}

/// A file that is listed and seeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// In which group.
    pub group: GroupName,
    /// Its name there.
    pub name: FileName,
    /// What it holds.
    pub content: ContentId,
    /// Bytes.
    pub length: u64,
    /// Number of pieces.
    pub pieces: u32,
    /// Digest of the pieces.
    pub hash: HashAlgorithm,
    /// Hexadecimal SHA-256 of the whole file, where asked for.
    pub whole_sha256: Option<String>,
    /// Time spent hashing.
    pub elapsed_ms: u64,
    /// What is to be said of a folder; `None` for a file.
    pub folder: Option<UploadedFolder>,
}

/// A folder that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedFolder {
    /// Number of its files.
    pub files: u32,
    /// Folders within it that hold nothing: they are left out.
    pub empty_folders: u32,
    /// Symbolic links that were followed.
    pub links: u32,
    /// The first of them, with what they lead to.
    pub followed: Vec<String>,
}

/// Files by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Of which group.
    pub group: GroupName,
    /// One entry a listing.
    pub files: Vec<File>,
}

/// One listing, with what is here of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub length: u64,
    /// Nodes online with all of it.
    pub seeders: u32,
    /// Nodes online that download it.
    pub partial: u32,
    /// Bytes of it on this machine; `None` where nothing is.
    pub here_bytes: Option<u64>,
    /// Who published it.
    pub owner: UserName,
    /// When.
    pub added: UnixMillis,
    /// What it holds.
    pub content: ContentId,
    /// Number of its files, where it is a folder.
    pub files: Option<u32>,
}

/// One file in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// In which group.
    pub group: GroupName,
    /// The listing.
    pub file: File,
    /// Bytes of a piece; `None` where the manifest is not here.
    pub piece_length: Option<u64>,
    /// Number of pieces; `None` where the manifest is not here.
    pub pieces: Option<u32>,
    /// Digest of the pieces; `None` where the manifest is not here.
    pub hash: Option<HashAlgorithm>,
    /// Hexadecimal digest of every piece; empty where the manifest is not here.
    pub digests: Vec<String>,
    /// Hexadecimal SHA-256 of the whole file, where it was recorded and the manifest is here.
    pub whole_sha256: Option<String>,
    /// Who is online with it.
    pub providers: Vec<FileProvider>,
}

/// Who has how much of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProvider {
    /// Which node.
    pub node: NodeId,
    /// Whose.
    pub user: UserName,
    /// Whether it has all pieces.
    pub complete: bool,
    /// Number of pieces it has; `None` where it was not asked.
    pub pieces: Option<u32>,
}

/// State of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DownloadState {
    /// Will start when others are done.
    Queued,
    /// Cannot go on now; `reason` says why.
    Waiting,
    /// Pieces come in.
    Downloading,
    /// What is on disk is being checked.
    Verifying,
    /// All there and in its place, not shared.
    Complete,
    /// All there and shared.
    Seeding,
    /// Stopped by the user.
    Paused,
    /// Stopped by a fault; `reason` says which.
    Error,
}

/// A download.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Download {
    /// Its id.
    pub id: DownloadId,
    /// From which group.
    pub group: GroupName,
    /// The file's name.
    pub name: FileName,
    /// Who published it.
    pub owner: UserName,
    /// What it holds.
    pub content: ContentId,
    /// Where it goes.
    pub destination: LocalPath,
    /// State.
    pub state: DownloadState,
    /// Why it waits or stopped.
    pub reason: Option<String>,
    /// What kind of fault, in state `error`.
    pub error: Option<ErrorCode>,
    /// Bytes of the whole.
    pub length: u64,
    /// Bytes verified and here.
    pub have_bytes: u64,
    /// Bytes received from peers for it since it began, verified or not, restarts included.
    pub fetched_bytes: u64,
    /// Bytes per second coming in.
    pub down_rate: u64,
    /// Seconds until done at this rate; `None` where it does not move.
    pub eta_seconds: Option<u64>,
    /// Peers that pieces are coming from.
    pub peers_active: u32,
    /// Peers known to have some of it.
    pub peers_known: u32,
    /// When it was asked for.
    pub added: UnixMillis,
}

/// A download that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Downloaded {
    /// Its id.
    pub id: DownloadId,
    /// From which group.
    pub group: GroupName,
    /// The file's name.
    pub name: FileName,
    /// What it holds.
    pub content: ContentId,
    /// Where it is.
    pub destination: LocalPath,
    /// Bytes.
    pub length: u64,
    /// Number of pieces, all verified.
    pub pieces: u32,
    /// Bytes received from peers for it, restarts included.
    pub fetched_bytes: u64,
    /// Time from the request to the end, pauses and restarts included.
    pub elapsed_ms: u64,
    /// Bytes per second over that time.
    pub rate: u64,
}

/// Every download.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Downloads {
    /// One entry each, in the order they were asked for.
    pub downloads: Vec<Download>,
}

/// A file that is no longer shared from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStopped {
    /// In which group.
    pub group: GroupName,
    /// Which file.
    pub name: FileName,
    /// Whether it is shared again when a member asks for it and nobody else online has it.
    pub until_requested: bool,
}

/// Another password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordChanged {
    /// Whose.
    pub user: UserName,
    /// Whether every other node of the user was logged out.
    pub logged_out_everywhere: bool,
}

/// A node of this user that is no longer logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoggedOut {
    /// Whose it was.
    pub user: UserName,
    /// Which.
    pub node: NodeId,
}

/// A listing that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRemoved {
    /// From which group.
    pub group: GroupName,
    /// Under which name it stood.
    pub name: FileName,
    /// Who had published it.
    pub owner: UserName,
    /// Whether it was shared from here until now; others who have it may still share it.
    pub unshared: bool,
}

/// A file in the group `public`, with its `.mtorrent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// What was uploaded.
    pub uploaded: Uploaded,
    /// The `.mtorrent` written.
    pub mtorrent: LocalPath,
}

/// What this node shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// One entry a file and group.
    pub shares: Vec<Share>,
}

/// One shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In which group.
    pub group: GroupName,
    /// Under which name.
    pub name: FileName,
    /// Where it lies.
    pub path: LocalPath,
    /// Bytes.
    pub length: u64,
    /// What it holds.
    pub content: ContentId,
    /// Whether it is served: logged in, and the file is as it was.
    pub seeding: bool,
    /// Why it is not served.
    pub reason: Option<String>,
    /// Whether it rests until a member asks for it and nobody else online has it.
    pub until_requested: bool,
}

/// The daemon ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuttingDown {
    /// The process that ends.
    pub process_id: u32,
}

/// How everything is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name and version of the daemon.
    pub software: String,
    /// Since when it runs.
    pub started: UnixMillis,
    /// The clock of the daemon's machine.
    pub now: UnixMillis,
    /// This node.
    pub node: NodeId,
    /// Who is logged in.
    pub user: Option<UserName>,
    /// TLS key exchange in use with the trackers.
    pub key_exchange: Option<String>,
    /// Every tracker this daemon was given.
    pub trackers: Vec<TrackerStatus>,
    /// Nodes connected.
    pub peers: u32,
    /// Bytes per second coming in.
    pub down_rate: u64,
    /// Bytes per second going out.
    pub up_rate: u64,
    /// Files shared, and served.
    pub shares_seeding: u32,
    /// Files shared that are not served: changed, or nobody is logged in.
    pub shares_stopped: u32,
    /// Downloads that receive.
    pub downloads_active: u32,
    /// Downloads that wait or are queued.
    pub downloads_waiting: u32,
    /// Downloads stopped by the user.
    pub downloads_paused: u32,
    /// Downloads stopped by a fault.
    pub downloads_failed: u32,
    /// Bytes free where the daemon keeps its state; `None` where the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// The nodes logged in under this user, this one among them; empty while no tracker has told them.
    pub devices: Vec<EnrolledNode>,
    /// Who waits to be let into groups of this user, as far as a tracker has told; at most
    /// [`crate::limit::PAGE_ITEMS_MAX`].
    pub join_requests: Vec<OwnedRequest>,
    /// The limits of its rates.
    pub limits: RateLimits,
}

/// State of the connection to a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackerState {
    /// First attempt under way.
    Connecting,
    /// Connected.
    Ok,
    /// Does not answer; tried again and again.
    Unreachable,
    /// Answers with another key than the one remembered; not used.
    KeyChanged,
    /// Answers, but refuses this daemon or speaks another version.
    Refused,
}

/// One tracker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerStatus {
    /// Its address, as it was given.
    pub address: String,
    /// Its key's name, once known.
    pub node: Option<NodeId>,
    /// State of the connection.
    pub state: TrackerState,
    /// Since when the state is what it is.
    pub since: UnixMillis,
    /// Round trip, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Whether it decides changes.
    pub leader: bool,
    /// Whether it has lost sight of the majority of its cluster: what it tells may be old, and changes are refused.
    pub stale: bool,
    /// What is wrong with it.
    pub reason: Option<String>,
}
