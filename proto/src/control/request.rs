//! What a command asks of the daemon: one variant a verb.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::ZeroizeOnDrop;

use crate::id::{DownloadId, NodeId};
use crate::manifest::HashAlgorithm;
use crate::name::{FileName, FileSelector, GroupName, UserName};
use crate::tracker::JoinPolicy;

/// A path on this machine, of any bytes: absolute, since the daemon does not know the command's folder.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPath(pub PathBuf);

impl LocalPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Debug for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for LocalPath {
    /// The path's bytes; for JSON text, where what is not UTF-8 becomes U+FFFD.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::os::unix::ffi::OsStrExt as _;
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0.display())
        } else {
            self.0.as_os_str().as_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for LocalPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use std::os::unix::ffi::OsStringExt as _;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer).map(|text| LocalPath(text.into()))
        } else {
            Vec::<u8>::deserialize(deserializer).map(|bytes| LocalPath(std::ffi::OsString::from_vec(bytes).into()))
        }
    }
}

/// A password on its way to the daemon: wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// Takes a password over.
    pub fn new(text: String) -> Password {
        Password(text)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What can be asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `create_user`. Answered by [`super::Answer::UserCreated`].
    CreateUser {
        /// The account's name.
        user: UserName,
        /// Its password.
        password: Password,
    },
    /// `login`. Answered by [`super::Answer::LoggedIn`].
    Login {
        /// Under whom.
        user: UserName,
        /// The password.
        password: Password,
    },
    /// `logout`. Answered by [`super::Answer::LoggedOut`].
    Logout,
    /// `status`. Answered by [`super::Answer::Status`].
    Status,
    /// `create_group`. Answered by [`super::Answer::GroupCreated`].
    CreateGroup {
        /// Its name.
        group: GroupName,
        /// Who may join.
        policy: JoinPolicy,
    },
    /// `join_group`. Answered by [`super::Answer::GroupJoined`].
    JoinGroup {
        /// Which.
        group: GroupName,
    },
    /// `leave_group`. Answered by [`super::Answer::GroupLeft`].
    LeaveGroup {
        /// Which.
        group: GroupName,
        /// Ends the group if this is its last member.
        force: bool,
    },
    /// `list_groups`, `list_my_groups`. Answered by [`super::Answer::Groups`].
    ListGroups {
        /// Only those this user belongs to.
        mine: bool,
    },
    /// `list_members`. Answered by [`super::Answer::Members`].
    ListMembers {
        /// Of which group.
        group: GroupName,
    },
    /// `list_requests`. Answered by [`super::Answer::Requests`].
    ListRequests {
        /// Of which group.
        group: GroupName,
    },
    /// `accept_request`. Answered by [`super::Answer::RequestAccepted`].
    AcceptRequest {
        /// To which group.
        group: GroupName,
        /// Whose.
        user: UserName,
    },
    /// `reject_request`. Answered by [`super::Answer::RequestRejected`].
    RejectRequest {
        /// To which group.
        group: GroupName,
        /// Whose.
        user: UserName,
    },
    /// `remove_member`. Answered by [`super::Answer::MemberRemoved`].
    RemoveMember {
        /// From which group.
        group: GroupName,
        /// Whom.
        user: UserName,
    },
    /// `transfer_group`. Answered by [`super::Answer::GroupTransferred`].
    TransferGroup {
        /// Which.
        group: GroupName,
        /// To whom.
        user: UserName,
    },
    /// `delete_group`. Answered by [`super::Answer::GroupDeleted`].
    DeleteGroup {
        /// Which.
        group: GroupName,
    },
    /// `upload_file`. [`super::Frame::Hashing`] once a second, then [`super::Answer::Uploaded`]; where copies are waited for,
    /// [`super::Frame::Shared`], [`super::Frame::Copies`] once a second, then [`super::Answer::Copied`].
    UploadFile {
        /// The file or folder, where it lies and stays.
        path: LocalPath,
        /// To which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// Digest of the pieces.
        hash: HashAlgorithm,
        /// Also record the whole file's SHA-256.
        whole_digest: bool,
        /// Replace one's own listing of that name.
        force: bool,
        /// Answer when so many other nodes hold all of it; at most [`crate::limit::LOOKUP_PROVIDERS_MAX`].
        wait_copies: u32,
        /// Take what symbolic links in a folder lead to; without it they are refused.
        follow_links: bool,
    },
    /// `list_files`. Answered by [`super::Answer::Files`].
    ListFiles {
        /// Of which group.
        group: GroupName,
    },
    /// `file_info`. Answered by [`super::Answer::FileInfo`].
    FileInfo {
        /// In which group.
        group: GroupName,
        /// Which file.
        file: FileSelector,
    },
    /// `download_file`. [`super::Frame::Started`], [`super::Frame::Progress`] once a second, then
    /// [`super::Answer::Downloaded`]; with `detach` at once [`super::Answer::DownloadStarted`].
    DownloadFile {
        /// From which group.
        group: GroupName,
        /// Which file.
        file: FileSelector,
        /// A file that does not exist, or a folder that does.
        destination: LocalPath,
        /// Replace a destination that exists.
        force: bool,
        /// Do not follow.
        detach: bool,
        /// Patterns of the files that are wanted of a folder; none: all.
        only: Vec<String>,
    },
    /// `show_downloads`. Answered by [`super::Answer::Downloads`].
    ShowDownloads,
    /// `wait`: follows one download like [`Request::DownloadFile`] does.
    Wait {
        /// Which.
        id: DownloadPrefix,
    },
    /// `pause`. Answered by [`super::Answer::DownloadChanged`].
    Pause {
        /// Which.
        id: DownloadPrefix,
    },
    /// `resume`. Answered by [`super::Answer::DownloadChanged`].
    Resume {
        /// Which.
        id: DownloadPrefix,
    },
    /// `cancel`. Answered by [`super::Answer::DownloadChanged`].
    Cancel {
        /// Which.
        id: DownloadPrefix,
        /// Also delete what has been downloaded, complete or not.
        delete_data: bool,
    },
    /// `stop_share`. Answered by [`super::Answer::ShareStopped`].
    StopShare {
        /// In which group.
        group: GroupName,
        /// Which file.
        name: FileName,
        /// Shares it again when a member asks for it and nobody else online has it.
        until_requested: bool,
    },
    /// `list`: what this node shares. Answered by [`super::Answer::Shares`].
    ListShares,
    /// `shutdown`. Answered by [`super::Answer::ShuttingDown`], when all that is finished is on disk.
    Shutdown,
    /// `change_password`. Answered by [`super::Answer::PasswordChanged`].
    ChangePassword {
        /// The password until now.
        old: Password,
        /// From now on.
        new: Password,
        /// Also logs out every other node of this user.
        log_out_everywhere: bool,
    },
    /// `logout --node`. Answered by [`super::Answer::NodeLoggedOut`].
    LogoutNode {
        /// Which of this user's nodes.
        node: NodePrefix,
    },
    /// `set_policy`. Answered by [`super::Answer::PolicySet`].
    SetPolicy {
        /// Of which group.
        group: GroupName,
        /// Who may join from now on.
        policy: JoinPolicy,
    },
    /// `remove_file`. Answered by [`super::Answer::FileRemoved`].
    RemoveFile {
        /// From which group.
        group: GroupName,
        /// Which listing: one's own, or, as the group's owner, anybody's.
        file: FileSelector,
    },
    /// `events`: [`super::Frame::Event`] for each thing that happens, until the command hangs up.
    Events,
    /// `share`: uploads to the group `public` with SHA-1 pieces and writes a `.mtorrent`. Answered by
    /// [`super::Answer::Shared`].
    Share {
        /// The file, where it lies and stays.
        path: LocalPath,
        /// Its path as it was typed, for the `.mtorrent`.
        given: String,
        /// The `.mtorrent` to write; it must not exist.
        mtorrent: LocalPath,
    },
    /// `get`: downloads what a `.mtorrent` describes; followed and answered like [`Request::DownloadFile`].
    Get {
        /// The `.mtorrent`.
        mtorrent: LocalPath,
        /// A file that does not exist, or a folder that does.
        destination: LocalPath,
        /// Replace a destination that exists.
        force: bool,
        /// Do not follow.
        detach: bool,
    },
    /// `remove`: takes what a `.mtorrent` describes out of the group `public` and out of sharing. Answered by
    /// [`super::Answer::FileRemoved`].
    Remove {
        /// The `.mtorrent`.
        mtorrent: LocalPath,
    },
    /// `limit`: changes what is given, of at least [`crate::limit::RATE_LIMIT_BYTES_PER_SECOND_MIN`], or 0 for none.
    /// Answered by [`super::Answer::Limits`].
    Limit {
        /// Bytes per second going out.
        up: Option<u64>,
        /// Bytes per second coming in.
        down: Option<u64>,
    },
    /// `why`. Answered by [`super::Answer::Why`].
    Why {
        /// Which download.
        id: DownloadPrefix,
    },
    /// `verify`. [`super::Frame::Hashing`] now and then, then [`super::Answer::Verified`].
    Verify {
        /// Which download.
        id: DownloadPrefix,
    },
    /// `download_file … -`: followed and answered like [`Request::DownloadFile`], with the file's bytes in their order in
    /// [`super::Frame::Bytes`]. Nothing of it stays in the daemon when the command ends.
    Stream {
        /// From which group.
        group: GroupName,
        /// Which file.
        file: FileSelector,
    },
}

/// Defines the first digits of an id, as a person types them.
macro_rules! define_prefix {
    ($(#[$doc:meta])* $name:ident, $id:ty, $bytes:expr, $error:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Whether `id` begins with these digits.
            pub fn matches(&self, id: $id) -> bool {
                id.to_string().starts_with(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let digits = text.to_ascii_lowercase();
                let fits = (1..=2 * $bytes).contains(&digits.len());
                if fits && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    Ok($name(digits))
                } else {
                    Err($error.to_owned())
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $name::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(prefix: $name) -> String {
                prefix.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

define_prefix!(
    /// The first digits of a [`DownloadId`]: 1 to 16 hexadecimal digits, lower case.
    DownloadPrefix,
    DownloadId,
    DownloadId::BYTES,
    "a download's id is 1 to 16 hexadecimal digits, as `show_downloads` prints them"
);

define_prefix!(
    /// The first digits of a [`NodeId`]: 1 to 64 hexadecimal digits, lower case.
    NodePrefix,
    NodeId,
    NodeId::BYTES,
    "a node's id is 1 to 64 hexadecimal digits, as `status` prints them"
);
