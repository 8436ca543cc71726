//! Frames on QUIC streams: read within a limit, written whole, for every shell that speaks over the endpoint.

use std::time::Duration;

use p2p_proto::codec::CodecError;
use p2p_proto::frame::{self, FrameError, PREFIX_BYTES};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes taken at once while a frame arrives: what is allocated follows what has come, not what was announced.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum ReadFrameError {
    /// Not what it should be: the other end's fault.
    #[error(transparent)]
    Malformed(#[from] FrameError),
    /// The stream ended inside a frame, or before one that had to come.
    #[error("the stream ended before the message did")]
    CutShort,
    /// The stream or its connection broke.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteFrameError {
    /// The stream or its connection broke.
    #[error(transparent)]
    Lost(#[from] WriteError),
    /// The other end does not read.
    #[error("nothing was taken in time")]
    TimedOut,
}

/// The next frame of at most `max` bytes; `None` where the stream ends before its first byte.
///
/// Not cancel-safe: whoever drops this gives the stream up.
pub async fn read_frame<T: DeserializeOwned>(recv: &mut RecvStream, max: usize) -> Result<Option<T>, ReadFrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    let mut filled = 0;
    while filled < PREFIX_BYTES {
        match recv.read(&mut prefix[filled..]).await? {
            Some(count) => filled += count,
            None if filled == 0 => return Ok(None),
            None => return Err(ReadFrameError::CutShort),
        }
    }
    let length = frame::length(prefix, max)?;
    let mut body = Vec::new();
    while body.len() < length {
        match recv.read_chunk((length - body.len()).min(READ_BYTES_MAX), true).await? {
            Some(chunk) => body.extend_from_slice(&chunk.bytes),
            None => return Err(ReadFrameError::CutShort),
        }
    }
    Ok(Some(frame::decode(&body)?))
}

/// A frame that must come, within `deadline`.
pub async fn expect_frame<T: DeserializeOwned>(
    recv: &mut RecvStream,
    max: usize,
    deadline: Duration,
) -> Result<T, ReadFrameError> {
    match tokio::time::timeout(deadline, read_frame(recv, max)).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(ReadFrameError::CutShort),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ReadFrameError::TimedOut),
    }
}

/// Writes one frame within `deadline`. After an error the stream is good for nothing but a reset.
pub async fn write_frame<T: Serialize>(
    send: &mut SendStream,
    message: &T,
    deadline: Duration,
) -> Result<(), WriteFrameError> {
    match tokio::time::timeout(deadline, send.write_chunk(frame::encode(message).into())).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(WriteFrameError::TimedOut),
    }
}

/// The end of a stream, which must follow at once: nothing may stand behind the last message.
pub async fn expect_end(recv: &mut RecvStream, deadline: Duration) -> Result<(), ReadFrameError> {
    match tokio::time::timeout(deadline, recv.read_chunk(1, true)).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(chunk))) => Err(FrameError::Codec(CodecError::Trailing(chunk.bytes.len())).into()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ReadFrameError::TimedOut),
    }
}

/// Both halves of a bidirectional stream that is abandoned when dropped, unless [`StreamPair::complete`] was said:
/// quinn finishes a dropped sending half, which would make half an answer look whole.
pub struct StreamPair {
    /// Towards the other end.
    pub send: SendStream,
    /// From the other end.
    pub recv: RecvStream,
    /// What to abandon the stream with ([`p2p_proto::peer::stream_code`]); nothing once all is said.
    abandon_code: Option<u32>,
}

impl StreamPair {
    /// Takes both halves; dropped unfinished, they are abandoned with `abandon_code`.
    pub fn new((send, recv): (SendStream, RecvStream), abandon_code: u32) -> StreamPair {
        StreamPair { send, recv, abandon_code: Some(abandon_code) }
    }

    /// Abandons the stream now, with this code.
    pub fn abandon(mut self, code: u32) {
        self.abandon_code = Some(code);
    }

    /// All is said and heard (or finished behind the last byte): dropping means nothing any more.
    pub fn complete(mut self) {
        self.abandon_code = None;
    }
}

impl Drop for StreamPair {
    fn drop(&mut self) {
        if let Some(code) = self.abandon_code {
            // Either half may be gone already; then there is nothing left to abandon.
            let _ = self.send.reset(VarInt::from_u32(code));
            let _ = self.recv.stop(VarInt::from_u32(code));
        }
    }
}
