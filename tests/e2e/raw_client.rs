//! A client of a tracker that does what no daemon does: from any address of this machine, one step at a time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use p2p_proto::frame::{self, PREFIX_BYTES};
use p2p_proto::id::RequestId;
use p2p_proto::identity::Identity;
use p2p_proto::limit::TRACKER_FRAME_BYTES_MAX;
use p2p_proto::tls;
use p2p_proto::tracker::{Envelope, Hello, HelloAck, Reply, Request};
use p2p_proto::version::{ALPN_TRACKER, SOFTWARE, TRACKER_PROTOCOL};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A connection under a key of its own, both Hellos said.
pub struct RawClient {
    connection: Connection,
}

/// One stream, for requests that follow each other.
pub struct RawStream {
    send: SendStream,
    recv: RecvStream,
}

/// A socket for any number of clients, at an address of this machine.
pub fn endpoint(address: IpAddr) -> Endpoint {
    Endpoint::client(SocketAddr::new(address, 0)).expect("a socket")
}

impl RawClient {
    pub async fn connect(endpoint: &Endpoint, tracker: SocketAddr) -> RawClient {
        let identity = Identity::generate().expect("made");
        let tls = tls::client_config(&identity, ALPN_TRACKER, None).expect("a configuration");
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher")));
        let connecting = endpoint.connect_with(config, tracker, &tls::server_name(None)).expect("an address");
        let client = RawClient { connection: connecting.await.expect("connects") };
        let hello = Hello { version: TRACKER_PROTOCOL, software: SOFTWARE.to_owned(), local_addresses: Vec::new() };
        let ack: Option<HelloAck> = client.stream().await.exchange(&hello).await;
        assert!(ack.is_some(), "the tracker answers the Hello");
        client
    }

    pub async fn stream(&self) -> RawStream {
        let (send, recv) = self.connection.open_bi().await.expect("connected");
        RawStream { send, recv }
    }
}

impl RawStream {
    /// Asks; `None` where the tracker has given the stream up.
    pub async fn ask(&mut self, request: Request) -> Option<Reply> {
        // Nothing here is asked twice, so that one id does for all.
        self.exchange(&Envelope { id: RequestId([7; 16]), request }).await
    }

    async fn exchange<T: DeserializeOwned>(&mut self, message: &impl Serialize) -> Option<T> {
        self.send.write_all(&frame::encode(message)).await.ok()?;
        let mut prefix = [0; PREFIX_BYTES];
        self.recv.read_exact(&mut prefix).await.ok()?;
        let mut body = vec![0; frame::length(prefix, TRACKER_FRAME_BYTES_MAX).expect("not too long")];
        self.recv.read_exact(&mut body).await.ok()?;
        Some(frame::decode(&body).expect("a message"))
    }
}
