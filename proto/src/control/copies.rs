//! What `upload_file --wait-copies` tells: how many other nodes hold all of a file.

use serde::{Deserialize, Serialize};

use super::Uploaded;
use crate::id::ContentId;
use crate::name::{FileName, GroupName};

/// How many hold it, while more are waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// In which group.
    pub group: GroupName,
    /// The file's name there.
    pub name: FileName,
    /// What it holds.
    pub content: ContentId,
    /// Other nodes online that hold all of it.
    pub copies: u32,
    /// How many are waited for.
    pub wanted: u32,
}

/// As many as were wanted hold it: it is safe to leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// What was uploaded.
    pub uploaded: Uploaded,
    /// Other nodes online that hold all of it.
    pub copies: u32,
}
