//! What `events` tells: one line for each thing that happens.

use serde::{Deserialize, Serialize};

use super::{Download, LocalPath, TrackerState};
use crate::id::ContentId;
use crate::name::{FileName, GroupName, UserName};
use crate::time::UnixMillis;
use crate::tracker::Standing;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: UnixMillis,
    /// What.
    pub what: Happening,
}

/// What can happen. In JSON `event` names the variant, with its fields beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Happening {
    /// Somebody else is logged in here than before, or nobody.
    Account {
        /// Who.
        user: Option<UserName>,
    },
    /// A tracker answers, or does not.
    Tracker {
        /// Its address, as it was given.
        address: String,
        /// What it is now.
        state: TrackerState,
        /// What is wrong with it.
        reason: Option<String>,
    },
    /// Somebody asks to join a group of this user.
    JoinRequested {
        /// Which group.
        group: GroupName,
        /// Who.
        user: UserName,
    },
    /// This user's standing in a group changed.
    Membership {
        /// Which group.
        group: GroupName,
        /// What it is now.
        standing: Standing,
    },
    /// A download was asked for, or its state changed.
    Download(Download),
    /// A download was cancelled or deleted.
    DownloadGone(Download),
    /// A file is shared from here (again).
    ShareStarted {
        /// In which group.
        group: GroupName,
        /// Under which name.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Where it lies.
        path: LocalPath,
    },
    /// A file is no longer shared from here.
    ShareStopped {
        /// In which group.
        group: GroupName,
        /// Under which name.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Why, where it was not asked for.
        reason: Option<String>,
    },
}
