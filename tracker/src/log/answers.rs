//! The questions of the other trackers, answered: a task for each stream of their connections.

use std::sync::Arc;

use openraft::raft::AppendEntriesResponse;
use openraft::storage::Snapshot;
use p2p_proto::id::NodeId;
use quinn::{Connection, RecvStream, SendStream};
use tracing::{debug, info};

use super::Consensus;
use super::network::{
    Forwarded, MESSAGE_BYTES_MAX, NOT_KNOWN, PeerStatus, Question, Reply, SNAPSHOT_BYTES_MAX, proven_key,
};
use super::proposals::Answered;
use super::reading::place_to_read;
use super::types::{Batch, Replies, TrackerId, Vote};
use crate::frames;

/// Bytes by which the memory for a snapshot grows: no more than what has arrived is allocated, whatever its length claims.
const GROWTH_BYTES: usize = 1024 * 1024;

/// Answers another tracker until the connection ends; closes it at once where the other end is none that is known.
pub async fn serve(consensus: Arc<Consensus>, connection: Connection) {
    let links = &consensus.links;
    let key = proven_key(&connection);
    let from = key.and_then(|key| Some((key, links.tracker_of(key).or_else(|| links.listed_as(key))?)));
    let Some((key, from)) = from else {
        debug!(address = %connection.remote_address(), "not a tracker of this cluster");
        return connection.close(NOT_KNOWN, b"not a tracker of this cluster");
    };
    info!(tracker = from, address = %connection.remote_address(), "another tracker is connected");
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(answer(Arc::clone(&consensus), key, from, send, recv));
    }
}

async fn answer(consensus: Arc<Consensus>, key: NodeId, from: TrackerId, mut send: SendStream, mut recv: RecvStream) {
    let Ok(question) = frames::read(&mut recv, MESSAGE_BYTES_MAX).await else { return };
    // It may have come to belong to the cluster since it connected, or not any more.
    let reply = match (consensus.links.tracker_of(key), question) {
        (None, Question::Status(other)) => consensus.status(&other).await,
        (None, _) => Err("that is for those who belong to the cluster".to_owned()),
        (Some(_), question) => {
            consensus.links.duty.heard(from);
            consensus.reply(from, question, &mut recv).await
        }
    };
    let reply = reply.unwrap_or_else(Reply::Failed);
    if frames::write(&mut send, &reply).await {
        // An error here is a stream that the other end has stopped.
        let _ = send.finish();
    }
}

impl Consensus {
    async fn reply(&self, from: TrackerId, question: Question, recv: &mut RecvStream) -> Result<Reply, String> {
        let shown = |error: &dyn std::fmt::Display| error.to_string();
        // Its key has proved who asks; what it says in another's name is not listened to.
        let own = |vote: &Vote| {
            if vote.leader_id.node_id == from { Ok(()) } else { Err("that is another tracker's vote".to_owned()) }
        };
        Ok(match question {
            Question::Append(rpc) => {
                own(&rpc.vote)?;
                let response = self.raft.append_entries(rpc).await.map_err(|error| shown(&error))?;
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    self.stalls.leader_heard();
                }
                Reply::Append(response)
            }
            Question::Vote(rpc) => {
                own(&rpc.vote)?;
                Reply::Vote(self.raft.vote(rpc).await.map_err(|error| shown(&error))?)
            }
            Question::Snapshot { vote, meta, bytes } => {
                own(&vote)?;
                let snapshot = Snapshot { meta, snapshot: Box::new(read_snapshot(recv, bytes).await?) };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                Reply::Snapshot(installed.map_err(|error| shown(&error))?)
            }
            Question::Propose(batch) => Reply::Propose(self.propose_forwarded(batch).await),
            Question::Place if !self.links.duty.is_open() => return Err("who decides is not known here".to_owned()),
            Question::Place => Reply::Place(place_to_read(&self.raft).await?),
            Question::Status(other) => self.status(&other).await?,
            Question::Lead => {
                if self.raft.metrics().borrow().current_leader != Some(from) {
                    return Err("whoever asks does not lead".to_owned());
                }
                self.raft.trigger().elect().await.map_err(|error| shown(&error))?;
                Reply::Stands
            }
        })
    }

    /// What this tracker is, for one that says what it is itself.
    async fn status(&self, other: &PeerStatus) -> Result<Reply, String> {
        let initialized = self.raft.is_initialized().await.map_err(|error| error.to_string())?;
        let own = self.links.duty.status(!initialized)?;
        self.links.duty.compare(&own, other);
        Ok(Reply::Status(own))
    }

    /// Agrees on changes that were asked for at another tracker. In the queue with this tracker's own.
    async fn propose_forwarded(&self, Batch(entries): Batch) -> Forwarded {
        let waiting: Vec<_> = entries.iter().map(|entry| self.submit(entry.clone(), true)).collect();
        let mut replies = Vec::with_capacity(waiting.len());
        let mut behind = 0;
        for answer in waiting {
            let Ok(answer) = answer else { return Forwarded::Refused };
            match answer.await {
                Ok(Answered::Applied(reply, place)) => {
                    replies.push(reply);
                    behind = behind.max(place);
                }
                Ok(Answered::NotLeader) => return Forwarded::NotLeader,
                Ok(Answered::Refused(_)) | Err(_) => return Forwarded::Refused,
            }
        }
        Forwarded::Applied(Replies(replies), behind)
    }
}

async fn read_snapshot(recv: &mut RecvStream, length: u64) -> Result<Vec<u8>, String> {
    if length > SNAPSHOT_BYTES_MAX {
        return Err(format!("a snapshot of {length} bytes where at most {SNAPSHOT_BYTES_MAX} are allowed"));
    }
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let start = bytes.len();
        let left = usize::try_from(length - start as u64).unwrap_or(GROWTH_BYTES);
        bytes.resize(start + left.min(GROWTH_BYTES), 0);
        frames::fill(recv, &mut bytes[start..]).await.map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}
