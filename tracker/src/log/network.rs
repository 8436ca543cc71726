//! The way to the other trackers of the cluster: QUIC connections under `p2p-raft/1`, one stream for each question.
//!
//! A tracker is known by its key. That of a member stands in the log; that of one that is listed and no member yet is the
//! third column of `tracker_info.txt`, or else the key that answered at the listed address when it was first dialled, kept
//! from then on. Nobody is believed for an address that a packet came from: who dials here must prove a key that is known
//! in one of these ways, and everybody else is turned away before a word is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openraft::AnyError;
use openraft::error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::NodeId;
use p2p_proto::tls;
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::duty::Duty;
use super::error::LogError;
use super::machine::Shared;
use super::storage::Store;
use super::types::{Batch, Member, Replies, SnapshotMeta, TrackerId, Types, Vote};
use crate::frames;

/// Longest message between trackers, in bytes: entries for a follower, 2 MiB and one batch more, which has 1,024 entries of
/// some KiB each at the most.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest snapshot taken from another tracker, in bytes: the tables at their bounds.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How long a handshake with another tracker may take, also on a busy machine. One that was begun while the other was away is not
/// waited for longer, so that it is found when it is back.
const DIAL_DEADLINE: Duration = Duration::from_millis(2_500);

/// Code with which a connection is closed when the other end is not the tracker that was meant.
const NOT_MEANT: VarInt = VarInt::from_u32(1);

/// Code with which a connection is closed whose key is not one of the cluster's.
pub(super) const NOT_KNOWN: VarInt = VarInt::from_u32(2);

/// Whom a tracker is to make a cluster with, and how it gets there.
#[derive(Debug)]
pub struct Peers {
    /// Which tracker of the list this one is; `None` where there is no list.
    pub asked: Option<TrackerId>,
    /// This tracker's own key.
    pub key: NodeId,
    /// All trackers of the list, this one too; empty where there is none.
    pub listed: BTreeMap<TrackerId, Listed>,
    /// How others are dialled; `None` where there are none.
    pub dialler: Option<Dialler>,
    /// Whether the other of two trackers is taken for crashed, and never for cut off, when it is silent.
    pub assume_crash_only: bool,
}

/// A line of `tracker_info.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which key it must have, where the file says so.
    pub pin: Option<NodeId>,
}

/// Where connections go out from.
#[derive(Debug, Clone)]
pub struct Dialler {
    /// This tracker's endpoint.
    pub endpoint: quinn::Endpoint,
    /// With `p2p-raft/1` and this tracker's key; takes whatever key answers, which is compared then.
    pub config: quinn::ClientConfig,
    /// Where connections live: they are closed in order after the log has ended.
    pub runtime: tokio::runtime::Handle,
}

impl Peers {
    /// A tracker that is told of no others.
    pub fn none(key: NodeId) -> Peers {
        Peers { asked: None, key, listed: BTreeMap::new(), dialler: None, assume_crash_only: false }
    }
}

/// What one tracker asks another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// openraft's: entries, or that the leader is there.
    Append(AppendEntriesRequest<Types>),
    /// openraft's: to be elected.
    Vote(VoteRequest<TrackerId>),
    /// openraft's: the whole state, whose bytes follow on the stream.
    Snapshot { vote: Vote, meta: SnapshotMeta, bytes: u64 },
    /// Changes that were asked for elsewhere.
    Propose(Batch),
    /// What are you? And what who asks is.
    Status(PeerStatus),
    /// How far does a reader have to be?
    Place,
    /// Whoever asks leads and is about to end: stand for its place.
    Lead,
}

/// The answer to a [`Question`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Append(AppendEntriesResponse<TrackerId>),
    Vote(VoteResponse<TrackerId>),
    Snapshot(SnapshotResponse<TrackerId>),
    Propose(Forwarded),
    Status(PeerStatus),
    /// The place before which everything was agreed on.
    Place(u64),
    /// It cannot be answered now.
    Failed(String),
    /// It stands.
    Stands,
}

/// What came of forwarded changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Forwarded {
    /// The answers, and the place behind the last of them.
    Applied(Replies, u64),
    /// Another tracker leads.
    NotLeader,
    /// Perhaps taken, perhaps not.
    Refused,
}

/// What a tracker is, as far as another one has to know before they form a cluster, or to know which of two goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeerStatus {
    /// Which one it takes itself for.
    pub id: TrackerId,
    /// Whether it belongs to no cluster yet.
    pub blank: bool,
    /// Its cluster, where it has the state of one.
    pub cluster: Option<ClusterKey>,
    /// The place behind the last one that it has applied.
    pub place: u64,
    /// The place behind the last of each epoch from which it has taken over.
    pub left: Vec<u64>,
}

/// Why another tracker did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Not in `tracker_info.txt`, or its key is not known yet.
    #[error("tracker {0} is not known here")]
    Unknown(TrackerId),
    /// No connection.
    #[error("tracker {0} does not answer at {1}: {2}")]
    Unreachable(TrackerId, SocketAddr, String),
    /// Another key than the one that is known.
    #[error("tracker {id} at {address} has the key {found}, not {expected}")]
    OtherKey { id: TrackerId, address: SocketAddr, found: NodeId, expected: NodeId },
    /// It knows this tracker by another key, or not at all.
    #[error(
        "tracker {0} does not know this tracker's key; if the folder was lost, take it in as a new one at the list's end"
    )]
    NotKnown(TrackerId),
    /// The connection broke, or something else came.
    #[error("tracker {0} was lost while it was asked")]
    Lost(TrackerId),
    /// It says why not.
    #[error("tracker {0} refuses: {1}")]
    Failed(TrackerId, String),
}

/// All connections to the other trackers.
#[derive(Debug)]
pub struct Links {
    me: TrackerId,
    key: NodeId,
    listed: BTreeMap<TrackerId, Listed>,
    dialler: Option<Dialler>,
    shared: Arc<Shared>,
    store: Arc<Store>,
    /// Which of two decides.
    pub(super) duty: Duty,
    pub(super) assume_crash_only: bool,
    /// Keys of trackers that were met and are no members.
    met: RwLock<BTreeMap<TrackerId, NodeId>>,
    connections: BTreeMap<TrackerId, Arc<Mutex<Option<Connection>>>>,
}

impl Links {
    pub(super) fn new(me: TrackerId, peers: Peers, shared: Arc<Shared>, store: Arc<Store>) -> Result<Links, LogError> {
        let Peers { asked: _, key, listed, dialler, assume_crash_only } = peers;
        let met = store.keys()?.into_iter().collect();
        for (id, member) in shared.members().membership().nodes() {
            let pin = listed.get(id).and_then(|listed| listed.pin);
            if let (Some(pin), Some(key)) = (pin, member.key)
                && pin != key
            {
                warn!(tracker = id, %pin, %key, "tracker_info.txt names another key than the cluster knows, which counts");
            }
        }
        let others = listed.keys().filter(|id| **id != me);
        let connections = others.map(|id| (*id, Arc::default())).collect();
        let duty = Duty::new(me, Arc::clone(&shared), Arc::clone(&store));
        let met = RwLock::new(met);
        Ok(Links { me, key, listed, dialler, shared, store, duty, assume_crash_only, met, connections })
    }

    /// Which tracker this one is.
    pub fn me(&self) -> TrackerId {
        self.me
    }

    /// Whether no other tracker is listed.
    pub fn is_alone(&self) -> bool {
        self.connections.is_empty()
    }

    /// This tracker as a member.
    pub(super) fn member(&self) -> Member {
        Member { key: Some(self.key) }
    }

    /// The other trackers of the list.
    pub(super) fn others(&self) -> impl Iterator<Item = TrackerId> {
        self.connections.keys().copied()
    }

    /// The key by which a tracker is known, if it is.
    pub(super) fn key_of(&self, id: TrackerId) -> Option<NodeId> {
        let member = self.shared.members().membership().get_node(&id).and_then(|member| member.key);
        let pinned = || self.listed.get(&id).and_then(|listed| listed.pin);
        let met = || self.met.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        member.or_else(pinned).or_else(met)
    }

    /// The other tracker that has proved this key, if it is one. Who belongs to a cluster listens to its members alone: those of
    /// another one, or of what was its own before a copy was put back, may know it still.
    pub fn tracker_of(&self, key: NodeId) -> Option<TrackerId> {
        let members = self.shared.members();
        let members: Vec<TrackerId> = members.membership().nodes().map(|(id, _)| *id).collect();
        let listed = self.others().filter(|_| members.is_empty());
        let mut known = members.iter().copied().chain(listed).filter(|id| *id != self.me);
        known.find(|id| self.key_of(*id) == Some(key))
    }

    /// The other tracker of the list that has proved this key, also where it does not belong to the cluster. It may say what it
    /// is, and no more.
    pub(super) fn listed_as(&self, key: NodeId) -> Option<TrackerId> {
        self.others().find(|id| self.key_of(*id) == Some(key))
    }

    /// Learns the key of a tracker by dialling its address, where none is known. What it is from then on, it stays.
    pub(super) async fn meet(&self, id: TrackerId) -> Result<(), CallError> {
        if self.key_of(id).is_some() {
            return Ok(());
        }
        let listed = *self.listed.get(&id).ok_or(CallError::Unknown(id))?;
        let (connection, key) = self.dial(id, listed.address).await?;
        // Nothing was said yet: it has to know this one too before it listens.
        connection.close(VarInt::from_u32(0), b"");
        if key == self.key {
            return Err(CallError::Unreachable(id, listed.address, "that is this tracker itself".to_owned()));
        }
        self.store.save_key(id, key).map_err(|error| CallError::Failed(id, error.to_string()))?;
        self.met.write().unwrap_or_else(PoisonError::into_inner).insert(id, key);
        warn!(
            tracker = id, address = %listed.address, %key,
            "tracker met for the first time: it is known by this key from now on; name it in tracker_info.txt to be sure"
        );
        Ok(())
    }

    /// A connection to whoever answers at an address, and the key that it has proved.
    async fn dial(&self, id: TrackerId, address: SocketAddr) -> Result<(Connection, NodeId), CallError> {
        let unreachable = |why: String| CallError::Unreachable(id, address, why);
        let dialler = self.dialler.clone().ok_or(CallError::Unknown(id))?;
        let dialled = dialler.runtime.spawn(async move {
            let connecting = dialler.endpoint.connect_with(dialler.config, address, &tls::server_name(None));
            let connecting = connecting.map_err(|error| error.to_string())?;
            match tokio::time::timeout(DIAL_DEADLINE, connecting).await {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            }
        });
        let connection = dialled.await.map_err(|error| unreachable(error.to_string()))?.map_err(unreachable)?;
        let key = proven_key(&connection).ok_or_else(|| unreachable("no key was proved".to_owned()))?;
        Ok((connection, key))
    }

    /// A connection to a tracker; one that is dialled goes on to be when whoever asked has had enough.
    async fn connection(self: &Arc<Self>, id: TrackerId) -> Result<Connection, CallError> {
        let place = Arc::clone(self.connections.get(&id).ok_or(CallError::Unknown(id))?);
        let mut place = place.lock_owned().await;
        if let Some(connection) = place.as_ref().filter(|connection| connection.close_reason().is_none()) {
            return Ok(connection.clone());
        }
        let links = Arc::clone(self);
        let dialled = tokio::spawn(async move {
            let expected = links.key_of(id).ok_or(CallError::Unknown(id))?;
            let address = links.listed.get(&id).ok_or(CallError::Unknown(id))?.address;
            let (connection, found) = links.dial(id, address).await?;
            if found != expected {
                connection.close(NOT_MEANT, b"another key");
                return Err(CallError::OtherKey { id, address, found, expected });
            }
            info!(tracker = id, %address, "connected to another tracker");
            *place = Some(connection.clone());
            Ok(connection)
        });
        dialled.await.unwrap_or(Err(CallError::Lost(id)))
    }

    /// Asks a tracker. `snapshot` follows the question.
    async fn ask(
        self: &Arc<Self>,
        id: TrackerId,
        question: &Question,
        snapshot: Option<&[u8]>,
    ) -> Result<Reply, CallError> {
        let connection = self.connection(id).await?;
        let lost = || match connection.close_reason() {
            Some(ConnectionError::ApplicationClosed(closed)) if closed.error_code == NOT_KNOWN => {
                CallError::NotKnown(id)
            }
            _ => CallError::Lost(id),
        };
        let (mut send, mut recv) = connection.open_bi().await.map_err(|_| lost())?;
        if !frames::write(&mut send, question).await {
            return Err(lost());
        }
        if let Some(bytes) = snapshot {
            send.write_all(bytes).await.map_err(|_| lost())?;
        }
        send.finish().map_err(|_| lost())?;
        // Whoever asks bounds the time: a vote is worth seconds, a snapshot minutes.
        let answered = frames::read_whenever(&mut recv, MESSAGE_BYTES_MAX).await;
        let answered = answered.map_err(|_| lost())?;
        self.duty.heard(id);
        match answered {
            Reply::Failed(why) => Err(CallError::Failed(id, why)),
            reply => Ok(reply),
        }
    }

    /// Has another tracker agree on changes.
    pub(super) async fn propose(self: &Arc<Self>, id: TrackerId, batch: Batch) -> Result<Forwarded, CallError> {
        match self.ask(id, &Question::Propose(batch), None).await? {
            Reply::Propose(forwarded) => Ok(forwarded),
            _ => Err(CallError::Lost(id)),
        }
    }

    /// How far a reader has to be, from who leads.
    pub(super) async fn place_to_read(self: &Arc<Self>, id: TrackerId) -> Result<u64, CallError> {
        match self.ask(id, &Question::Place, None).await? {
            Reply::Place(place) => Ok(place),
            _ => Err(CallError::Lost(id)),
        }
    }

    /// Has another tracker stand for the place of this one, which leads.
    pub(super) async fn lead(self: &Arc<Self>, id: TrackerId) -> Result<(), CallError> {
        match self.ask(id, &Question::Lead, None).await? {
            Reply::Stands => Ok(()),
            _ => Err(CallError::Lost(id)),
        }
    }

    /// What another tracker is. Each of the two hears what the other is.
    pub(super) async fn status(self: &Arc<Self>, id: TrackerId, own: &PeerStatus) -> Result<PeerStatus, CallError> {
        match self.ask(id, &Question::Status(own.clone()), None).await? {
            Reply::Status(status) => {
                self.duty.compare(own, &status);
                Ok(status)
            }
            _ => Err(CallError::Lost(id)),
        }
    }
}

/// The key that the other end of a connection has proved.
pub(super) fn proven_key(connection: &Connection) -> Option<NodeId> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_node_id(&certificates).ok()
}

/// The way to one tracker, as openraft takes it.
#[derive(Debug)]
pub struct Link {
    links: Arc<Links>,
    target: TrackerId,
}

impl RaftNetworkFactory<Types> for Arc<Links> {
    type Network = Link;

    async fn new_client(&mut self, target: TrackerId, _node: &Member) -> Link {
        Link { links: Arc::clone(self), target }
    }
}

type RpcError = RPCError<TrackerId, Member, RaftError<TrackerId>>;

fn rpc_error(error: CallError) -> RpcError {
    let shown = AnyError::error(error.to_string());
    match error {
        // Tried again after a pause.
        CallError::Unknown(_) | CallError::Unreachable(..) | CallError::OtherKey { .. } | CallError::NotKnown(_) => {
            RPCError::Unreachable(Unreachable::from(shown))
        }
        CallError::Lost(_) | CallError::Failed(..) => RPCError::Network(NetworkError::from(shown)),
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TrackerId>, RpcError> {
        match self.links.ask(self.target, &Question::Append(rpc), None).await.map_err(rpc_error)? {
            Reply::Append(response) => Ok(response),
            _ => Err(rpc_error(CallError::Lost(self.target))),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TrackerId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TrackerId>, RpcError> {
        match self.links.ask(self.target, &Question::Vote(rpc), None).await.map_err(rpc_error)? {
            Reply::Vote(response) => Ok(response),
            _ => Err(rpc_error(CallError::Lost(self.target))),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TrackerId>, StreamingError<Types, Fatal<TrackerId>>> {
        let Snapshot { meta, snapshot } = snapshot;
        let question = Question::Snapshot { vote, meta, bytes: snapshot.len() as u64 };
        let sent = tokio::select! {
            closed = cancel => return Err(closed.into()),
            sent = tokio::time::timeout(option.hard_ttl(), self.links.ask(self.target, &question, Some(&snapshot))) => sent,
        };
        let unreachable =
            |error: CallError| StreamingError::Unreachable(Unreachable::from(AnyError::error(error.to_string())));
        match sent.unwrap_or(Err(CallError::Lost(self.target))).map_err(unreachable)? {
            Reply::Snapshot(response) => Ok(response),
            _ => Err(unreachable(CallError::Lost(self.target))),
        }
    }
}
