//! One command: Hello both ways, one request, frames until its result.

use std::time::Duration;

use bytes::Bytes;
use interprocess::local_socket::tokio::Stream;
use p2p_proto::control::{FileBytes, Frame, Hello, HelloAck, Request};
use p2p_proto::frame::{self, FrameError, PREFIX_BYTES};
use p2p_proto::limit::{CONTROL_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX, STREAM_FRAME_BYTES_MAX};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::version::{CONTROL_PROTOCOL, SOFTWARE};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Control;
use super::listener::Waiting;
use crate::engine::Input;
use crate::engine::input::CommandId;

/// A program that connects says what it wants at once; one that does not is not `p2pctl`.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// A command that takes no byte for so long is stuck; its place is needed.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Largest request, in bytes: a path, three names and a password.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Why a frame did not come.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the command hung up")]
    HungUp,
    #[error(transparent)]
    Refused(#[from] FrameError),
}

/// Serves one command until it has its result or hangs up; one that has not said what it wants also until it is told to go.
pub(super) async fn run(
    mut stream: Stream,
    command: CommandId,
    told_to_go: oneshot::Receiver<()>,
    control: &Control,
    inputs: &mpsc::Sender<Input>,
) {
    let received = tokio::select! {
        received = tokio::time::timeout(REQUEST_DEADLINE, receive_request(&mut stream)) => received,
        _ = told_to_go => return,
    };
    if !control.silent_no_longer(command) {
        return;
    }
    match received {
        Ok(Ok(request)) => {
            let frames = control.open(command);
            if inputs.send(Input::Command(command, request)).await.is_ok() {
                answer(stream, frames).await;
                // Passed over by the engine where the command has its result.
                let _ = inputs.send(Input::CommandGone(command)).await;
            }
            control.close(command);
        }
        Ok(Err(ReadError::Refused(error))) => {
            let message = format!("the daemon does not understand this request: {error}");
            let reject = Reject::new(ErrorCode::MALFORMED, message)
                .hint("p2pctl and p2pd must come from the same version; restart the daemon after an update");
            let _ = write_frame(&mut stream, &Frame::Result(Err(reject))).await;
        }
        Ok(Err(ReadError::HungUp)) | Err(_) => (),
    }
}

/// Hello, HelloAck, and the request behind them. A command of another protocol version is told ours and no more.
async fn receive_request(stream: &mut Stream) -> Result<Request, ReadError> {
    let hello: Hello = read_frame(stream, HELLO_FRAME_BYTES_MAX).await?;
    let ack = HelloAck { version: CONTROL_PROTOCOL, software: SOFTWARE.to_owned() };
    write_frame(stream, &ack).await.map_err(|_| ReadError::HungUp)?;
    if hello.version != CONTROL_PROTOCOL {
        tracing::warn!(version = hello.version, software = ?hello.software, "a command speaks another protocol version");
        return Err(ReadError::HungUp);
    }
    read_frame(stream, REQUEST_BYTES_MAX).await
}

/// Sends frames as they come, until the result or until the command hangs up.
async fn answer(stream: Stream, mut waiting: mpsc::Receiver<Waiting>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut nothing = [0; 1];
    loop {
        tokio::select! {
            next = waiting.recv() => match next {
                None => return,
                Some(Waiting::Frame(frame)) => {
                    let last = matches!(*frame, Frame::Result(_));
                    if write_bytes(&mut write, &within_limit(&frame)).await.is_err() || last {
                        return;
                    }
                }
                Some(Waiting::Bytes(bytes, taken)) => {
                    if write_file_bytes(&mut write, &bytes).await.is_err() {
                        return;
                    }
                    // The command may have been told its result meanwhile: then nobody waits for this.
                    let _ = taken.send(());
                }
            },
            // A command says nothing after its request: whatever is read here, its end most of all, ends it.
            _ = read.read(&mut nothing) => return,
        }
    }
}

/// The next frame of at most `max` bytes.
async fn read_frame<T: DeserializeOwned>(stream: &mut Stream, max: usize) -> Result<T, ReadError> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.map_err(|_| ReadError::HungUp)?;
    let mut body = vec![0; frame::length(prefix, max)?];
    stream.read_exact(&mut body).await.map_err(|_| ReadError::HungUp)?;
    Ok(frame::decode(&body)?)
}

/// Writes one frame, or gives up on a command that takes nothing.
async fn write_frame<T: Serialize>(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    message: &T,
) -> std::io::Result<()> {
    write_bytes(stream, &frame::encode(message)).await
}

/// A frame's bytes; those of a refusal where the command could not take it.
fn within_limit(message: &Frame) -> Vec<u8> {
    let bytes = frame::encode(message);
    if bytes.len() <= CONTROL_FRAME_BYTES_MAX + PREFIX_BYTES {
        return bytes;
    }
    let message = format!("the answer has {} bytes, and one may have {CONTROL_FRAME_BYTES_MAX}", bytes.len());
    frame::encode(&Frame::Result(Err(Reject::new(ErrorCode::UNSUPPORTED, message))))
}

/// Writes bytes of a file. Whoever reads them at the other end of the command may take their time: a pager does, or a slow disk.
/// That they are gone is noticed when the command is.
async fn write_file_bytes(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &Bytes) -> std::io::Result<()> {
    for chunk in bytes.chunks(STREAM_FRAME_BYTES_MAX) {
        stream.write_all(&frame::encode(&Frame::Bytes(FileBytes(chunk.to_vec())))).await?;
    }
    stream.flush().await
}

async fn write_bytes(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    tokio::time::timeout(WRITE_DEADLINE, write).await.map_err(std::io::Error::from)?
}
