//! Raw connections and streams: frames where the speaker wants to be understood, bytes where not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use p2p_proto::frame;
use p2p_proto::id::NodeId;
use p2p_proto::identity::node_id_of;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{Shown, client_config};
use crate::wait::DEADLINE;

/// Longest frame heard, in bytes: more than any program sends.
const HEARD_BYTES_MAX: usize = 16 << 20;

/// One end of a QUIC connection.
#[derive(Debug)]
pub struct Line {
    /// The connection.
    pub connection: Connection,
    /// Its socket.
    pub endpoint: Endpoint,
}

/// A bidirectional stream.
#[derive(Debug)]
pub struct Stream {
    /// What goes out.
    pub send: SendStream,
    /// What comes in.
    pub recv: RecvStream,
}

/// What came next on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// A message.
    Message(T),
    /// The stream's end, behind the last message.
    Finished,
    /// The stream's end in the middle of a message.
    CutShort,
    /// The stream was reset with this code.
    Reset(u64),
    /// The connection was closed.
    Closed(Close),
}

impl<T> Heard<T> {
    /// The same with another message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Heard<U> {
        match self {
            Heard::Message(message) => Heard::Message(change(message)),
            Heard::Finished => Heard::Finished,
            Heard::CutShort => Heard::CutShort,
            Heard::Reset(code) => Heard::Reset(code),
            Heard::Closed(close) => Heard::Closed(close),
        }
    }
}

/// How the other end closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// With a code of the protocol ([`p2p_proto::peer::close_code`]).
    Protocol(u64),
    /// With a TLS alert (RFC 8446, section 6).
    Alert(u64),
    /// With an error of QUIC itself (RFC 9000, section 20.1).
    Quic(u64),
    /// It did not, or not in words.
    Silent,
}

impl From<&ConnectionError> for Close {
    fn from(error: &ConnectionError) -> Close {
        /// TLS alerts are QUIC errors from here on (RFC 9001, section 4.8).
        const ALERTS_FROM: u64 = 0x100;
        let quic = |code: u64| code.checked_sub(ALERTS_FROM).map_or(Close::Quic(code), Close::Alert);
        match error {
            ConnectionError::ApplicationClosed(close) => Close::Protocol(close.error_code.into_inner()),
            ConnectionError::ConnectionClosed(close) => quic(close.error_code.into()),
            ConnectionError::TransportError(error) => quic(error.code.into()),
            _ => Close::Silent,
        }
    }
}

/// Waits for what must happen.
///
/// # Panics
/// If it does not.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => panic!("not in {} s: {what}", DEADLINE.as_secs()),
    }
}

impl Line {
    /// Shakes hands from `here` with who is `there`; says nothing more.
    ///
    /// # Errors
    /// How the other end refused.
    pub async fn dial(here: IpAddr, there: SocketAddr, shown: &Shown<'_>, alpn: &[u8]) -> Result<Line, Close> {
        Self::dial_with(here, there, shown, alpn, TransportConfig::default()).await
    }

    /// The same with windows and limits of one's own.
    ///
    /// # Errors
    /// How the other end refused.
    pub async fn dial_with(
        here: IpAddr,
        there: SocketAddr,
        shown: &Shown<'_>,
        alpn: &[u8],
        transport: TransportConfig,
    ) -> Result<Line, Close> {
        let endpoint = Endpoint::client(SocketAddr::new(here, 0)).expect("a socket");
        Self::dial_on(endpoint, there, shown, alpn, transport).await
    }

    /// The same on a socket that others use too.
    ///
    /// # Errors
    /// How the other end refused.
    pub async fn dial_on(
        endpoint: Endpoint,
        there: SocketAddr,
        shown: &Shown<'_>,
        alpn: &[u8],
        transport: TransportConfig,
    ) -> Result<Line, Close> {
        let mut config = client_config(shown, alpn);
        config.transport_config(Arc::new(transport));
        let connecting = endpoint.connect_with(config, there, "hostile.invalid").expect("an address");
        match patiently("a handshake ends", connecting).await {
            Ok(connection) => Ok(Line { connection, endpoint }),
            Err(error) => Err(Close::from(&error)),
        }
    }

    /// The certificate of who answered.
    pub fn certificate(&self) -> CertificateDer<'static> {
        certificate_of(&self.connection)
    }

    /// A new stream, once the other end permits one.
    pub async fn stream(&self) -> Result<Stream, Close> {
        let opened = patiently("a stream is permitted", self.connection.open_bi()).await;
        opened.map(Stream::from).map_err(|error| Close::from(&error))
    }

    /// A new stream with these bytes on it, then its end where that is wanted.
    pub async fn say(&self, bytes: &[u8], finish: bool) -> Result<Stream, Close> {
        let mut stream = self.stream().await?;
        stream.say_bytes(bytes).await;
        if finish {
            stream.finish();
        }
        Ok(stream)
    }

    /// How the other end closes the connection, which it has to.
    pub async fn closed(&self) -> Close {
        Close::from(&patiently("the connection is closed", self.connection.closed()).await)
    }

    /// How it is closed, if it is.
    pub fn close_so_far(&self) -> Option<Close> {
        self.connection.close_reason().map(|error| Close::from(&error))
    }
}

impl From<(SendStream, RecvStream)> for Stream {
    fn from((send, recv): (SendStream, RecvStream)) -> Stream {
        Stream { send, recv }
    }
}

impl Stream {
    /// One message.
    pub async fn say<T: Serialize>(&mut self, message: &T) {
        self.say_bytes(&frame::encode(message)).await;
    }

    /// Bytes. The other end may have stopped listening: that is one of the right answers.
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// The end of what is said.
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// What comes next; it has to.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> Heard<T> {
        patiently("an answer", hear(&mut self.recv)).await
    }

    /// Everything that comes until the end: its bytes, and whether the end was a finish.
    pub async fn rest(&mut self) -> (usize, bool) {
        patiently("the stream's end", async {
            let mut bytes = 0;
            loop {
                match self.recv.read_chunk(usize::MAX, true).await {
                    Ok(Some(chunk)) => bytes += chunk.bytes.len(),
                    Ok(None) => return (bytes, true),
                    Err(_) => return (bytes, false),
                }
            }
        })
        .await
    }
}

/// The next frame of a stream.
pub async fn hear<T: DeserializeOwned>(recv: &mut RecvStream) -> Heard<T> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    match read(recv, &mut prefix).await {
        Ok(0) => return Heard::Finished,
        Ok(bytes) if bytes < prefix.len() => return Heard::CutShort,
        Ok(_) => {}
        Err(heard) => return heard,
    }
    let mut body = vec![0; frame::length(prefix, HEARD_BYTES_MAX).expect("honest programs send short frames")];
    match read(recv, &mut body).await {
        Ok(bytes) if bytes == body.len() => {
            Heard::Message(frame::decode(&body).expect("honest programs send messages"))
        }
        Ok(_) => Heard::CutShort,
        Err(heard) => heard,
    }
}

/// Fills `buffer` as far as the stream goes.
async fn read<T>(recv: &mut RecvStream, buffer: &mut [u8]) -> Result<usize, Heard<T>> {
    let mut filled = 0;
    while filled < buffer.len() {
        match recv.read(&mut buffer[filled..]).await {
            Ok(Some(bytes)) => filled += bytes,
            Ok(None) => break,
            Err(quinn::ReadError::Reset(code)) => return Err(Heard::Reset(code.into_inner())),
            Err(quinn::ReadError::ConnectionLost(error)) => return Err(Heard::Closed(Close::from(&error))),
            Err(error) => panic!("{error}"),
        }
    }
    Ok(filled)
}

/// Who is at the other end of a connection, by the certificate that was shown.
pub fn node_of(connection: &Connection) -> NodeId {
    node_id_of(&certificate_of(connection)).expect("a certificate")
}

fn certificate_of(connection: &Connection) -> CertificateDer<'static> {
    let identity = connection.peer_identity().expect("both ends show certificates");
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().expect("from rustls");
    certificates.first().expect("one").clone()
}

/// Windows so small that hardly anything can be sent to who never reads.
pub fn deaf() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(1024)).receive_window(VarInt::from_u32(16 * 1024));
    transport
}
