//! A client of a tracker: an account's owner where it wants to be, and anything else.

use std::net::{IpAddr, SocketAddr};

use p2p_proto::frame;
use p2p_proto::grant::Grant;
use p2p_proto::id::RequestId;
use p2p_proto::name::{NameError, UserName};
use p2p_proto::password::{CHANNEL_BINDING_LABEL, ClientLogin, ClientRegistration, Password};
use p2p_proto::tracker::{Answer, Envelope, Hello, HelloAck, Replied, Reply, Request};
use p2p_proto::version::{ALPN_TRACKER, TRACKER_PROTOCOL};
use quinn::{Endpoint, TransportConfig};

use super::key::{Key, Shown};
use super::wire::{Close, Heard, Line, Stream};

/// A connection to a tracker, with Hellos exchanged.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub line: Line,
    /// What the tracker said of itself.
    pub ack: HelloAck,
}

/// The Hello of an honest daemon.
pub fn hello() -> Hello {
    Hello { version: TRACKER_PROTOCOL, software: "hostile".to_owned(), local_addresses: Vec::new() }
}

/// A request with an id of its own, as a frame.
pub fn envelope(request: Request) -> Vec<u8> {
    frame::encode(&Envelope { id: random_id(), seen: 0, request })
}

/// An id that no request had.
pub fn random_id() -> RequestId {
    RequestId(fastrand::u128(..).to_le_bytes())
}

/// A name that the test knows to be allowed.
///
/// # Panics
/// If it is not.
pub fn named<T: std::str::FromStr<Err = NameError>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

impl Client {
    /// Connects with a key of one's own.
    ///
    /// # Errors
    /// How the tracker refused.
    pub async fn connect(here: IpAddr, tracker: SocketAddr, key: &Key) -> Result<Client, Close> {
        Self::connect_with(here, tracker, key, TransportConfig::default()).await
    }

    /// The same with windows and limits of one's own.
    ///
    /// # Errors
    /// How the tracker refused.
    pub async fn connect_with(
        here: IpAddr,
        tracker: SocketAddr,
        key: &Key,
        transport: TransportConfig,
    ) -> Result<Client, Close> {
        let endpoint = Endpoint::client(SocketAddr::new(here, 0)).expect("a socket");
        Self::connect_on(endpoint, tracker, key, transport).await
    }

    /// The same on a socket that others use too.
    ///
    /// # Errors
    /// How the tracker refused.
    pub async fn connect_on(
        endpoint: Endpoint,
        tracker: SocketAddr,
        key: &Key,
        transport: TransportConfig,
    ) -> Result<Client, Close> {
        let line = Line::dial_on(endpoint, tracker, &Shown::Own(key), ALPN_TRACKER, transport).await?;
        let mut stream = line.say(&frame::encode(&hello()), true).await?;
        match stream.hear::<HelloAck>().await {
            Heard::Message(ack) => Ok(Client { line, ack }),
            Heard::Closed(close) => Err(close),
            other => panic!("an answer to Hello: {other:?}"),
        }
    }

    /// Connects, makes an account and logs in.
    ///
    /// # Panics
    /// If any of it is refused.
    pub async fn enter(here: IpAddr, tracker: SocketAddr, key: &Key, user: &str, password: &str) -> Client {
        let client = Client::connect(here, tracker, key).await.expect("connects");
        client.register(user, password).await.expect("registered");
        client.log_in(user, password).await.expect("logged in");
        client
    }

    /// Asks once.
    ///
    /// # Panics
    /// If no answer comes.
    pub async fn ask(&self, request: Request) -> Reply {
        self.ask_bytes(&envelope(request)).await
    }

    /// Asks with these bytes.
    ///
    /// # Panics
    /// If no answer comes.
    pub async fn ask_bytes(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.line.say(bytes, true).await.expect("a stream");
        match stream.hear_reply().await {
            Heard::Message(reply) => reply,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// The tracker's word that this node may read a group.
    ///
    /// # Panics
    /// If it does not give it.
    pub async fn grant(&self, group: &str) -> Grant {
        match self.ask(Request::Grant { group: named(group) }).await {
            Ok(Answer::Grant(grant)) => grant,
            other => panic!("no grant: {other:?}"),
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// The tracker's.
    pub async fn register(&self, user: &str, password: &str) -> Reply {
        let (user, password): (UserName, _) = (named(user), secret(password));
        let (registration, message) = ClientRegistration::start(&password).expect("starts");
        let mut stream = self.line.stream().await.expect("a stream");
        let challenge = challenge(&mut stream, Request::RegisterStart { user: user.clone(), message }).await?;
        let record = registration.finish(&user, &challenge).expect("finishes");
        last_round(&mut stream, Request::RegisterFinish { record }).await
    }

    /// Enrols the key under a user.
    ///
    /// # Errors
    /// The tracker's.
    pub async fn log_in(&self, user: &str, password: &str) -> Reply {
        let mut binding = [0; 32];
        self.line.connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").expect("exports");
        let (user, password): (UserName, _) = (named(user), secret(password));
        let (login, message) = ClientLogin::start(&password).expect("starts");
        let mut stream = self.line.stream().await.expect("a stream");
        let challenge = challenge(&mut stream, Request::LoginStart { user: user.clone(), message }).await?;
        // Whoever finds the password wrong sends a proof nevertheless, to see that it is of no use.
        let proof = login.finish(&user, &binding, &challenge).unwrap_or(vec![0; 64]);
        last_round(&mut stream, Request::LoginFinish { proof }).await
    }
}

impl Stream {
    /// Asks on a stream that may ask again.
    pub async fn ask(&mut self, request: Request) -> Heard<Reply> {
        self.say_bytes(&envelope(request)).await;
        self.hear_reply().await
    }

    /// What a tracker replies next.
    pub async fn hear_reply(&mut self) -> Heard<Reply> {
        self.hear::<Replied>().await.map(|replied| replied.reply)
    }
}

fn secret(text: &str) -> Password {
    Password::new(text.to_owned()).expect("neither empty nor too long")
}

/// The first round of a password exchange.
async fn challenge(stream: &mut Stream, request: Request) -> Result<Vec<u8>, p2p_proto::reject::Reject> {
    match stream.ask(request).await {
        Heard::Message(Ok(Answer::Challenge(challenge))) => Ok(challenge),
        Heard::Message(Err(reject)) => Err(reject),
        other => panic!("no challenge: {other:?}"),
    }
}

async fn last_round(stream: &mut Stream, request: Request) -> Reply {
    stream.say_bytes(&envelope(request)).await;
    stream.finish();
    match stream.hear_reply().await {
        Heard::Message(reply) => reply,
        other => panic!("no answer: {other:?}"),
    }
}
