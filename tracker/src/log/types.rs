//! What the trackers of a cluster agree on, in the words of openraft.

use std::sync::Arc;

use p2p_proto::id::NodeId;
use p2p_proto::reject::Reject;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::state::{Entry, Outcome};

/// Which tracker of its cluster: its line in `tracker_info.txt`, from 1. Never given to another one.
pub type TrackerId = u64;

openraft::declare_raft_types!(
    /// The types of this log.
    pub Types:
        D = Batch,
        R = Replies,
        NodeId = TrackerId,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = Vec<u8>,
);

/// A place in the log.
pub type LogId = openraft::LogId<TrackerId>;
/// Who belongs to the cluster, and since which place in the log.
pub type StoredMembership = openraft::StoredMembership<TrackerId, Member>;
/// A snapshot's place in the log.
pub type SnapshotMeta = openraft::SnapshotMeta<TrackerId, Member>;
/// Which leader a tracker follows.
pub type Vote = openraft::Vote<TrackerId>;
/// What ends a tracker's part in the cluster.
pub type StorageError = openraft::StorageError<TrackerId>;
/// One place of the log with what stands there.
pub type LogEntry = openraft::Entry<Types>;

/// Changes that share one place in the log, and so one write to the disk. Shared, since it goes to the disk, to every
/// follower and to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch(pub Arc<[Entry]>);

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Batch, D::Error> {
        Vec::deserialize(deserializer).map(|entries| Batch(entries.into()))
    }
}

/// The answers to a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies(pub Vec<Result<Outcome, Reject>>);

/// A tracker of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// The key that it must prove: who has another is another tracker, whatever its address.
    pub key: Option<NodeId>,
}
