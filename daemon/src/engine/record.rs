//! What the daemon remembers between runs: made by the engine, kept by the store's journal.

use std::path::PathBuf;

use p2p_proto::control::RateLimits;
use p2p_proto::geometry::{Geometry, GeometryError};
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::{ContentId, DownloadId, RequestId};
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// Who is logged in, and whose grants count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user that this node's key is enrolled under.
    pub user: UserName,
    /// The key that the tracker's grants are signed with: peers can be served while no tracker answers.
    pub cluster: ClusterKey,
}

/// How a content divides and is hashed: what the engine has to know of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Bytes of the content.
    pub length: u64,
    /// Bytes of a piece.
    pub piece_length: u64,
    /// Digest of the pieces.
    pub hash: HashAlgorithm,
}

impl Shape {
    /// The division into pieces. Fails only for a record that this program did not write.
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        Geometry::new(self.length, self.piece_length)
    }
}

/// How a file looked when it was hashed: anything else there now is not what was shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStamp {
    /// Bytes.
    pub length: u64,
    /// Time of last change of the bytes, nanoseconds since the Unix epoch.
    pub modified_ns: i128,
    /// Device that the file lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// A file shared in place under one name in one group. Key: user, group, name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRecord {
    /// Whose share: it rests while another user, or nobody, is logged in.
    pub user: UserName,
    /// In which group.
    pub group: GroupName,
    /// Under which name.
    pub name: FileName,
    /// What it holds.
    pub content: ContentId,
    /// How it divides.
    pub shape: Shape,
    /// Where it lies.
    pub path: PathBuf,
    /// How it looked.
    pub stamp: SourceStamp,
    /// Since when it is shared.
    pub added: UnixMillis,
    /// Not served until a member asks for it and nobody else online has it. The store keeps it beside the record: those
    /// of its first version have none.
    #[serde(skip)]
    pub resting: bool,
    /// When the group was born: it is shared with that one and with no other that gets the name. `None` in records from
    /// before, until a tracker says which group it can be ([`ShareRecord::is_for`]). Kept as `resting` is.
    #[serde(skip)]
    pub born: Option<UnixMillis>,
}

impl ShareRecord {
    /// Whether it is shared with the group of its name that was born then.
    pub fn is_for(&self, born: UnixMillis) -> bool {
        self.born == Some(born)
    }

    /// Whether it may be of the group that was born then, and has to be told so.
    pub fn may_be_for(&self, born: UnixMillis) -> bool {
        may_be_of(self.born, self.added, born)
    }
}

/// A file that was to be shared and could not be listed yet: what it will be as a share, and how it is asked for. Key as the
/// share's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationRecord {
    /// The share to be; its group's birth where that is known.
    pub share: ShareRecord,
    /// Replaces this user's listing of that name.
    pub replace: bool,
    /// The id of the first attempt, and of all others.
    pub request: RequestId,
    /// Number of its files, where it is a folder.
    pub files: Option<u32>,
}

impl PublicationRecord {
    /// What names it.
    pub fn key(&self) -> (UserName, GroupName, FileName) {
        (self.share.user.clone(), self.share.group.clone(), self.share.name.clone())
    }
}

/// Whether what was kept before groups were told apart may be of the group that was born at `born`: not if that is younger,
/// as one is that somebody else made under the old name. Two clocks are compared. Where the one here was behind, it may
/// stay without a group, which serves nobody; one that was right is not deceived.
fn may_be_of(known: Option<UnixMillis>, added: UnixMillis, born: UnixMillis) -> bool {
    known.is_none() && born <= added
}

/// Where a download stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownloadPhase {
    /// Asked for; goes on by itself.
    Active,
    /// Stopped by the user.
    Paused,
    /// Stopped by a fault; `resume` tries again.
    Failed(Reject),
    /// In its place since then.
    Complete(UnixMillis),
}

/// A download. Key: id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// Its id.
    pub id: DownloadId,
    /// Whose download: it rests while another user, or nobody, is logged in.
    pub user: UserName,
    /// From which group.
    pub group: GroupName,
    /// The file's name there.
    pub name: FileName,
    /// Who published it.
    pub owner: UserName,
    /// What it holds.
    pub content: ContentId,
    /// Bytes.
    pub length: u64,
    /// The file to make; its folder exists. Pieces go into `<file name>.part` beside it.
    pub destination: PathBuf,
    /// Replace a destination that exists.
    pub force: bool,
    /// When it was asked for.
    pub added: UnixMillis,
    /// Bytes received from peers so far, verified or not.
    pub fetched_bytes: u64,
    /// How the content divides; known once its manifest is here.
    pub shape: Option<Shape>,
    /// Where it stands.
    pub phase: DownloadPhase,
    /// When the group was born, as in [`ShareRecord::born`].
    #[serde(skip)]
    pub born: Option<UnixMillis>,
    /// Patterns of the files that are wanted of a folder; `None`: all of it. Kept as `born` is.
    #[serde(skip)]
    pub only: Option<Vec<String>>,
    /// Bytes of the pieces that hold those, once known; of the files alone, once they are in their place.
    #[serde(skip)]
    pub wanted_bytes: Option<u64>,
    /// How many pieces those are, once known.
    #[serde(skip)]
    pub wanted_pieces: Option<u32>,
}

impl DownloadRecord {
    /// Bytes that are to be fetched.
    pub fn length_wanted(&self) -> u64 {
        self.wanted_bytes.unwrap_or(self.length)
    }

    /// As [`ShareRecord::may_be_for`].
    pub fn may_be_from(&self, born: UnixMillis) -> bool {
        may_be_of(self.born, self.added, born)
    }
}

/// One change of what is remembered; a batch of them is one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Who is logged in now.
    Account(Option<Account>),
    /// A new share, or one that changed; its manifest is in the store already.
    PutShare(ShareRecord),
    /// No longer shared.
    DeleteShare(UserName, GroupName, FileName),
    /// A new download, or one that changed.
    PutDownload(DownloadRecord),
    /// Forget a download.
    DeleteDownload(DownloadId),
    /// The limits of the rates.
    PutLimits(RateLimits),
    /// A file that waits to be published; its manifest is in the store already.
    PutPublication(PublicationRecord),
    /// It waits no longer.
    DeletePublication(UserName, GroupName, FileName),
}

/// All that was remembered, as the store finds it when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Who was logged in.
    pub account: Option<Account>,
    /// Shares.
    pub shares: Vec<ShareRecord>,
    /// Downloads.
    pub downloads: Vec<DownloadRecord>,
    /// The limits of the rates.
    pub limits: RateLimits,
    /// What waits to be published.
    pub publications: Vec<PublicationRecord>,
}
