//! The UDP endpoint and its accept loop.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use p2p_proto::identity::Identity;
use p2p_proto::tls;
use p2p_proto::version::{ALPN_RAFT, ALPN_TRACKER};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::sockopt;
use tracing::{debug, info, warn};

use super::admission::Verdict;
use super::{ServerError, Shared, session};

/// A connection from which nothing came for so long is lost. Daemons speak every 5 s; the tracker itself stays silent.
const IDLE_MS: u32 = 30_000;

/// As [`IDLE_MS`], of another tracker: one that leads speaks every half second, and one that is back is to be dialled soon.
const TRACKER_IDLE_MS: u32 = 10_000;

/// Requests of one connection at once. An idle connection costs 37 KiB with 16 permitted streams, 114 KiB with 1,024.
pub const REQUESTS_MAX: u32 = 16;

/// Bytes under way to us on one stream: requests are small, and an announcement of 256 KiB takes four round trips.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Bytes under way to us on one connection: also what a client can make us keep without a word being read.
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;

/// Bytes sent on one connection and not acknowledged yet: a page and the next one.
const SEND_WINDOW_BYTES: u64 = 512 * 1024;

/// Connection attempts waiting for the accept loop, which only decides and spawns.
const INCOMING_MAX: usize = 1_024;

/// Bytes kept for one attempt while it waits: a ClientHello with a post-quantum key share is two datagrams.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// Bytes kept for all of them.
const INCOMING_BUFFERS_BYTES: u64 = 4 * 1024 * 1024;

/// Socket buffers asked for, in bytes: bursts of all clients arrive at one socket.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Binds the socket and makes the endpoint on it.
pub fn bind(identity: &Identity, address: SocketAddr) -> Result<Endpoint, ServerError> {
    let refused = |source| ServerError::Listen { address, source };
    let socket = UdpSocket::bind(address).map_err(refused)?;
    enlarge_buffers(&socket);
    let endpoint =
        Endpoint::new(endpoint_config(identity), Some(server_config(identity)?), socket, Arc::new(TokioRuntime));
    endpoint.map_err(refused)
}

/// Lets in who knocks, until the endpoint closes.
pub async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        knock(incoming, &shared);
    }
}

fn knock(incoming: Incoming, shared: &Arc<Shared>) {
    let address = incoming.remote_address();
    // Who cannot be asked to retry has been asked already.
    let validated = incoming.remote_address_validated() || !incoming.may_retry();
    let verdict = shared.admission.knock(address.ip(), validated);
    shared.counters.knocked(&verdict);
    match verdict {
        Verdict::Admit(pass) => match incoming.accept() {
            Ok(connecting) => drop(tokio::spawn(session::run(Arc::clone(shared), connecting, pass))),
            Err(error) => debug!(%address, %error, "connection attempt failed"),
        },
        Verdict::Retry => {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
        }
        Verdict::Refuse => {
            info!(%address, "connection refused: too many");
            incoming.refuse();
        }
        Verdict::Ignore => incoming.ignore(),
    }
}

fn endpoint_config(identity: &Identity) -> EndpointConfig {
    // Both keys outlive a restart: clients of the process before learn at their next packet that it is gone.
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &identity.reset_key())));
    let key = identity.connection_id_key();
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    config
}

fn server_config(identity: &Identity) -> Result<ServerConfig, ServerError> {
    let tls = tls::server_config(identity, &[ALPN_TRACKER, ALPN_RAFT])?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);
    Ok(config)
}

/// How this tracker dials the others of its cluster. Whose key answers is compared by who dials.
pub fn dialling(identity: &Identity) -> Result<ClientConfig, ServerError> {
    let tls = tls::client_config(identity, ALPN_RAFT, None)?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(TRACKER_IDLE_MS))))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Asks for larger buffers; less than asked for is slower, not wrong.
fn enlarge_buffers(socket: &UdpSocket) {
    let asked: io::Result<()> = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES)
        .and_then(|()| sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES))
        .map_err(io::Error::from);
    if let Err(error) = asked {
        warn!(%error, "the socket keeps its small buffers");
    }
}

/// How long after the handshake the Hello may come.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);
