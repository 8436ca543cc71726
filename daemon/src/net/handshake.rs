//! Hello and HelloAck: until they are exchanged, a QUIC connection says nothing about whether the other end wants it.

use std::time::Duration;

use p2p_proto::limit::{HELLO_FRAME_BYTES_MAX, SOFTWARE_BYTES_MAX};
use p2p_proto::peer::{Hello, HelloAck, close_code};
use p2p_proto::version::{PEER_PROTOCOL, SOFTWARE};
use quinn::{Connection, ConnectionError, VarInt};

use crate::endpoint::canonical;
use crate::frame_stream::{ReadFrameError, WriteFrameError, expect_end, expect_frame, write_frame};

/// Time for either end to say Hello once the handshake is done: a round trip and a busy machine.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// Why two daemons do not talk.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error(transparent)]
    Read(#[from] ReadFrameError),
    #[error(transparent)]
    Write(#[from] WriteFrameError),
    #[error("{0}")]
    Lost(#[from] ConnectionError),
    #[error("it did not say hello in time")]
    TimedOut,
    #[error("it speaks version {0} of the peer protocol, here is version {PEER_PROTOCOL}")]
    Version(u16),
    #[error("its hello is malformed")]
    Malformed,
}

/// The dialler's side; gives the other daemon's instance. A failure closes the connection.
pub(super) async fn greet(connection: &Connection, instance: u64) -> Result<u64, HelloError> {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await?;
        let hello = Hello { version: PEER_PROTOCOL, software: SOFTWARE.to_owned(), instance };
        write_frame(&mut send, &hello, HELLO_DEADLINE).await?;
        let _ = send.finish();
        let ack: HelloAck = expect_frame(&mut recv, HELLO_FRAME_BYTES_MAX, HELLO_DEADLINE).await?;
        judge(ack.version, &ack.software)?;
        Ok(ack.instance)
    };
    settle(connection, exchange).await
}

/// The accepting side; gives the other daemon's instance. A failure closes the connection.
pub(super) async fn welcome(connection: &Connection, instance: u64) -> Result<u64, HelloError> {
    let exchange = async {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let hello: Hello = expect_frame(&mut recv, HELLO_FRAME_BYTES_MAX, HELLO_DEADLINE).await?;
        expect_end(&mut recv, HELLO_DEADLINE).await?;
        judge(hello.version, &hello.software)?;
        let ack = HelloAck {
            version: PEER_PROTOCOL,
            software: SOFTWARE.to_owned(),
            instance,
            observed: canonical(connection.remote_address()),
        };
        write_frame(&mut send, &ack, HELLO_DEADLINE).await?;
        let _ = send.finish();
        Ok(hello.instance)
    };
    settle(connection, exchange).await
}

fn judge(version: u16, software: &str) -> Result<(), HelloError> {
    match (version, software.len()) {
        (PEER_PROTOCOL, ..=SOFTWARE_BYTES_MAX) => Ok(()),
        (PEER_PROTOCOL, _) => Err(HelloError::Malformed),
        _ => Err(HelloError::Version(version)),
    }
}

async fn settle(
    connection: &Connection,
    exchange: impl Future<Output = Result<u64, HelloError>>,
) -> Result<u64, HelloError> {
    let result = match tokio::time::timeout(HELLO_DEADLINE, exchange).await {
        Ok(result) => result,
        Err(_) => Err(HelloError::TimedOut),
    };
    match &result {
        Ok(_) => {}
        Err(HelloError::Read(ReadFrameError::Malformed(_)) | HelloError::Malformed) => {
            connection.close(VarInt::from_u32(close_code::PROTOCOL), b"hello");
        }
        Err(_) => connection.close(VarInt::from_u32(close_code::HELLO), b"hello"),
    }
    result
}
