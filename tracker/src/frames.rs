//! Frames on the tracker's QUIC streams: bounded in bytes before anything is allocated, and in time.

use std::time::Duration;

use p2p_proto::frame::{self, FrameError, PREFIX_BYTES};
use quinn::{ReadExactError, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a whole frame may take in either direction: a page at 30 KiB/s.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes by which the memory for a frame grows: no more than what has arrived is allocated, whatever its length claims.
const GROWTH_BYTES: usize = 16 * 1024;

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream or its connection ended.
    #[error("the stream ended before a whole message had come")]
    Ended,
    /// Too slow.
    #[error("the message did not come within {} s", FRAME_DEADLINE.as_secs())]
    Late,
    /// Too long, or not a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads the length of the next frame, refused above `max`.
pub async fn read_length(recv: &mut RecvStream, max: usize) -> Result<usize, ReadError> {
    in_time(async {
        let mut prefix = [0; PREFIX_BYTES];
        read_exact(recv, &mut prefix).await?;
        Ok(frame::length(prefix, max)?)
    })
    .await
}

/// Reads a frame's message, whose length has been read and checked.
pub async fn read_body<T: DeserializeOwned>(recv: &mut RecvStream, length: usize) -> Result<T, ReadError> {
    in_time(async {
        let mut body = Vec::new();
        while body.len() < length {
            let start = body.len();
            body.resize(length.min(start + GROWTH_BYTES), 0);
            read_exact(recv, &mut body[start..]).await?;
        }
        Ok(frame::decode(&body)?)
    })
    .await
}

/// Reads one frame of at most `max` bytes that may begin as late as `patience` allows.
pub async fn read_patiently<T: DeserializeOwned>(
    recv: &mut RecvStream,
    max: usize,
    patience: Duration,
) -> Result<T, ReadError> {
    let mut prefix = [0; PREFIX_BYTES];
    let begun = tokio::time::timeout(patience, read_exact(recv, &mut prefix)).await;
    begun.unwrap_or(Err(ReadError::Late))?;
    read_body(recv, frame::length(prefix, max)?).await
}

/// Reads one frame of at most `max` bytes; whoever calls this bounds the time.
pub async fn read_whenever<T: DeserializeOwned>(recv: &mut RecvStream, max: usize) -> Result<T, ReadError> {
    let mut prefix = [0; PREFIX_BYTES];
    read_exact(recv, &mut prefix).await?;
    read_body(recv, frame::length(prefix, max)?).await
}

/// Reads one frame of at most `max` bytes.
pub async fn read<T: DeserializeOwned>(recv: &mut RecvStream, max: usize) -> Result<T, ReadError> {
    let length = read_length(recv, max).await?;
    read_body(recv, length).await
}

/// Writes one frame. `false` where the other end is gone or does not take it in time; the stream is of no use then.
pub async fn write<T: Serialize>(send: &mut SendStream, message: &T) -> bool {
    let bytes = frame::encode(message);
    matches!(tokio::time::timeout(FRAME_DEADLINE, send.write_all(&bytes)).await, Ok(Ok(())))
}

/// Fills `out` with what comes next.
pub async fn fill(recv: &mut RecvStream, out: &mut [u8]) -> Result<(), ReadError> {
    in_time(read_exact(recv, out)).await
}

async fn read_exact(recv: &mut RecvStream, out: &mut [u8]) -> Result<(), ReadError> {
    recv.read_exact(out).await.map_err(|_: ReadExactError| ReadError::Ended)
}

async fn in_time<T>(work: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    tokio::time::timeout(FRAME_DEADLINE, work).await.unwrap_or(Err(ReadError::Late))
}
