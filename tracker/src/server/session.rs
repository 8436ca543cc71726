//! One connection, from handshake to close: Hello, then requests in and events out until either end has had enough.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::limit::{HELLO_FRAME_BYTES_MAX, NODE_ADDRESSES_MAX, SOFTWARE_BYTES_MAX};
use p2p_proto::peer::close_code;
use p2p_proto::tls;
use p2p_proto::tracker::{Event, Hello, HelloAck};
use p2p_proto::version::{ALPN_RAFT, SOFTWARE, TRACKER_PROTOCOL};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connecting, Connection, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use super::admission::{HANDSHAKE_DEADLINE, Pass};
use super::listener::HELLO_DEADLINE;
use super::online::Entered;
use super::{Shared, requests};
use crate::clock;
use crate::{frames, log};

/// What a session's requests share.
#[derive(Debug)]
pub struct Session {
    /// Whose connection it is, proved by the handshake.
    pub node: NodeId,
    /// Tells it from other sessions of the node.
    pub serial: u64,
    pub connection: Connection,
    /// Password exchanges in progress on this connection.
    pub exchanges: AtomicUsize,
}

/// How long a greeting waits to be current: well within what a daemon waits for it.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);

/// Runs one connection to its end.
pub async fn run(shared: Arc<Shared>, connecting: Connecting, mut pass: Pass) {
    let address = connecting.remote_address();
    let connection = match timeout(HANDSHAKE_DEADLINE, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%address, %error, "handshake failed"),
        Err(_) => return debug!(%address, "handshake too slow"),
    };
    pass.handshake_done();
    if is_tracker(&connection) {
        return log::serve(Arc::clone(&shared.consensus), connection).await;
    }
    if !shared.is_ready() {
        return connection.close(VarInt::from_u32(close_code::BUSY), b"the tracker is not in its cluster yet");
    }
    let Some(node) = node_of(&connection) else {
        return connection.close(VarInt::from_u32(close_code::PROTOCOL), b"no certificate");
    };
    let (send, hello) = match timeout(HELLO_DEADLINE, read_hello(&connection)).await {
        Ok(Ok(read)) => read,
        Ok(Err(reason)) => {
            debug!(%node, %address, reason, "connection refused");
            return connection.close(VarInt::from_u32(close_code::HELLO), reason.as_bytes());
        }
        Err(_) => return connection.close(VarInt::from_u32(close_code::HELLO), b"no Hello in time"),
    };
    let entered = greet(&shared, node, &connection, send, &hello).await;
    debug!(%node, %address, "node connected");
    let serial = entered.serial;
    let exchanges = AtomicUsize::new(0);
    let session = Arc::new(Session { node, serial, connection: connection.clone(), exchanges });
    // Each ends when the connection does; whichever ends first ends the session.
    tokio::select! {
        () = take_requests(&shared, &session) => {}
        () = send_events(&connection, entered.events) => {}
    }
    connection.close(VarInt::from_u32(close_code::DONE), b"");
    shared.online().leave(node, serial, clock::now());
    debug!(%node, "node disconnected");
}

/// Whether the other end has asked for the protocol of trackers among themselves.
fn is_tracker(connection: &Connection) -> bool {
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    handshake.is_some_and(|handshake| handshake.protocol.as_deref() == Some(ALPN_RAFT))
}

/// The node that the handshake has proved.
fn node_of(connection: &Connection) -> Option<NodeId> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_node_id(&certificates).ok()
}

/// Reads the Hello and checks it.
async fn read_hello(connection: &Connection) -> Result<(SendStream, Hello), &'static str> {
    let (send, mut recv) = connection.accept_bi().await.map_err(|_| "the connection ended before the Hello")?;
    let hello: Hello = frames::read(&mut recv, HELLO_FRAME_BYTES_MAX).await.map_err(|_| "the Hello is malformed")?;
    if hello.version != TRACKER_PROTOCOL {
        return Err("this version of the protocol is not spoken here");
    }
    if hello.software.len() > SOFTWARE_BYTES_MAX || hello.local_addresses.len() > NODE_ADDRESSES_MAX {
        return Err("the Hello is too long");
    }
    Ok((send, hello))
}

/// Enters the node among those online and answers its Hello.
async fn greet(shared: &Shared, node: NodeId, connection: &Connection, mut send: SendStream, hello: &Hello) -> Entered {
    let current = timeout(GREETING_PATIENCE, shared.consensus.catch_up(0)).await.unwrap_or(false);
    let now = clock::now();
    // Under the state's lock, so that no change of the node's user is missed between the two.
    let (entered, user) = shared.consensus.query(|state| {
        let user = state.user_of_node(node).cloned();
        let entered = shared.online().enter(node, user.clone(), connection.clone(), &hello.local_addresses, now);
        (entered, user)
    });
    let ack = HelloAck {
        version: TRACKER_PROTOCOL,
        software: SOFTWARE.to_owned(),
        cluster: shared.signer().public_key(),
        time: now,
        observed: canonical(connection.remote_address()),
        user,
        leader: shared.consensus.is_leader(),
        current,
        place: shared.consensus.place(),
    };
    if frames::write(&mut send, &ack).await {
        // An error here is a stream that the other end has stopped: it has what it wanted.
        let _ = send.finish();
    }
    entered
}

/// An IPv4 address as such, also where the socket is an IPv6 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Starts a task for each request; QUIC's permitted streams bound how many there are at once.
async fn take_requests(shared: &Arc<Shared>, session: &Arc<Session>) {
    while let Ok((send, recv)) = session.connection.accept_bi().await {
        tokio::spawn(requests::serve(Arc::clone(shared), Arc::clone(session), send, recv));
    }
}

/// Writes events as they come. The stream is opened with the first: until then the client would not see it anyway.
async fn send_events(connection: &Connection, mut events: mpsc::Receiver<Event>) {
    let mut stream: Option<SendStream> = None;
    while let Some(event) = events.recv().await {
        if stream.is_none() {
            stream = connection.open_uni().await.ok();
        }
        let Some(stream) = &mut stream else { break };
        if !frames::write(stream, &event).await {
            break;
        }
    }
    // The queue is closed when a newer connection of the node has taken its place.
    connection.close(VarInt::from_u32(close_code::BUSY), b"events are not read");
}

/// One password exchange of a session, given back when dropped.
pub struct ExchangeTurn<'a>(&'a AtomicUsize);

/// Password exchanges of one connection at once; a daemon has one.
const EXCHANGES_PER_CONNECTION_MAX: usize = 2;

impl Session {
    /// A turn for a password exchange, if this connection has one left.
    pub fn exchange_turn(&self) -> Option<ExchangeTurn<'_>> {
        let turn = ExchangeTurn(&self.exchanges);
        let before = self.exchanges.fetch_add(1, Ordering::Relaxed);
        (before < EXCHANGES_PER_CONNECTION_MAX).then_some(turn)
    }

    /// Where the node is connected from.
    pub fn address(&self) -> IpAddr {
        self.connection.remote_address().ip()
    }
}

impl Drop for ExchangeTurn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
