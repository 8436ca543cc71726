//! One connection to a peer, from its Hellos to its end: takes the streams that the peer opens and tells the end last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::limit::PEER_FRAME_BYTES_MAX;
use p2p_proto::peer::{Open, close_code, stream_code};
use quinn::{ConnectionError, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::places::PlaceId;
use super::{Inner, interest, upload};
use crate::engine::Input;
use crate::engine::input::ConnectionId;
use crate::frame_stream::{ReadFrameError, StreamPair, expect_frame};

/// A stream says what it is for within this time, or is abandoned.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Interests of one peer served here at once: more than a person downloads from one peer.
pub(super) const SERVED_INTERESTS_MAX: usize = 64;

/// Requests of one peer that wait or are being sent; the rest is refused as busy, rather than queued without end.
pub(super) const UPLOADS_MAX: usize = 128;

/// A connection with both Hellos exchanged.
pub(super) struct Established {
    pub(super) quinn: quinn::Connection,
    pub(super) node: NodeId,
    /// Its place among the connections that peers opened; `None` where this end dialled.
    pub(super) place: Option<PlaceId>,
    /// The other daemon's life.
    pub(super) instance: u64,
}

/// What the tasks of one connection share.
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) quinn: quinn::Connection,
    pub(super) served_slots: Arc<Semaphore>,
    pub(super) upload_slots: Arc<Semaphore>,
    pub(super) place: Option<PlaceId>,
    since: Instant,
    /// Milliseconds from `since` to when payload came last, on whichever stream, or word that requests wait.
    alive_at_ms: AtomicU64,
    /// Bytes that the peer has let this end send, on whichever stream.
    taken_bytes: AtomicU64,
}

/// A connection in the registry.
pub(super) struct Entry {
    pub(super) peer: Arc<Peer>,
    /// Held by every task that has its end to tell before [`Input::PeerLost`].
    pub(super) alive: Alive,
}

/// Nothing is ever sent: the receiver learns when the last clone is gone.
pub(super) type Alive = mpsc::Sender<()>;

impl Peer {
    /// The other end broke the protocol: nothing it says is believed any more.
    pub(super) fn close_for_breach(&self, what: &dyn std::fmt::Display) {
        tracing::debug!(connection = self.id.0, error = %what, "closing: the peer broke the protocol");
        self.quinn.close(VarInt::from_u32(close_code::PROTOCOL), b"protocol");
    }

    /// Payload came, or word that requests wait: whoever waits for payload of this connection need not think it dead.
    pub(super) fn note_alive(&self) {
        let ms = self.since.elapsed().as_millis();
        self.alive_at_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When either came last.
    pub(super) fn alive_at(&self) -> Instant {
        self.since + Duration::from_millis(self.alive_at_ms.load(Ordering::Relaxed))
    }

    /// The connection took so many bytes to be sent.
    pub(super) fn note_taken(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that the peer has let this end send so far, over all of the connection's streams.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }
}

/// Lives as long as the connection does. `_slot` is what it counts against.
pub(super) async fn run(net: Arc<Inner>, established: Established, _slot: impl Send) {
    let Established { quinn, node, place, instance } = established;
    let dialled = place.is_none();
    let id = ConnectionId(net.draw_number());
    let (alive, mut all_told) = mpsc::channel(1);
    let peer = Arc::new(Peer {
        id,
        quinn,
        served_slots: Arc::new(Semaphore::new(SERVED_INTERESTS_MAX)),
        upload_slots: Arc::new(Semaphore::new(UPLOADS_MAX)),
        place,
        since: Instant::now(),
        alive_at_ms: AtomicU64::new(0),
        taken_bytes: AtomicU64::new(0),
    });
    net.lock().connections.insert(id, Entry { peer: Arc::clone(&peer), alive: alive.clone() });
    tracing::debug!(connection = id.0, node = %node.short(), address = %peer.quinn.remote_address(), dialled, "connected");
    net.tell(Input::PeerConnected { connection: id, node, dialled, instance }).await;

    let reason = loop {
        match peer.quinn.accept_bi().await {
            Ok(streams) => {
                let streams = StreamPair::new(streams, stream_code::FAILED);
                tokio::spawn(serve_stream(Arc::clone(&net), Arc::clone(&peer), alive.clone(), streams));
            }
            Err(reason) => break reason,
        }
    };
    tracing::debug!(connection = id.0, %reason, "connection ended");
    // In this order: no new task can begin, all have told their ends, nothing of theirs is left, the end is told.
    net.lock().connections.remove(&id);
    drop(alive);
    all_told.recv().await;
    net.lock().uploads.retain(|_, upload| upload.connection() != id);
    net.tell(Input::PeerLost { connection: id, busy: was_busy(&reason) }).await;
}

/// Whether the other end closed because others need the place.
pub(super) fn was_busy(reason: &ConnectionError) -> bool {
    let busy = VarInt::from_u32(close_code::BUSY);
    matches!(reason, ConnectionError::ApplicationClosed(close) if close.error_code == busy)
}

/// A stream that the peer opened. At most [`crate::endpoint::PEER_STREAMS_MAX`] at once: QUIC sees to that.
async fn serve_stream(net: Arc<Inner>, peer: Arc<Peer>, alive: Alive, mut streams: StreamPair) {
    match expect_frame::<Open>(&mut streams.recv, PEER_FRAME_BYTES_MAX, OPEN_DEADLINE).await {
        Ok(Open::Interest(shown)) => interest::serve(net, peer, streams, shown).await,
        Ok(Open::Piece(request)) => upload::queue(&net, peer, streams, upload::Wanted::Piece(request)).await,
        Ok(Open::Manifest(content)) => upload::queue(&net, peer, streams, upload::Wanted::Manifest(content)).await,
        Err(error) => give_up(&peer, streams, &error),
    }
    drop(alive);
}

/// Ends a stream on which no message came: with it the connection, where what came was none.
pub(super) fn give_up(peer: &Peer, streams: StreamPair, error: &ReadFrameError) {
    match error {
        ReadFrameError::Malformed(_) | ReadFrameError::CutShort => {
            streams.abandon(stream_code::MALFORMED);
            peer.close_for_breach(error);
        }
        ReadFrameError::TimedOut => streams.abandon(stream_code::TIMED_OUT),
        ReadFrameError::Lost(_) => streams.abandon(stream_code::CANCELLED),
    }
}

/// Takes a place among those of one kind, if one is free.
pub(super) fn try_take(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(slots).try_acquire_owned().ok()
}
