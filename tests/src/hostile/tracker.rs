//! A tracker that says what the test wants: gives out any grant, lists any file, names any provider.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use p2p_proto::frame;
use p2p_proto::grant::{GrantBody, GrantSigner};
use p2p_proto::id::NodeId;
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{
    Answer, Envelope, Event, Group, Hello, HelloAck, JoinPolicy, Knowledge, Listing, Provider, Providers, Replied,
    Reply, Request, Standing,
};
use p2p_proto::version::{ALPN_TRACKER, TRACKER_PROTOCOL};
use quinn::{Connection, Endpoint, SendStream, VarInt};

use super::client::named;
use super::key::{Key, Shown, server_config};
use super::wire::{Heard, Stream, node_of};

/// A tracker whose books are open. It answers on the runtime that it is started in.
#[derive(Debug)]
pub struct Tracker {
    /// Where it answers.
    pub address: SocketAddr,
    /// What its grants are signed with.
    pub signer: Arc<GrantSigner>,
    books: Arc<Mutex<Books>>,
}

/// Bytes to answer a request with; `None` for the honest answer.
pub type Answering = Box<dyn Fn(&Request) -> Option<Vec<u8>> + Send>;

/// What the tracker knows, and what it says.
#[derive(Default)]
pub struct Books {
    /// Whose node is whose.
    pub users: HashMap<NodeId, UserName>,
    /// Users whose nodes are not known yet: the next unknown node is the first one's.
    pub expected: VecDeque<UserName>,
    /// Files of every group.
    pub listings: Vec<Listing>,
    /// Who has everything, for whoever asks.
    pub providers: Vec<Provider>,
    /// What is said instead of the honest answer.
    pub instead: Option<Answering>,
    lines: HashMap<NodeId, Line>,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

/// A daemon's connection, and the stream that events go out on once there are any.
struct Line {
    connection: Connection,
    events: Option<SendStream>,
}

/// When every group of it was born.
const BORN: UnixMillis = UnixMillis(1);

/// This machine's clock.
pub fn now() -> UnixMillis {
    UnixMillis::from(SystemTime::now())
}

impl Tracker {
    /// A tracker on a free port of `here`. Must run inside a runtime.
    ///
    /// # Panics
    /// If the port cannot be had.
    pub fn start(here: IpAddr) -> Tracker {
        let config = server_config(&Shown::Own(&Key::new()), ALPN_TRACKER);
        let endpoint = Endpoint::server(config, SocketAddr::new(here, 0)).expect("a socket");
        let address = endpoint.local_addr().expect("bound");
        let document = GrantSigner::generate_document().expect("a key");
        let signer = Arc::new(GrantSigner::from_document(&document).expect("a key"));
        let books = Arc::new(Mutex::new(Books::default()));
        let (desk, shared) = (Arc::clone(&signer), Arc::clone(&books));
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (signer, books) = (Arc::clone(&desk), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        serve(connection, signer, books).await;
                    }
                });
            }
        });
        Tracker { address, signer, books }
    }

    /// The books, to look into and to cook.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// The body of an honest grant that begins now.
    pub fn body(&self, node: NodeId, user: &str, group: &GroupName) -> GrantBody {
        GrantBody::new(self.signer.public_key(), node, named(user), group.clone(), BORN, 0, now())
    }

    /// Tells a connected daemon of events, one after the other.
    pub async fn tell(&self, node: NodeId, events: &[Event]) {
        let bytes: Vec<u8> = events.iter().flat_map(frame::encode).collect();
        self.tell_bytes(node, &bytes).await;
    }

    /// Puts bytes on a connected daemon's stream of events.
    ///
    /// # Panics
    /// If it is not connected.
    pub async fn tell_bytes(&self, node: NodeId, bytes: &[u8]) {
        let (connection, stream) = {
            let mut books = self.books();
            let line = books.lines.get_mut(&node).expect("connected");
            (line.connection.clone(), line.events.take())
        };
        let mut stream = match stream {
            Some(stream) => stream,
            None => connection.open_uni().await.expect("a daemon takes a stream of events"),
        };
        // The daemon may hang up: that is one of the right answers.
        let _ = stream.write_all(bytes).await;
        if let Some(line) = self.books().lines.get_mut(&node) {
            line.events = Some(stream);
        }
    }

    /// Closes a connected daemon's connection, with words.
    pub fn hang_up(&self, node: NodeId, code: u32, words: &[u8]) {
        if let Some(line) = self.books().lines.get(&node) {
            line.connection.close(VarInt::from_u32(code), words);
        }
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One daemon: Hello, then a task for each request.
async fn serve(connection: Connection, signer: Arc<GrantSigner>, books: Arc<Mutex<Books>>) {
    let node = node_of(&connection);
    let Ok(mut first) = connection.accept_bi().await.map(Stream::from) else { return };
    let Heard::Message(Hello { .. }) = first.hear().await else { return };
    let user = {
        let mut books = lock(&books);
        if !books.users.contains_key(&node)
            && let Some(user) = books.expected.pop_front()
        {
            books.users.insert(node, user);
        }
        books.lines.insert(node, Line { connection: connection.clone(), events: None });
        books.users.get(&node).cloned()
    };
    let ack = HelloAck {
        current: true,
        place: 0,
        version: TRACKER_PROTOCOL,
        software: "hostile".to_owned(),
        cluster: signer.public_key(),
        time: now(),
        observed: connection.remote_address(),
        user,
        leader: true,
    };
    first.say(&ack).await;
    first.finish();
    while let Ok(streams) = connection.accept_bi().await {
        let (signer, books) = (Arc::clone(&signer), Arc::clone(&books));
        tokio::spawn(async move {
            let mut stream = Stream::from(streams);
            let Heard::Message(Envelope { request, .. }) = stream.hear().await else { return };
            let bytes = {
                let mut books = lock(&books);
                let instead = books.instead.as_ref().and_then(|instead| instead(&request));
                instead.unwrap_or_else(|| frame::encode(&replied(Ok(books.answer(node, &signer, request)))))
            };
            stream.say_bytes(&bytes).await;
            stream.finish();
        });
    }
}

/// A reply as somebody says it who knows everything.
pub fn replied(reply: Reply) -> Replied {
    Replied { reply, knowledge: Knowledge { current: true, place: 0 } }
}

impl Books {
    /// What a tracker answers where everybody may do everything.
    fn answer(&mut self, node: NodeId, signer: &GrantSigner, request: Request) -> Answer {
        let user = self.users.get(&node).cloned();
        match request {
            Request::GroupInfo { group } => Answer::Groups(vec![Group {
                group,
                owner: named("owner"),
                policy: JoinPolicy::Open,
                members: 1,
                files: 1,
                standing: Standing::Member,
                born: BORN,
            }]),
            Request::Publish { name, content, length, .. } | Request::PublishFolder { name, content, length, .. } => {
                if let Some(owner) = user {
                    self.listings.push(listing(name, owner, content, length));
                }
                Answer::Done
            }
            Request::ListFiles { .. } => Answer::Files(self.listings.clone()),
            Request::FindFile { name, .. } => {
                Answer::Files(self.listings.iter().filter(|listing| listing.name == name).cloned().collect())
            }
            Request::Lookup { .. } => {
                let providers = self.providers.iter().filter(|provider| provider.node != node).cloned().collect();
                Answer::Providers(Providers { providers, last_seeder: None })
            }
            Request::Grant { group } => {
                let user = user.unwrap_or_else(|| named("nobody"));
                let body = GrantBody::new(signer.public_key(), node, user, group, BORN, 0, now());
                Answer::Grant(signer.sign(&body))
            }
            _ => Answer::Done,
        }
    }
}

/// A listing made now.
pub fn listing(
    name: p2p_proto::name::FileName,
    owner: UserName,
    content: p2p_proto::id::ContentId,
    length: u64,
) -> Listing {
    Listing { name, owner, content, length, added: now(), seeders: 1, partial: 0, born: BORN, files: None }
}
