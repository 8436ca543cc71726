//! The daemon's one UDP endpoint: everything dialled and accepted goes through it, so that a NAT mapping made towards
//! a tracker also serves peers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use p2p_proto::id::NodeId;
use p2p_proto::identity::Identity;
use p2p_proto::peer::close_code;
use p2p_proto::tls;
use p2p_proto::version::{ALPN_PEER, ALPN_TRACKER};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, ConnectionError, EndpointConfig, Incoming, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, TransportErrorCode, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::pki_types::CertificateDer;

/// Socket buffers asked for, in bytes. With the usual 208 KiB a fifth of the throughput on a fast path goes to loss and
/// repair; beyond 4 MiB nothing was gained.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How often the dialling side speaks on a silent connection: whoever waits for payload learns soon that the other end is
/// gone, and 30 s is what NATs commonly keep a UDP mapping for. Fifty idle peers cost twenty small packets a second.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// A connection from which nothing came for so long is lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A handshake that is not finished by then has failed; several times the worst round trip, with a lost datagram or two.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that may be under way on one stream: the usual piece twice, so that no piece waits for its reader in between.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes that a peer may have under way to us on one connection: 80 MiB/s over a path of 100 ms. Also what a hostile
/// peer can make us keep by leaving gaps, so not more.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Bytes sent to one peer and not acknowledged yet, for the same path. They lie in leased buffers, so this is also how
/// much of a pool one slow peer can hold.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Bidirectional streams that a peer may have open to us: more requests than the best paths need at once, and interests
/// beside them. An idle connection costs about 80 bytes for each permitted one.
pub const PEER_STREAMS_MAX: u32 = 256;

/// Largest UDP payload tried by path discovery, in bytes: what Ethernet carries. Up to 6,500 is half as fast again over
/// loopback; above 6,550 whole batches vanish, since ten segments no longer fit one send call.
const MTU_UPPER_BOUND_BYTES: u16 = 1452;

/// Connection attempts waiting for the accept loop, which only spawns: enough for a burst.
const INCOMING_MAX: usize = 256;

/// Bytes kept for one attempt while it waits: a ClientHello with a post-quantum key share is two datagrams.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// Bytes kept for all of them.
const INCOMING_BUFFERS_BYTES: u64 = 1024 * 1024;

/// Which protocol a dial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Tracker protocol; the tracker may open its event stream and nothing else.
    Tracker,
    /// Peer protocol; both ends open streams.
    Peer,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused the address.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// What was asked for.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
    /// The TLS configuration was refused.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The cipher that QUIC begins with is missing.
    #[error("cannot set up QUIC: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
}

/// Why a dial led nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address that can be dialled, or no endpoint any more.
    #[error(transparent)]
    Unusable(#[from] quinn::ConnectError),
    /// The handshake failed, or was refused.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// Who answers has another key than the node to be reached.
    #[error("another node answers there")]
    AnotherNode,
    /// Nothing answers there.
    #[error("no answer in time")]
    TimedOut,
    /// The other end presented no certificate that names a node.
    #[error("it does not say which node it is")]
    Nameless,
    /// The TLS configuration was refused.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The cipher that QUIC begins with is missing.
    #[error("cannot set up QUIC: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
}

impl ConnectError {
    /// Whether the other end refused, or gave up a handshake that it had begun: what a daemon does that has no room. Who
    /// it is has not been shown then.
    pub fn is_for_want_of_room(&self) -> bool {
        let codes = [TransportErrorCode::CONNECTION_REFUSED, TransportErrorCode::APPLICATION_ERROR];
        matches!(self, ConnectError::Lost(ConnectionError::ConnectionClosed(close)) if codes.contains(&close.error_code))
    }
}

/// The endpoint. Clones share it.
///
/// Accepts the peer protocol only, and speaks both as a client. Its reset and connection-id keys come from the
/// identity: after a restart, peers and trackers of the process before learn at their next packet that it is gone.
#[derive(Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    /// The same socket as quinn's.
    socket: Arc<UdpSocket>,
    identity: Arc<Identity>,
    local: SocketAddr,
    peer_transport: Arc<TransportConfig>,
    tracker_transport: Arc<TransportConfig>,
}

impl Endpoint {
    /// Binds a UDP socket at `address` (port 0: any) and starts the endpoint on the current runtime.
    ///
    /// `[::]` takes IPv4 too; on a machine without IPv6 it falls back to `0.0.0.0`.
    ///
    /// # Errors
    /// Every [`BindError`].
    pub fn bind(identity: Arc<Identity>, address: SocketAddr) -> Result<Endpoint, BindError> {
        let refused = |source| BindError::Address { address, source };
        let socket = bind_socket(address).map_err(refused)?;
        warn_of_small_buffers(&socket);
        let mut endpoint_config =
            EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &identity.reset_key())));
        let id_key = identity.connection_id_key();
        endpoint_config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));

        let tls = QuicServerConfig::try_from(tls::server_config(&identity, &[ALPN_PEER])?)?;
        let mut server_config = ServerConfig::with_crypto(Arc::new(tls));
        server_config
            .transport_config(Arc::new(transport(PEER_STREAMS_MAX, 0, None)))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);

        let own = socket.try_clone().map_err(refused)?;
        let quinn =
            quinn::Endpoint::new(endpoint_config, Some(server_config), own, Arc::new(TokioRuntime)).map_err(refused)?;
        let local = canonical(quinn.local_addr().map_err(refused)?);
        Ok(Endpoint {
            quinn,
            socket: Arc::new(socket),
            identity,
            local,
            peer_transport: Arc::new(transport(PEER_STREAMS_MAX, 0, Some(KEEP_ALIVE_INTERVAL))),
            tracker_transport: Arc::new(transport(0, 1, Some(KEEP_ALIVE_INTERVAL))),
        })
    }

    /// The name of this daemon's key.
    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// The address bound; its IP is unspecified where every one of the machine's is listened on.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The address of ours that packets to `remote` leave from, as the system's routes say. Sends nothing.
    pub fn local_address_towards(&self, remote: SocketAddr) -> Option<SocketAddr> {
        if !self.local.ip().is_unspecified() {
            return Some(self.local);
        }
        let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let probe = UdpSocket::bind((any, 0)).ok()?;
        probe.connect(remote).ok()?;
        let ip = probe.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then(|| SocketAddr::new(ip, self.local.port()))
    }

    /// Dials, and tells which node answered. With `expected` another node's answer fails the handshake; without, who
    /// calls compares. The other end may still refuse: only its first message says that it did not.
    ///
    /// # Errors
    /// Every [`ConnectError`], [`ConnectError::TimedOut`] after [`HANDSHAKE_DEADLINE`].
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<NodeId>,
        protocol: Protocol,
    ) -> Result<(Connection, NodeId), ConnectError> {
        let (alpn, transport) = match protocol {
            Protocol::Tracker => (ALPN_TRACKER, &self.tracker_transport),
            Protocol::Peer => (ALPN_PEER, &self.peer_transport),
        };
        let tls = QuicClientConfig::try_from(tls::client_config(&self.identity, alpn, expected)?)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::clone(transport));
        let connecting = self.quinn.connect_with(config, address, &tls::server_name(expected))?;
        let connection = match tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(ConnectionError::TransportError(error))) if error.code == certificate_unknown() => {
                return Err(ConnectError::AnotherNode);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(ConnectError::TimedOut),
        };
        let node = node_at_other_end(&connection).ok_or(ConnectError::Nameless)?;
        Ok((connection, node))
    }

    /// The next attempt of a peer to connect; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        self.quinn.accept().await
    }

    /// This machine has another address: what was dialled goes on from there and says so now, not at its next keep-alive.
    /// The socket stays the same, since it listens at every address or at one that nothing can replace.
    pub fn announce_move(&self) {
        if let Err(error) = self.socket.try_clone().and_then(|socket| self.quinn.rebind(socket)) {
            tracing::warn!(%error, "connections are not told of this machine's new address at once");
        }
    }

    /// Closes every connection, and accepts none any more.
    pub fn close(&self) {
        self.quinn.close(VarInt::from_u32(close_code::SHUTDOWN), b"the program ends");
    }

    /// Waits until the other ends have been told of all that was closed, or do not answer.
    pub async fn wait_idle(&self) {
        self.quinn.wait_idle().await;
    }
}

/// The alert that our own verifier refuses a certificate with (RFC 8446, section 6.2), as QUIC carries it.
fn certificate_unknown() -> TransportErrorCode {
    TransportErrorCode::crypto(46)
}

/// Whose key the other end of a finished handshake proved.
pub fn node_at_other_end(connection: &Connection) -> Option<NodeId> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_node_id(&certificates).ok()
}

/// `address` as people know it: a socket for both families shows IPv4 as `::ffff:a.b.c.d`.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What quinn is told for one kind of connection; every window stated, since its defaults differ per version.
fn transport(peer_bidi_streams: u32, peer_uni_streams: u32, keep_alive: Option<Duration>) -> TransportConfig {
    let mut mtu_discovery = MtuDiscoveryConfig::default();
    mtu_discovery.upper_bound(MTU_UPPER_BOUND_BYTES);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(peer_bidi_streams.into())
        .max_concurrent_uni_streams(peer_uni_streams.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        // One piece after the other rather than all at the same time: the first is useful sooner, and it is 5 % faster.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(mtu_discovery))
        .keep_alive_interval(keep_alive)
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok());
    config
}

/// A bound UDP socket; `[::]` for both families where the machine has both.
fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let bind = |address: SocketAddr| -> io::Result<UdpSocket> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        rustix::net::bind(&socket, &address)?;
        Ok(socket.into())
    };
    match bind(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && error.kind() != io::ErrorKind::AddrInUse => {
            tracing::info!(%error, "no IPv6 here, listening on IPv4 alone");
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        result => result,
    }
}

/// Asks for larger socket buffers; less than asked for only costs speed.
fn warn_of_small_buffers(socket: &UdpSocket) {
    let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let receive_bytes = sockopt::socket_recv_buffer_size(socket).unwrap_or(0);
    let send_bytes = sockopt::socket_send_buffer_size(socket).unwrap_or(0);
    if receive_bytes.min(send_bytes) < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive_bytes,
            send_bytes,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "small socket buffers make fast transfers slower; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
}
