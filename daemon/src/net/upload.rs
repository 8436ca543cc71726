//! A peer's request for a piece or a manifest: kept until the engine decides, then answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use p2p_proto::frame;
use p2p_proto::id::ContentId;
use p2p_proto::peer::{ManifestReply, PieceReply, PieceRequest, stream_code};
use p2p_proto::reject::{ErrorCode, Reject};
use quinn::WriteError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Peer, give_up, try_take};
use super::throttle::Throttle;
use super::{Inner, REQUEST_GRACE, sending_rate_min};
use crate::engine::Input;
use crate::engine::input::{ConnectionId, UploadId};
use crate::frame_stream::{StreamPair, expect_end};

/// The request's stream ends behind its one frame within this time, or is abandoned.
const REQUEST_END_DEADLINE: Duration = Duration::from_secs(10);

/// How long a peer that is being sent a piece may read at less than half the slowest rate.
const UNREAD_AFTER: Duration = Duration::from_secs(15);

/// What a peer asks for.
pub(super) enum Wanted {
    Piece(PieceRequest),
    Manifest(ContentId),
}

/// Why an answer did not reach the peer.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The peer no longer wants it, or its connection is gone.
    #[error("the peer gave it up")]
    GivenUp,
    /// The peer takes it too slowly.
    #[error("the peer took too long")]
    TimedOut,
    /// The engine stopped it.
    #[error("stopped: the peer may not read it any more")]
    Stopped,
    /// More bytes than an answer can carry.
    #[error("too long for one answer")]
    TooLong,
}

/// A request of a peer, with the stream to answer it on. Dropped unanswered, it tells the peer that it failed.
pub struct Upload {
    streams: StreamPair,
    is_manifest: bool,
    peer: Arc<Peer>,
    throttle: Arc<Throttle>,
    answering: Option<Answering>,
    _slot: OwnedSemaphorePermit,
}

/// The place in the registry of a request that is being answered, by which it is stopped. Gives it back when dropped.
pub(super) struct Answering {
    net: Arc<Inner>,
    id: UploadId,
    stopped: oneshot::Receiver<()>,
}

impl Answering {
    pub(super) fn new(net: &Arc<Inner>, id: UploadId, stopped: oneshot::Receiver<()>) -> Answering {
        Answering { net: Arc::clone(net), id, stopped }
    }

    /// Ends when the engine stops the answer; at once, where it has.
    async fn stopped(&mut self) {
        // The sender is dropped unused only by this one's own drop.
        let _ = (&mut self.stopped).await;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.net.lock().answering.remove(&self.id);
    }
}

/// Keeps a request and tells the engine, or refuses it where the peer has too many.
pub(super) async fn queue(net: &Inner, peer: Arc<Peer>, mut streams: StreamPair, wanted: Wanted) {
    if let Err(error) = expect_end(&mut streams.recv, REQUEST_END_DEADLINE).await {
        return give_up(&peer, streams, &error);
    }
    let is_manifest = matches!(wanted, Wanted::Manifest(_));
    let Some(slot) = try_take(&peer.upload_slots) else {
        let busy = Reject::new(ErrorCode::BUSY, "too many requests at once");
        let refusal = refusal(is_manifest, busy);
        let refused = send(&peer, &net.throttle, &mut streams, refusal, Bytes::new(), &mut 0).await;
        let _ = refused.map(|()| streams.complete());
        return;
    };
    let id = UploadId(net.draw_number());
    let input = match wanted {
        Wanted::Piece(request) => Input::PieceRequested(id, peer.id, request),
        Wanted::Manifest(content) => Input::ManifestRequested(id, peer.id, content),
    };
    let throttle = Arc::clone(&net.throttle);
    net.lock().uploads.insert(id, Upload { streams, is_manifest, peer, throttle, answering: None, _slot: slot });
    net.tell(input).await;
}

impl Upload {
    /// Sends a piece; gives the bytes of it that were handed to the connection, and returns once the peer has
    /// acknowledged all of them. The bytes are not copied: a leased buffer is back in its pool by then.
    pub async fn send_piece(self, payload: Bytes) -> (u64, Result<(), UploadError>) {
        self.send_payload(payload).await
    }

    /// Sends a manifest, likewise.
    pub async fn send_manifest(self, encoded: Vec<u8>) -> (u64, Result<(), UploadError>) {
        self.send_payload(encoded.into()).await
    }

    /// Refuses the request.
    pub async fn refuse(mut self, reason: Reject) {
        let refusal = refusal(self.is_manifest, reason);
        if send(&self.peer, &self.throttle, &mut self.streams, refusal, Bytes::new(), &mut 0).await.is_ok() {
            self.streams.complete();
        }
    }

    /// On which connection it came.
    pub fn connection(&self) -> ConnectionId {
        self.peer.id
    }

    /// The same, answered now.
    pub(super) fn stopped_by(mut self, answering: Answering) -> Upload {
        self.answering = Some(answering);
        self
    }

    /// Whether the peer still waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.streams.send.stopped().now_or_never().is_none()
    }

    async fn send_payload(mut self, payload: Bytes) -> (u64, Result<(), UploadError>) {
        let Ok(length) = u32::try_from(payload.len()) else {
            return (0, Err(UploadError::TooLong));
        };
        let header = match self.is_manifest {
            true => frame::encode(&ManifestReply::Bytes(length)),
            false => frame::encode(&PieceReply::Bytes(length)),
        };
        let mut sent_bytes = 0;
        let stopped = async {
            match &mut self.answering {
                Some(answering) => answering.stopped().await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            () = stopped => Err(UploadError::Stopped),
            result = send(&self.peer, &self.throttle, &mut self.streams, header.into(), payload, &mut sent_bytes) => result,
        };
        match &result {
            Ok(()) => self.streams.complete(),
            // What is not sent yet is forgotten with the reset: nothing more reaches the peer.
            Err(UploadError::Stopped) => self.streams.abandon(stream_code::REFUSED),
            Err(UploadError::TimedOut) => self.streams.abandon(stream_code::TIMED_OUT),
            Err(_) => drop(self.streams),
        }
        (sent_bytes, result)
    }
}

fn refusal(is_manifest: bool, reason: Reject) -> Bytes {
    match is_manifest {
        true => frame::encode(&ManifestReply::Refused(reason)).into(),
        false => frame::encode(&PieceReply::Refused(reason)).into(),
    }
}

/// Writes header and payload, finishes, and waits until all is acknowledged: quinn keeps what is not, and a peer that
/// acknowledges nothing would otherwise keep it there for as long as it likes. Counts the payload in `sent_bytes`. The
/// time that this node's own limit holds it back is not the peer's.
async fn send(
    peer: &Peer,
    throttle: &Throttle,
    streams: &mut StreamPair,
    header: Bytes,
    mut payload: Bytes,
    sent_bytes: &mut u64,
) -> Result<(), UploadError> {
    let header_bytes = header.len();
    let rate_min = sending_rate_min(payload.len() as u64);
    let mut deadline = Instant::now() + REQUEST_GRACE + Duration::from_secs(payload.len() as u64 / rate_min);
    let mut patience = Patience::new(peer, rate_min);
    let mut chunks = [header, Bytes::new()];
    let mut written = 0;
    loop {
        if chunks[1].is_empty() && !payload.is_empty() {
            let asked = Instant::now();
            chunks[1] = payload.split_to(throttle.take(payload.len()).await);
            deadline += asked.elapsed();
        }
        // An empty chunk counts as written, so the first one left is where to go on.
        let Some(first) = chunks.iter().position(|chunk| !chunk.is_empty()) else { break };
        let writing = streams.send.write_chunks(&mut chunks[first..]);
        let bytes = timeout_at(deadline, patience.wait(writing)).await.map_err(|_| UploadError::TimedOut)???.bytes;
        peer.note_taken(bytes as u64);
        written += bytes;
        *sent_bytes = written.saturating_sub(header_bytes) as u64;
    }
    streams.send.finish().map_err(|_| UploadError::GivenUp)?;
    // What was taken is on its way, at whatever rate the link has.
    match timeout_at(deadline, streams.send.stopped()).await {
        Ok(Ok(None)) => Ok(()),
        Ok(_) => Err(UploadError::GivenUp),
        Err(_) => Err(UploadError::TimedOut),
    }
}

/// Patience with a peer that reads at less than half of a rate for a while, over all of its connection's streams: of the
/// connection, not of one stream, since on a slow link one piece waits for another.
struct Patience<'a> {
    peer: &'a Peer,
    bytes_min: u64,
    /// Bytes that the peer had taken when the present while began, and how much of it was spent waiting for the peer.
    taken_bytes: u64,
    waited: Duration,
}

impl<'a> Patience<'a> {
    fn new(peer: &'a Peer, rate_min: u64) -> Patience<'a> {
        let bytes_min = rate_min * UNREAD_AFTER.as_secs() / 2;
        Patience { peer, bytes_min, taken_bytes: peer.taken_bytes(), waited: Duration::ZERO }
    }

    /// Waits for what the peer alone holds up.
    async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, UploadError> {
        let mut work = std::pin::pin!(work);
        loop {
            let began = Instant::now();
            let done = timeout(UNREAD_AFTER.saturating_sub(self.waited), &mut work).await;
            self.waited += began.elapsed();
            if let Ok(done) = done {
                return Ok(done);
            }
            let taken_bytes = self.peer.taken_bytes();
            if taken_bytes - self.taken_bytes < self.bytes_min {
                return Err(UploadError::TimedOut);
            }
            (self.taken_bytes, self.waited) = (taken_bytes, Duration::ZERO);
        }
    }
}

impl From<WriteError> for UploadError {
    fn from(_: WriteError) -> UploadError {
        UploadError::GivenUp
    }
}
