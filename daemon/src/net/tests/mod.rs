//! Real daemons over loopback QUIC, and raw peers that break the rules. Nothing waits but for what must come.

mod interests;
mod pieces;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use p2p_proto::grant::Grant;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::identity::Identity;
use p2p_proto::peer::{Interest, Open, close_code};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Net, handshake};
use crate::endpoint::{Endpoint, Protocol};
use crate::engine::Input;
use crate::engine::input::{ConnectionId, InterestId};
use crate::frame_stream::{expect_frame, write_frame};

/// Longer than anything here takes: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon's net with the engine's place taken by the test.
struct Node {
    net: Net,
    endpoint: Endpoint,
    inputs: mpsc::Receiver<Input>,
}

fn endpoint() -> Endpoint {
    let identity = Arc::new(Identity::generate().expect("an identity"));
    Endpoint::bind(identity, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("an endpoint")
}

impl Node {
    fn start() -> Node {
        let endpoint = endpoint();
        let (sender, inputs) = mpsc::channel(1024);
        Node { net: Net::start(endpoint.clone(), sender), endpoint, inputs }
    }

    fn id(&self) -> NodeId {
        self.endpoint.node_id()
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.local_address()
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.expect("in time").expect("the net lives")
    }

    async fn connected(&mut self) -> (ConnectionId, NodeId, bool) {
        match self.next().await {
            Input::PeerConnected { connection, node, dialled, .. } => (connection, node, dialled),
            other => panic!("not a connection: {other:?}"),
        }
    }

    async fn lost(&mut self, connection: ConnectionId) {
        assert!(matches!(self.next().await, Input::PeerLost { connection: lost, .. } if lost == connection));
    }
}

/// Two daemons with one connection, dialled by the first; its number at each.
async fn pair() -> (Node, ConnectionId, Node, ConnectionId) {
    let (mut dialler, mut acceptor) = (Node::start(), Node::start());
    dialler.net.dial(acceptor.id(), vec![acceptor.address()]);
    let (at_dialler, ..) = dialler.connected().await;
    let (at_acceptor, ..) = acceptor.connected().await;
    (dialler, at_dialler, acceptor, at_acceptor)
}

/// A daemon, and a peer of it that the test plays by hand.
async fn raw_peer() -> (Node, ConnectionId, Endpoint, Connection) {
    let mut node = Node::start();
    let raw = endpoint();
    let (connection, _) = raw.connect(node.address(), Some(node.id()), Protocol::Peer).await.expect("connects");
    handshake::greet(&connection, 7).await.expect("hello");
    let (id, ..) = node.connected().await;
    (node, id, raw, connection)
}

fn content() -> ContentId {
    ContentId([5; 32])
}

fn grant() -> Grant {
    Grant { body: vec![1, 2, 3], signature: vec![4; 64] }
}

fn interest() -> Interest {
    Interest { content: content(), group: "photos".parse().expect("a name"), grant: grant() }
}

async fn closed_with(connection: &Connection) -> VarInt {
    match timeout(PATIENCE, connection.closed()).await.expect("in time") {
        ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("ended otherwise: {other}"),
    }
}

#[tokio::test]
async fn both_ends_are_told_of_a_connection_and_of_its_end() {
    let (mut dialler, mut acceptor) = (Node::start(), Node::start());
    dialler.net.dial(acceptor.id(), vec![acceptor.address()]);
    let (at_dialler, node, dialled) = dialler.connected().await;
    assert_eq!((node, dialled), (acceptor.id(), true));
    let (at_acceptor, node, dialled) = acceptor.connected().await;
    assert_eq!((node, dialled), (dialler.id(), false));
    assert!(dialler.net.round_trip(at_dialler) > Duration::ZERO);

    acceptor.net.close(at_acceptor, close_code::DONE);
    acceptor.lost(at_acceptor).await;
    dialler.lost(at_dialler).await;
    assert_eq!(dialler.net.round_trip(at_dialler), Duration::ZERO);
}

#[tokio::test]
async fn another_node_than_the_one_dialled_is_refused() {
    let (mut dialler, mut acceptor) = (Node::start(), Node::start());
    let wanted = NodeId([9; 32]);
    dialler.net.dial(wanted, vec![acceptor.address()]);
    match dialler.next().await {
        Input::DialFailed { node, reason, .. } => {
            assert!(node == wanted && reason.contains("another node"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    // The address rests now, whoever is said to be there next.
    dialler.net.dial(acceptor.id(), vec![acceptor.address()]);
    match dialler.next().await {
        Input::DialFailed { node, reason, .. } => {
            assert!(node == acceptor.id() && reason.contains("a moment ago"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    // The other one was not told of anything: its first word is of the next connection.
    let another = Node::start();
    another.net.dial(acceptor.id(), vec![acceptor.address()]);
    assert_eq!(acceptor.connected().await.1, another.id());
}

#[tokio::test]
async fn the_first_address_that_answers_rightly_wins() {
    let (mut dialler, mut acceptor, stranger) = (Node::start(), Node::start(), Node::start());
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let addresses = vec![
        silent.local_addr().expect("an address"),
        stranger.address(),
        "0.0.0.0:4000".parse().expect("an address"),
        acceptor.address(),
    ];
    dialler.net.dial(acceptor.id(), addresses);
    assert_eq!(dialler.connected().await.1, acceptor.id());
    assert_eq!(acceptor.connected().await.1, dialler.id());
}

#[tokio::test]
async fn what_cannot_be_dialled_fails_at_once() {
    let mut node = Node::start();
    for (wanted, addresses) in [
        (NodeId([1; 32]), vec![]),
        (NodeId([1; 32]), vec!["127.0.0.1:80".parse().expect("an address")]),
        (node.id(), vec![node.address()]),
    ] {
        node.net.dial(wanted, addresses);
        assert!(matches!(node.next().await, Input::DialFailed { node: failed, .. } if failed == wanted));
    }
}

#[tokio::test]
async fn garbage_datagrams_are_ignored() {
    let (mut node, mut other) = (Node::start(), Node::start());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut datagram: Vec<u8> = (0..random.usize(1..1400)).map(|_| random.u8(..)).collect();
        if seed % 2 == 0 {
            // A long header with QUIC's version and fixed bit, so that some get further.
            datagram.splice(..datagram.len().min(5), [0xc0, 0, 0, 0, 1]);
        }
        socket.send_to(&datagram, node.address()).expect("sends");
    }
    other.net.dial(node.id(), vec![node.address()]);
    assert_eq!(node.connected().await.1, other.id());
    other.connected().await;
}

#[tokio::test]
async fn a_peer_without_a_hello_is_never_told() {
    let mut node = Node::start();
    let raw = endpoint();
    for garbage in [&[0xff; 8][..], &[2, 0, 0, 0, 1, 2][..]] {
        let (connection, _) = raw.connect(node.address(), Some(node.id()), Protocol::Peer).await.expect("connects");
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(garbage).await.expect("writes");
        assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::PROTOCOL));
    }
    let other = Node::start();
    other.net.dial(node.id(), vec![node.address()]);
    assert_eq!(node.connected().await.1, other.id());
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_malformed_ends_the_connection() {
    for garbage in [&u32::MAX.to_le_bytes()[..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &[1, 0][..]] {
        let (mut node, id, _raw, connection) = raw_peer().await;
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(garbage).await.expect("writes");
        send.finish().expect("finishes");
        assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::PROTOCOL));
        node.lost(id).await;
    }
}

#[test]
fn a_restarted_daemon_is_noticed_at_the_next_packet() {
    let folder = tempfile::tempdir().expect("a folder");
    let identity = || Arc::new(Identity::load_or_create(folder.path()).expect("an identity"));
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    // Each daemon on its own runtime: ending it is like ending the process, nothing is said to the peer.
    let (first_life, peers) = (runtime(), runtime());
    let address = {
        let _inside = first_life.enter();
        Endpoint::bind(identity(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    };
    let killed = address.expect("an endpoint");
    let (address, id) = (killed.local_address(), killed.node_id());
    let (sender, _inputs) = mpsc::channel(16);
    first_life.block_on(async { Net::start(killed, sender) });
    let mut peer = peers.block_on(async { Node::start() });
    let connection = peers.block_on(async {
        peer.net.dial(id, vec![address]);
        peer.connected().await.0
    });
    first_life.shutdown_timeout(PATIENCE);
    peers.block_on(async {
        let _second_life = Endpoint::bind(identity(), address).expect("the same port");
        peer.net.open_interest(InterestId(1), connection, interest());
        // Well before the idle time-out, which would have the same effect.
        let told = timeout(crate::endpoint::IDLE_TIMEOUT / 2, async { [peer.next().await, peer.next().await] });
        let told = told.await.expect("before the idle time");
        assert!(told.iter().any(|input| matches!(input, Input::InterestClosed(InterestId(1), None))), "{told:?}");
        assert!(
            told.iter().any(|input| matches!(input, Input::PeerLost { connection: lost, .. } if *lost == connection)),
            "{told:?}"
        );
    });
}

async fn send_open(connection: &Connection, open: &Open) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    write_frame(&mut send, open, PATIENCE).await.expect("writes");
    (send, recv)
}
