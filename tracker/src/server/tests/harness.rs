//! A tracker in a runtime of its own, which can be killed, and a client that speaks its protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2p_proto::frame;
use p2p_proto::id::{ContentId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::password::{CHANNEL_BINDING_LABEL, ChannelBinding, ClientLogin, ClientRegistration, Password};
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;
use p2p_proto::tls;
use p2p_proto::tracker::{
    Announce, Answer, Envelope, Event, Hello, HelloAck, JoinPolicy, Presence, Replied, Reply, Request,
};
use p2p_proto::version::{ALPN_TRACKER, SOFTWARE, TRACKER_PROTOCOL};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use tokio::runtime::Runtime;

use super::super::Server;
use crate::config::{Cluster, GrantTerms};
use crate::log::{Store, write_log_of_format_1};
use crate::state::Entry;

/// As of a tracker that is told nothing.
const GRANT_TERMS: GrantTerms = GrantTerms {
    life: Duration::from_secs(p2p_proto::limit::GRANT_LIFE_SECONDS),
    without_majority: Duration::from_secs(p2p_proto::limit::GRANTS_WITHOUT_MAJORITY_SECONDS),
};

/// How long anything here may take before the test is given up: no rule is about time.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A tracker on its folder.
pub struct Tracker {
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    running: Option<(Runtime, Server)>,
}

impl Tracker {
    pub fn start() -> Tracker {
        Tracker::with_log(&[])
    }

    /// On a folder whose log holds these entries.
    pub fn with_log(entries: &[Entry]) -> Tracker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if !entries.is_empty() {
            write_log_of_format_1(folder.path(), entries, 0);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut tracker = Tracker { folder, address, running: None };
        tracker.start_again();
        tracker
    }

    /// Starts on the same folder and port.
    pub fn start_again(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let identity = Identity::load_or_create(self.folder.path()).expect("an identity");
        let store = Store::open(self.folder.path()).expect("a log");
        let server = runtime.block_on(async {
            let alone = Cluster::default();
            let server = Server::start(&identity, self.address, &alone, store, GRANT_TERMS).await.expect("starts");
            server.ready().await.expect("is its own leader");
            server
        });
        self.address = server.address().expect("bound");
        self.running = Some((runtime, server));
    }

    /// What runs.
    pub fn server(&self) -> &Server {
        &self.running.as_ref().expect("runs").1
    }

    /// Ends as by a kill: nobody is told, nothing is finished.
    pub fn kill(&mut self) {
        let (runtime, server) = self.running.take().expect("runs");
        drop(runtime);
        drop(server);
    }

    /// Ends as by SIGTERM.
    pub fn stop(&mut self) {
        let (runtime, server) = self.running.take().expect("runs");
        runtime.block_on(server.stop());
    }
}

/// Runs the client's side of a test.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(GIVE_UP, test).await.expect("the test takes too long") })
}

/// One node.
pub struct Client {
    pub connection: Connection,
    pub ack: HelloAck,
    pub endpoint: Endpoint,
    events: Option<RecvStream>,
}

impl Client {
    /// Connects and says Hello.
    pub async fn connect(tracker: SocketAddr, identity: &Identity) -> Client {
        Self::connect_with(tracker, identity, TransportConfig::default()).await
    }

    /// Connects from an address of this machine and says Hello.
    pub async fn connect_from(address: [u8; 4], tracker: SocketAddr, identity: &Identity) -> Client {
        Self::hello(dial_from(address, tracker, identity, TransportConfig::default()).await).await
    }

    pub async fn connect_with(tracker: SocketAddr, identity: &Identity, transport: TransportConfig) -> Client {
        Self::hello(dial(tracker, identity, transport).await).await
    }

    async fn hello((endpoint, connection): (Endpoint, Connection)) -> Client {
        let (mut send, mut recv) = connection.open_bi().await.expect("connected");
        let hello = Hello { version: TRACKER_PROTOCOL, software: SOFTWARE.to_owned(), local_addresses: Vec::new() };
        send.write_all(&frame::encode(&hello)).await.expect("taken");
        send.finish().expect("open");
        let ack = decode(&recv.read_to_end(1024).await.expect("an answer"));
        Client { connection, ack, endpoint, events: None }
    }

    /// Asks once.
    pub async fn ask(&self, request: Request) -> Reply {
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        send.write_all(&envelope(request)).await.expect("taken");
        send.finish().expect("open");
        decode::<Replied>(&recv.read_to_end(1 << 20).await.expect("an answer")).reply
    }

    pub async fn ok(&self, request: Request) -> Answer {
        let shown = format!("{request:?}");
        self.ask(request).await.unwrap_or_else(|reject| panic!("{shown} is refused: {reject}"))
    }

    pub async fn refused(&self, request: Request) -> ErrorCode {
        self.ask(request).await.expect_err("a refusal").code
    }

    pub async fn register(&self, user: &str, password: &str) -> Reply {
        let (client, message) = ClientRegistration::start(&secret(password)).expect("starts");
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        let start = Request::RegisterStart { user: user.parse().expect("allowed"), message };
        let challenge = challenge(&mut send, &mut recv, start).await?;
        let record = client.finish(&user.parse().expect("allowed"), &challenge).expect("finishes");
        round(&mut send, &mut recv, Request::RegisterFinish { record }).await
    }

    /// What a proof of a password is bound to.
    pub fn binding(&self) -> ChannelBinding {
        let mut binding = [0; 32];
        self.connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").expect("exports");
        binding
    }

    pub async fn login(&self, user: &str, password: &str) -> Reply {
        let binding = self.binding();
        let (client, message) = ClientLogin::start(&secret(password)).expect("starts");
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        let start = Request::LoginStart { user: user.parse().expect("allowed"), message };
        let challenge = challenge(&mut send, &mut recv, start).await?;
        // Whoever finds the password wrong sends a proof nevertheless, to see that it is of no use.
        let proof = client.finish(&user.parse().expect("allowed"), &binding, &challenge).unwrap_or(vec![0; 64]);
        round(&mut send, &mut recv, Request::LoginFinish { proof }).await
    }

    /// A new account, logged in.
    pub async fn enter(tracker: SocketAddr, user: &str) -> (Client, Identity) {
        let identity = Identity::generate().expect("made");
        let client = Client::connect(tracker, &identity).await;
        client.register(user, "a password").await.expect("registered");
        client.login(user, "a password").await.expect("logged in");
        (client, identity)
    }

    /// The next event that is not about this node's own login.
    pub async fn event(&mut self) -> Event {
        loop {
            let event = self.any_event().await;
            if !matches!(event, Event::Enrolment { .. }) {
                return event;
            }
        }
    }

    /// The next event.
    pub async fn any_event(&mut self) -> Event {
        if self.events.is_none() {
            self.events = Some(self.connection.accept_uni().await.expect("connected"));
        }
        let events = self.events.as_mut().expect("just set");
        let mut prefix = [0; 4];
        events.read_exact(&mut prefix).await.expect("an event");
        let mut body = vec![0; frame::length(prefix, 1 << 20).expect("small")];
        events.read_exact(&mut body).await.expect("an event");
        frame::decode(&body).expect("an event")
    }

    pub async fn announce(&self, group: &str, contents: &[ContentId], complete: bool) -> Reply {
        let born = self.born(group).await;
        let present = |&content| Presence { group: named(group), content, complete, born };
        let present = contents.iter().map(present).collect();
        self.ask(Request::Announce(Announce { replace: false, present, withdrawn: Vec::new() })).await
    }

    /// When the group was born that has a name now.
    pub async fn born(&self, group: &str) -> Option<UnixMillis> {
        match self.ask(Request::GroupInfo { group: named(group) }).await {
            Ok(Answer::Groups(groups)) => Some(groups[0].born),
            _ => None,
        }
    }

    pub async fn create_group(&self, group: &str, policy: JoinPolicy) {
        self.ok(Request::CreateGroup { group: named(group), policy }).await;
    }

    pub async fn publish(&self, group: &str, name: &str, content: ContentId) -> Reply {
        self.ask(Request::Publish {
            group: named(group),
            name: named(name),
            content,
            length: 10,
            replace: false,
            born: None,
        })
        .await
    }
}

/// A connection without a Hello.
pub async fn dial(tracker: SocketAddr, identity: &Identity, transport: TransportConfig) -> (Endpoint, Connection) {
    dial_from([127, 0, 0, 1], tracker, identity, transport).await
}

async fn dial_from(
    address: [u8; 4],
    tracker: SocketAddr,
    identity: &Identity,
    transport: TransportConfig,
) -> (Endpoint, Connection) {
    let endpoint = Endpoint::client(SocketAddr::from((address, 0))).expect("a socket");
    let tls = tls::client_config(identity, ALPN_TRACKER, None).expect("a configuration");
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher")));
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, tracker, &tls::server_name(None)).expect("an address");
    let connection = connecting.await.expect("connects");
    (endpoint, connection)
}

/// A name that the test knows to be allowed.
pub fn named<T: std::str::FromStr<Err = p2p_proto::name::NameError>>(text: &str) -> T {
    text.parse().expect("an allowed name")
}

/// The frame of a request under an id of its own.
pub fn envelope(request: Request) -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    frame::encode(&Envelope { id: RequestId(id), seen: 0, request })
}

/// The message of the only frame in `bytes`.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    let (prefix, body) = bytes.split_first_chunk().expect("a frame");
    assert_eq!(frame::length(*prefix, 1 << 20), Ok(body.len()), "one whole frame");
    frame::decode(body).expect("a message")
}

pub fn secret(text: &str) -> Password {
    Password::new(text.to_owned()).expect("allowed")
}

async fn challenge(
    send: &mut SendStream,
    recv: &mut RecvStream,
    request: Request,
) -> Result<Vec<u8>, p2p_proto::reject::Reject> {
    match round(send, recv, request).await? {
        Answer::Challenge(challenge) => Ok(challenge),
        other => panic!("not a challenge: {other:?}"),
    }
}

/// One request and its answer on a stream that stays open.
pub async fn round(send: &mut SendStream, recv: &mut RecvStream, request: Request) -> Reply {
    round_of(send, recv, envelope(request)).await
}

/// The same with the request as a frame.
pub async fn round_of(send: &mut SendStream, recv: &mut RecvStream, request: Vec<u8>) -> Reply {
    send.write_all(&request).await.expect("taken");
    let mut prefix = [0; 4];
    recv.read_exact(&mut prefix).await.expect("an answer");
    let mut body = vec![0; frame::length(prefix, 1 << 20).expect("small")];
    recv.read_exact(&mut body).await.expect("an answer");
    frame::decode::<Replied>(&body).expect("a reply").reply
}
