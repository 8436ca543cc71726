//! Fetching: one stream a request, its payload read straight into a leased buffer.

use std::sync::Arc;
use std::time::Duration;

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::limit::{MANIFEST_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use p2p_proto::peer::{ManifestReply, Open, PieceReply, PieceRequest, stream_code};
use quinn::ReadError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Peer;
use super::{Inner, request_deadline};
use crate::engine::input::{ConnectionId, FetchError, FetchId};
use crate::frame_stream::{ReadFrameError, StreamPair, read_frame};

/// A connection that brings no payload for so long, on none of its streams, and no word that requests wait, has lost every
/// request on it. Of the connection, not of the stream: on a slow link a request behind others waits longer than this
/// for its first byte.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// So long an answer may take to begin: in a provider's queue, which tells of itself meanwhile. Then it is asked for again,
/// of somebody else if there is one: providers that only ever let wait would hold all buffers otherwise.
const QUEUED_MAX: Duration = Duration::from_secs(120);

/// Bytes of a manifest taken at once: what is allocated follows what has come, not what was announced.
const MANIFEST_READ_BYTES_MAX: usize = 64 * 1024;

/// A fetch, from when the engine asks for it. Dropping it abandons what is under way.
pub struct Fetch {
    net: Arc<Inner>,
    id: FetchId,
    peer: Option<Arc<Peer>>,
    cancelled: watch::Receiver<bool>,
}

impl Fetch {
    pub(super) fn begin(net: &Arc<Inner>, id: FetchId, connection: ConnectionId) -> Fetch {
        let (cancel, cancelled) = watch::channel(false);
        let mut registry = net.lock();
        registry.fetches.insert(id, cancel);
        let peer = registry.connections.get(&connection).map(|entry| Arc::clone(&entry.peer));
        drop(registry);
        Fetch { net: Arc::clone(net), id, peer, cancelled }
    }

    /// Ends when the engine cancels the fetch; at once, where it has.
    pub async fn cancelled(&self) {
        if self.cancelled.clone().wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending().await
        }
    }

    /// The connection's round trip as QUIC measures it.
    pub fn round_trip(&self) -> Duration {
        self.peer.as_ref().map_or(Duration::ZERO, |peer| peer.quinn.rtt())
    }

    /// Gets a piece of exactly `buffer`'s length; gives the bytes received, also of one that failed.
    pub async fn piece(
        &self,
        content: ContentId,
        piece: PieceIndex,
        buffer: &mut [u8],
    ) -> (u64, Result<(), FetchError>) {
        let Some(peer) = &self.peer else { return (0, Err(FetchError::Lost)) };
        let mut received_bytes = 0;
        let request = receive_piece(peer, PieceRequest { content, piece }, buffer, &mut received_bytes);
        let result = self.run(peer, request).await;
        (received_bytes, result)
    }

    /// Gets an encoded manifest. Whether it is the right one is for its reader to find out.
    pub async fn manifest(&self, content: ContentId) -> Result<Vec<u8>, FetchError> {
        let Some(peer) = &self.peer else { return Err(FetchError::Lost) };
        self.run(peer, receive_manifest(peer, content)).await
    }

    /// Runs a request until it ends, is cancelled, or nothing comes any more. What is dropped here resets its stream.
    async fn run<T>(&self, peer: &Peer, request: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(FetchError::Cancelled),
            result = unless_silent(peer, request) => result,
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.net.lock().fetches.remove(&self.id);
    }
}

/// `request`, or [`FetchError::Lost`] once the connection has been silent for too long.
async fn unless_silent<T>(peer: &Peer, request: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    tokio::pin!(request);
    let mut heard_at = Instant::now();
    loop {
        match timeout_at(heard_at + SILENCE_MAX, &mut request).await {
            Ok(result) => return result,
            Err(_) if peer.alive_at() > heard_at => heard_at = peer.alive_at(),
            Err(_) => return Err(FetchError::Lost),
        }
    }
}

async fn receive_piece(
    peer: &Peer,
    request: PieceRequest,
    buffer: &mut [u8],
    received_bytes: &mut u64,
) -> Result<(), FetchError> {
    let mut streams = ask(peer, &Open::Piece(request)).await?;
    let length = match reply(peer, &mut streams).await? {
        PieceReply::Bytes(length) => length as usize,
        PieceReply::Refused(reason) => {
            streams.complete();
            return Err(FetchError::Refused(reason.within_limits()));
        }
    };
    if length != buffer.len() {
        streams.abandon(stream_code::MALFORMED);
        return Err(FetchError::Corrupt);
    }
    let filling = async {
        let mut filled = 0;
        while filled < length {
            let Some(count) = streams.recv.read(&mut buffer[filled..]).await.map_err(lost)? else {
                // A provider that breaks off without a reset: no evidence of bad content.
                return Err(FetchError::Lost);
            };
            filled += count;
            *received_bytes = filled as u64;
            peer.note_alive();
        }
        finish(streams).await
    };
    in_time(length as u64, filling).await
}

async fn receive_manifest(peer: &Peer, content: ContentId) -> Result<Vec<u8>, FetchError> {
    let mut streams = ask(peer, &Open::Manifest(content)).await?;
    let length = match reply(peer, &mut streams).await? {
        ManifestReply::Bytes(length) => length as usize,
        ManifestReply::Refused(reason) => {
            streams.complete();
            return Err(FetchError::Refused(reason.within_limits()));
        }
    };
    if length as u64 > MANIFEST_BYTES_MAX {
        streams.abandon(stream_code::MALFORMED);
        return Err(FetchError::Corrupt);
    }
    let receiving = async {
        let mut encoded = Vec::new();
        while encoded.len() < length {
            let wanted = (length - encoded.len()).min(MANIFEST_READ_BYTES_MAX);
            match streams.recv.read_chunk(wanted, true).await.map_err(lost)? {
                Some(chunk) => encoded.extend_from_slice(&chunk.bytes),
                None => return Err(FetchError::Lost),
            }
            peer.note_alive();
        }
        finish(streams).await?;
        Ok(encoded)
    };
    in_time(length as u64, receiving).await
}

/// An answer of so many bytes, which has begun; [`FetchError::Lost`] once it takes too long.
async fn in_time<T>(bytes: u64, answer: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    timeout(request_deadline(bytes), answer).await.unwrap_or(Err(FetchError::Lost))
}

/// Opens a stream and asks; nothing more is said on it from here.
async fn ask(peer: &Peer, request: &Open) -> Result<StreamPair, FetchError> {
    let opened = peer.quinn.open_bi().await.map_err(|_| FetchError::Lost)?;
    let mut streams = StreamPair::new(opened, stream_code::CANCELLED);
    streams.send.write_chunk(frame::encode(request).into()).await.map_err(|_| FetchError::Lost)?;
    streams.send.finish().map_err(|_| FetchError::Lost)?;
    Ok(streams)
}

/// The answer's first frame. Bytes that are none end the connection: nothing on it can be believed.
async fn reply<T: serde::de::DeserializeOwned>(peer: &Peer, streams: &mut StreamPair) -> Result<T, FetchError> {
    let read = timeout(QUEUED_MAX, read_frame(&mut streams.recv, PEER_FRAME_BYTES_MAX)).await;
    match read.map_err(|_| FetchError::Lost)? {
        Ok(Some(reply)) => Ok(reply),
        Err(ReadFrameError::Malformed(error)) => {
            peer.close_for_breach(&error);
            Err(FetchError::Corrupt)
        }
        Ok(None) | Err(_) => Err(FetchError::Lost),
    }
}

/// The end of the stream, which must follow the last byte.
async fn finish(mut streams: StreamPair) -> Result<(), FetchError> {
    match streams.recv.read_chunk(1, true).await.map_err(lost)? {
        None => {
            streams.complete();
            Ok(())
        }
        Some(_) => {
            streams.abandon(stream_code::MALFORMED);
            Err(FetchError::Corrupt)
        }
    }
}

fn lost(_: ReadError) -> FetchError {
    FetchError::Lost
}
