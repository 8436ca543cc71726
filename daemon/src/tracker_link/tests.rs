//! A daemon's tracker link against a tracker of a few lines, over loopback QUIC.

use std::net::{Ipv4Addr, SocketAddr};

use p2p_proto::control::TrackerState;
use p2p_proto::frame;
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::limit::HELLO_FRAME_BYTES_MAX;
use p2p_proto::password::{
    CHANNEL_BINDING_LABEL, ChannelBinding, ServerLogin, ServerSetup, record_from_upload,
    register as answer_registration,
};
use p2p_proto::time::UnixMillis;
use p2p_proto::tls;
use p2p_proto::tracker::{Answer, Event, Hello, HelloAck, Request};
use p2p_proto::version::{ALPN_TRACKER, SOFTWARE, TRACKER_PROTOCOL};
use quinn::crypto::rustls::QuicServerConfig;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tracker's end.
struct FakeTracker {
    endpoint: quinn::Endpoint,
    node: NodeId,
    setup: Arc<ServerSetup>,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl FakeTracker {
    fn start(identity: &Identity, port: u16) -> FakeTracker {
        let tls = tls::server_config(identity, &[ALPN_TRACKER]).expect("a configuration");
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("a cipher")));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = quinn::Endpoint::server(config, address).expect("an endpoint");
        FakeTracker {
            endpoint,
            node: identity.node_id(),
            setup: Arc::new(ServerSetup::generate()),
            records: Arc::default(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    /// Accepts one daemon, up to its Hello and our answer.
    async fn welcome(&self) -> Connection {
        let connection = self.accept().await;
        let (mut send, mut recv) = connection.accept_bi().await.expect("a stream");
        let hello: Hello = expect_frame(&mut recv, HELLO_FRAME_BYTES_MAX, PATIENCE).await.expect("a hello");
        assert!(hello.local_addresses.iter().all(|address| address.ip().is_loopback() && address.port() > 0));
        let ack = HelloAck {
            version: TRACKER_PROTOCOL,
            software: SOFTWARE.to_owned(),
            cluster: ClusterKey([1; 32]),
            time: UnixMillis(1),
            observed: connection.remote_address(),
            user: None,
            leader: true,
            current: true,
            place: 0,
        };
        write_frame(&mut send, &ack, PATIENCE).await.expect("writes");
        send.finish().expect("finishes");
        connection
    }

    async fn accept(&self) -> Connection {
        let incoming = timeout(PATIENCE, self.endpoint.accept()).await.expect("in time").expect("an endpoint");
        incoming.await.expect("a handshake")
    }

    /// Answers every request on a connection until it ends.
    fn serve(&self, connection: Connection) {
        let (setup, records) = (Arc::clone(&self.setup), Arc::clone(&self.records));
        tokio::spawn(async move {
            let knowledge = Knowledge { current: true, place: 0 };
            let mut changes = Vec::new();
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let mut login = None;
                while let Ok(Envelope { id, request, .. }) =
                    expect_frame(&mut recv, TRACKER_FRAME_BYTES_MAX, PATIENCE).await
                {
                    let is_change = matches!(request, Request::ChangePasswordFinish { .. });
                    let reply = match request {
                        Request::ChangePasswordStart { .. } if changes.contains(&id) => Ok(Answer::Done),
                        request => answer(&setup, &records, &connection, &mut login, request),
                    };
                    changes.extend((is_change && reply.is_ok()).then_some(id));
                    write_frame(&mut send, &Replied { reply, knowledge }, PATIENCE).await.expect("writes");
                }
            }
        });
    }
}

fn answer(
    setup: &ServerSetup,
    records: &Mutex<Vec<Vec<u8>>>,
    connection: &Connection,
    login: &mut Option<ServerLogin>,
    request: Request,
) -> Reply {
    let mut records = records.lock().expect("not poisoned");
    match request {
        Request::RegisterStart { user, message } => {
            Ok(Answer::Challenge(answer_registration(setup, &user, &message).expect("a request")))
        }
        Request::RegisterFinish { record } => {
            records.push(record_from_upload(&record).expect("a record"));
            Ok(Answer::Done)
        }
        Request::LoginStart { user, message } => {
            let binding = binding(connection);
            let record = records.first().map(Vec::as_slice);
            let (state, response) = ServerLogin::start(setup, record, &user, &binding, &message).expect("a login");
            *login = Some(state);
            Ok(Answer::Challenge(response))
        }
        Request::ChangePasswordStart { login: message, registration } => {
            let binding = binding(connection);
            let record = records.first().map(Vec::as_slice);
            let (state, response) = ServerLogin::start(setup, record, &alice(), &binding, &message).expect("a login");
            *login = Some(state);
            let registration = answer_registration(setup, &alice(), &registration).expect("a request");
            Ok(Answer::PasswordChallenge { login: response, registration })
        }
        Request::ChangePasswordFinish { proof, record, .. } => match login.take().expect("two rounds").finish(&proof) {
            Ok(()) => {
                records[0] = record_from_upload(&record).expect("a record");
                Ok(Answer::Done)
            }
            Err(error) => Err(Reject::new(ErrorCode::LOGIN_REFUSED, error.to_string())),
        },
        Request::LoginFinish { proof } => match login.take().expect("two rounds").finish(&proof) {
            Ok(()) => Ok(Answer::Done),
            Err(error) => Err(Reject::new(ErrorCode::LOGIN_REFUSED, error.to_string())),
        },
        Request::Logout => Err(Reject::new(ErrorCode::LOGIN_NEEDED, "not logged in")),
        _ => Ok(Answer::Done),
    }
}

fn binding(connection: &Connection) -> ChannelBinding {
    let mut binding = [0; 32];
    connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").expect("exports");
    binding
}

fn alice() -> UserName {
    "alice".parse().expect("a good name")
}

/// The daemon's end, with the engine's place taken by the test.
struct Daemon {
    link: TrackerLink,
    inputs: mpsc::Receiver<Input>,
}

impl Daemon {
    fn start(folder: &TempDir, tracker: TrackerAddress) -> Daemon {
        let identity = Arc::new(Identity::generate().expect("an identity"));
        let endpoint = Endpoint::bind(identity, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("an endpoint");
        let (sender, inputs) = mpsc::channel(64);
        Daemon { link: TrackerLink::start(endpoint, vec![tracker], folder.path(), sender), inputs }
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.inputs.recv()).await.expect("in time").expect("the link lives")
    }

    async fn connected(&mut self) -> NodeId {
        match self.next().await {
            Input::TrackerConnected { tracker: TrackerId(0), node, ack, .. } if ack.leader => node,
            other => panic!("not connected: {other:?}"),
        }
    }

    async fn lost(&mut self) -> (TrackerState, Reject) {
        match self.next().await {
            Input::TrackerLost { tracker: TrackerId(0), state, reason } => (state, reason),
            other => panic!("not lost: {other:?}"),
        }
    }

    async fn answered(&mut self, ask: u64) -> Reply {
        match self.next().await {
            Input::TrackerAnswered { ask: AskId(answered), reply, .. } if answered == ask => reply,
            other => panic!("no answer: {other:?}"),
        }
    }
}

fn identity() -> Identity {
    Identity::generate().expect("an identity")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn unpinned(address: SocketAddr) -> TrackerAddress {
    TrackerAddress { host_port: address.to_string(), pin: None }
}

fn envelope(request: Request) -> Envelope {
    Envelope { id: RequestId([1; 16]), seen: 0, request }
}

/// A connected pair.
async fn pair(folder: &TempDir) -> (FakeTracker, Connection, Daemon) {
    let tracker = FakeTracker::start(&identity(), 0);
    let mut daemon = Daemon::start(folder, unpinned(tracker.address()));
    let connection = tracker.welcome().await;
    assert_eq!(daemon.connected().await, tracker.node);
    (tracker, connection, daemon)
}

#[tokio::test]
async fn a_first_key_is_remembered_and_another_refused_loudly() {
    let folder = folder();
    let (tracker, _connection, daemon) = pair(&folder).await;
    let address = tracker.address();
    let known = KnownTrackers::in_folder(folder.path());
    assert_eq!(known.lookup(&address.to_string()).expect("reads"), Some(tracker.node));
    drop(daemon);
    let first = tracker.node;
    tracker.endpoint.close(VarInt::from_u32(0), b"");
    tracker.endpoint.wait_idle().await;
    drop(tracker);

    let other = FakeTracker::start(&identity(), 0);
    let folder_text = std::fs::read_to_string(known.path()).expect("reads");
    std::fs::write(known.path(), folder_text.replace(&address.to_string(), &other.address().to_string()))
        .expect("writes");
    let mut daemon = Daemon::start(&folder, unpinned(other.address()));
    let connection = other.accept().await;
    let (state, reason) = daemon.lost().await;
    assert_eq!((state, reason.code), (TrackerState::KeyChanged, ErrorCode::TRACKER_KEY_CHANGED));
    assert!(reason.message.contains(&first.to_string()) && reason.message.contains(&other.node.to_string()));
    assert!(reason.hint.contains(&format!("`{} {first}`", other.address())), "{}", reason.hint);
    assert!(reason.hint.contains(&known.path().display().to_string()), "{}", reason.hint);
    timeout(PATIENCE, connection.closed()).await.expect("nothing is said to it");

    // The way out that the hint names, without a restart.
    std::fs::remove_file(known.path()).expect("removes");
    daemon.link.wake();
    let _connection = other.welcome().await;
    assert_eq!(daemon.connected().await, other.node);
}

#[tokio::test]
async fn a_pin_wins_over_what_is_remembered() {
    let folder = folder();
    let tracker = FakeTracker::start(&identity(), 0);
    let known = KnownTrackers::in_folder(folder.path());
    known.remember(&tracker.address().to_string(), NodeId([9; 32])).expect("writes");
    let pinned = TrackerAddress { pin: Some(tracker.node), ..unpinned(tracker.address()) };
    let mut daemon = Daemon::start(&folder, pinned);
    let _connection = tracker.welcome().await;
    assert_eq!(daemon.connected().await, tracker.node);

    let wrong = TrackerAddress { pin: Some(NodeId([9; 32])), ..unpinned(tracker.address()) };
    let mut daemon = Daemon::start(&folder, wrong);
    let _connection = tracker.accept().await;
    let (state, reason) = daemon.lost().await;
    assert_eq!((state, reason.code), (TrackerState::KeyChanged, ErrorCode::TRACKER_KEY_CHANGED));
}

#[tokio::test]
async fn a_tracker_that_restarts_is_met_again() {
    let folder = folder();
    let same = identity();
    let tracker = FakeTracker::start(&same, 0);
    let port = tracker.address().port();
    let mut daemon = Daemon::start(&folder, unpinned(tracker.address()));
    let connection = tracker.welcome().await;
    daemon.connected().await;
    connection.close(VarInt::from_u32(close_code::SHUTDOWN), b"");
    tracker.endpoint.close(VarInt::from_u32(close_code::SHUTDOWN), b"");
    tracker.endpoint.wait_idle().await;
    drop((connection, tracker));
    assert_eq!(daemon.lost().await.0, TrackerState::Unreachable);
    daemon.link.ask(AskId(1), TrackerId(0), envelope(Request::Logout));
    let refused = daemon.answered(1).await.expect_err("nobody to ask");
    assert!(refused.code == ErrorCode::NO_TRACKER && !refused.hint.is_empty());

    let tracker = restart(&same, port).await;
    daemon.link.wake();
    let connection = tracker.welcome().await;
    daemon.connected().await;
    tracker.serve(connection);
    daemon.link.ask(AskId(2), TrackerId(0), envelope(Request::ListGroups { mine: true, after: None }));
    assert_eq!(daemon.answered(2).await, Ok(Answer::Done));
}

/// The old socket closes with the old endpoint's task, a moment after its last handle.
async fn restart(identity: &Identity, port: u16) -> FakeTracker {
    while std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        tokio::task::yield_now().await;
    }
    FakeTracker::start(identity, port)
}

#[tokio::test]
async fn questions_and_refusals_are_answered_once() {
    let folder = folder();
    let (tracker, connection, mut daemon) = pair(&folder).await;
    tracker.serve(connection);
    daemon.link.ask(AskId(1), TrackerId(0), envelope(Request::ListGroups { mine: false, after: None }));
    assert_eq!(daemon.answered(1).await, Ok(Answer::Done));
    daemon.link.ask(AskId(2), TrackerId(0), envelope(Request::Logout));
    assert_eq!(daemon.answered(2).await.expect_err("refused").code, ErrorCode::LOGIN_NEEDED);
    daemon.link.ask(AskId(3), TrackerId(7), envelope(Request::Logout));
    assert_eq!(daemon.answered(3).await.expect_err("no such tracker").code, ErrorCode::NO_TRACKER);
}

#[tokio::test]
async fn a_question_is_answered_when_the_tracker_dies_over_it() {
    let folder = folder();
    let (_tracker, connection, mut daemon) = pair(&folder).await;
    daemon.link.ask(AskId(1), TrackerId(0), envelope(Request::Logout));
    let _stream = connection.accept_bi().await.expect("the question");
    connection.close(VarInt::from_u32(close_code::SHUTDOWN), b"");
    let mut told = [false; 2];
    for _ in 0..2 {
        match daemon.next().await {
            Input::TrackerAnswered { ask: AskId(1), reply: Err(reject), knowledge: None, .. }
                if reject.code == ErrorCode::NO_TRACKER =>
            {
                told[0] = true;
            }
            Input::TrackerLost { state: TrackerState::Unreachable, .. } => told[1] = true,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [true; 2]);
}

#[tokio::test]
async fn questions_beyond_the_bound_are_refused_as_busy() {
    let folder = folder();
    let (_tracker, _connection, mut daemon) = pair(&folder).await;
    for ask in 0..=ASKS_MAX as u64 {
        daemon.link.ask(AskId(ask), TrackerId(0), envelope(Request::Logout));
    }
    assert_eq!(daemon.answered(ASKS_MAX as u64).await.expect_err("busy").code, ErrorCode::BUSY);
}

#[tokio::test]
async fn events_are_told_and_garbage_among_them_ends_the_connection() {
    let folder = folder();
    let (_tracker, connection, mut daemon) = pair(&folder).await;
    let mut events = connection.open_uni().await.expect("a stream");
    let event = Event::Enrolment { user: Some("alice".parse().expect("a name")) };
    for _ in 0..2 {
        write_frame(&mut events, &event, PATIENCE).await.expect("writes");
        assert!(matches!(daemon.next().await, Input::TrackerEvent(TrackerId(0), told) if told == event));
    }
    events.write_all(&u32::MAX.to_le_bytes()).await.expect("writes");
    assert_eq!(daemon.lost().await.1.code, ErrorCode::MALFORMED);
}

#[tokio::test]
async fn garbage_for_a_hello_or_an_answer_is_a_refusal() {
    let folder = folder();
    let (_tracker, connection, mut daemon) = pair(&folder).await;
    daemon.link.ask(AskId(1), TrackerId(0), envelope(Request::Logout));
    let (mut send, _recv) = connection.accept_bi().await.expect("the question");
    send.write_all(&frame::encode(&[0xffu8; 9])).await.expect("writes");
    assert_eq!(daemon.answered(1).await.expect_err("no answer").code, ErrorCode::MALFORMED);

    let tracker = FakeTracker::start(&identity(), 0);
    let mut daemon = Daemon::start(&folder, unpinned(tracker.address()));
    let connection = tracker.accept().await;
    let (mut send, _recv) = connection.accept_bi().await.expect("a stream");
    send.write_all(&[0xff; 16]).await.expect("writes");
    assert_eq!(daemon.lost().await.0, TrackerState::Refused);
    let known = KnownTrackers::in_folder(folder.path());
    assert_eq!(known.lookup(&tracker.address().to_string()).expect("reads"), None, "no tracker, no trust");
}

#[tokio::test]
async fn an_account_is_made_and_only_its_password_logs_in() {
    let folder = folder();
    let (tracker, connection, mut daemon) = pair(&folder).await;
    tracker.serve(connection);
    let user: UserName = "alice".parse().expect("a name");
    daemon.link.register(AskId(1), TrackerId(0), user.clone(), Password::new("correct horse".to_owned()));
    assert_eq!(daemon.answered(1).await, Ok(Answer::Done));
    daemon.link.login(AskId(2), TrackerId(0), user.clone(), Password::new("correct horse".to_owned()));
    assert_eq!(daemon.answered(2).await, Ok(Answer::Done));
    daemon.link.login(AskId(3), TrackerId(0), user.clone(), Password::new("battery staple".to_owned()));
    assert_eq!(daemon.answered(3).await.expect_err("wrong").code, ErrorCode::LOGIN_REFUSED);
    daemon.link.login(AskId(4), TrackerId(0), user, Password::new(String::new()));
    assert_eq!(daemon.answered(4).await.expect_err("empty").code, ErrorCode::USAGE);
}

#[tokio::test]
async fn a_password_is_changed_once_by_who_knows_the_old_one() {
    let folder = folder();
    let (tracker, connection, mut daemon) = pair(&folder).await;
    tracker.serve(connection);
    let password = |text: &str| Password::new(text.to_owned());
    daemon.link.register(AskId(1), TrackerId(0), alice(), password("old"));
    assert_eq!(daemon.answered(1).await, Ok(Answer::Done));
    let change = |daemon: &Daemon, ask, id, old, new| {
        let (old, new) = (password(old), password(new));
        let change = PasswordChange { user: alice(), old, new, log_out_everywhere: false };
        daemon.link.change_password(AskId(ask), TrackerId(0), RequestId([id; 16]), Box::new(change));
    };
    change(&daemon, 2, 1, "wrong", "new");
    let refused = daemon.answered(2).await.expect_err("wrong");
    assert_eq!((refused.code, refused.message.as_str()), (ErrorCode::LOGIN_REFUSED, "the old password is wrong"));
    change(&daemon, 3, 2, "old", "new");
    assert_eq!(daemon.answered(3).await, Ok(Answer::Done));
    change(&daemon, 4, 2, "old", "new");
    assert_eq!(daemon.answered(4).await, Ok(Answer::Done), "a retry under the same id");
    change(&daemon, 5, 3, "old", "new");
    assert_eq!(daemon.answered(5).await.expect_err("another change").code, ErrorCode::LOGIN_REFUSED);
    daemon.link.login(AskId(6), TrackerId(0), alice(), password("new"));
    assert_eq!(daemon.answered(6).await, Ok(Answer::Done));
}
