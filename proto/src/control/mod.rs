//! Messages between `p2pctl` and `p2pd` on the Unix socket, which are also what `--json` shows.
//!
//! The command's first frame is [`Hello`], the daemon's [`HelloAck`]; then one [`Request`] out and [`Frame`]s back,
//! of which exactly the last is [`Frame::Result`]. The command hangs up when it has seen it, or when it is interrupted.

mod answer;
mod bytes;
mod copies;
mod event;
mod rate;
mod request;
mod verify;
mod why;

pub use answer::*;
pub use bytes::*;
pub use copies::*;
pub use event::*;
pub use rate::*;
pub use request::*;
pub use verify::*;
pub use why::*;

use serde::{Deserialize, Serialize};

use crate::reject::Reject;

/// The command's first frame. Its encoding never changes, so that any two versions can tell each other apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version spoken ([`crate::version::CONTROL_PROTOCOL`]).
    pub version: u16,
    /// Name and version of the program.
    pub software: String,
}

/// The daemon's first frame. Its encoding never changes either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// Protocol version spoken; the command refuses to go on with one that it does not speak.
    pub version: u16,
    /// Name and version of the program.
    pub software: String,
}

/// What the daemon sends for a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// What is followed has begun.
    Started(Download),
    /// How far it is, once a second.
    Progress(Download),
    /// How far hashing a file is, once a second.
    Hashing(Hashing),
    /// The last frame.
    Result(Result<Answer, Reject>),
    /// Something that happened, for `events`.
    Event(Event),
    /// The first frame for `events`: what happens is told from here on.
    Following,
    /// A file is shared, and copies of it are waited for.
    Shared(Uploaded),
    /// How many copies there are, once a second.
    Copies(Copies),
    /// What comes next may be old: the tracker that told it has lost sight of the majority of its cluster.
    Stale,
    /// The next bytes of a file that is streamed.
    Bytes(FileBytes),
}
