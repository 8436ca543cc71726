//! Connections to peers: does what the engine asks for and tells it what happens, over the shared endpoint.
//!
//! ```text
//! accept ─┐                      ┌ interest (served here)   → Input::InterestOpened …
//!         ├→ handshake → connection ─ a task a stream ┤
//! dial ───┘      (Hello)         └ upload (piece, manifest) → Input::PieceRequested …
//!
//! engine → open_interest → interest (shown to a provider)   → Input::Offered …
//! driver → begin_fetch → fetch        driver → take_upload → upload
//! ```
//!
//! What the engine can rely on:
//! - [`Input::PeerConnected`] is the first word of a connection and [`Input::PeerLost`] the last, also after
//!   [`Net::close`]; interests of both directions are told as ended in between. Fetches end by themselves, but their
//!   ends pass through the driver and may come after it.
//! - Each [`Input::InterestOpened`] is followed by exactly one [`Input::ServedClosed`]. Each [`Net::open_interest`] is
//!   answered by exactly one [`Input::InterestClosed`], unless the engine closed it before; one may be under way then.
//! - Each [`Net::dial`] is answered by exactly one [`Input::PeerConnected`] or [`Input::DialFailed`].

mod accept;
mod connection;
mod dial;
mod dial_budget;
mod handshake;
mod interest;
mod piece_stream;
mod places;
mod throttle;
mod upload;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::Grant;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::UserName;
use p2p_proto::peer::{FromProvider, Interest};
use p2p_proto::reject::Reject;
use quinn::VarInt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::endpoint::Endpoint;
use crate::engine::Input;
use crate::engine::input::{ConnectionId, FetchError, FetchId, InterestId, ServedId, UploadId};
use crate::piece_buffer::PieceBuffer;

pub use piece_stream::Fetch;
use upload::Answering;
pub use upload::{Upload, UploadError};

/// Connections that this daemon opened; beside those that peers opened ([`places`]), so that those cannot keep it from
/// downloading.
const DIALLED_CONNECTIONS_MAX: usize = 64;

/// Dials under way at once; more wait for their turn. Each may try a few addresses.
const DIALS_AT_ONCE_MAX: usize = 16;

/// An answer takes as long as its bytes at this rate, at most: whoever is slower would hold a piece's buffer for ever.
const RATE_MIN_BYTES_PER_SECOND: u64 = 16 * 1024;

/// … and no longer than this where it is this end that sends, however many bytes it has: the buffer of the largest pieces
/// is as large as all the usual ones together. Pieces are that large in files of terabytes, which nobody gets slowly.
const SENDING_MAX: Duration = Duration::from_secs(64);

/// … and so long for a link to come back.
const REQUEST_GRACE: Duration = Duration::from_secs(30);

/// The shell around connections to peers. Clones share it.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

/// What all tasks share.
struct Inner {
    endpoint: Endpoint,
    inputs: mpsc::Sender<Input>,
    /// Tells this life of the daemon from earlier ones ([`p2p_proto::peer::Hello::instance`]).
    instance: u64,
    next_number: AtomicU64,
    places: places::Places,
    dialled_slots: Arc<Semaphore>,
    dial_slots: Semaphore,
    dial_budget: Mutex<dial_budget::DialBudget>,
    throttle: Arc<throttle::Throttle>,
    registry: Mutex<Registry>,
}

/// Everything that has a number, found by it. Locked for single steps only, never across an await.
#[derive(Default)]
struct Registry {
    connections: HashMap<ConnectionId, connection::Entry>,
    interests: HashMap<InterestId, interest::Shown>,
    served: HashMap<ServedId, interest::Served>,
    uploads: HashMap<UploadId, Upload>,
    /// Those that were taken to be answered: a word stops them.
    answering: HashMap<UploadId, oneshot::Sender<()>>,
    fetches: HashMap<FetchId, tokio::sync::watch::Sender<bool>>,
}

impl Net {
    /// Starts to accept peers at `endpoint`, and tells everything to `inputs`. Must run inside a tokio runtime.
    pub fn start(endpoint: Endpoint, inputs: mpsc::Sender<Input>) -> Net {
        let inner = Arc::new(Inner {
            endpoint,
            inputs,
            instance: fastrand::u64(..),
            next_number: AtomicU64::new(1),
            places: places::Places::default(),
            dialled_slots: Arc::new(Semaphore::new(DIALLED_CONNECTIONS_MAX)),
            dial_slots: Semaphore::new(DIALS_AT_ONCE_MAX),
            dial_budget: Mutex::default(),
            throttle: Arc::new(throttle::Throttle::new()),
            registry: Mutex::default(),
        });
        tokio::spawn(accept::run(Arc::clone(&inner)));
        tokio::spawn(watch::run(Arc::clone(&inner)));
        Net { inner }
    }

    /// [`crate::engine::Output::Dial`]: connects to a peer at the first of its addresses where that very node answers.
    pub fn dial(&self, node: NodeId, addresses: Vec<SocketAddr>) {
        tokio::spawn(dial::run(Arc::clone(&self.inner), node, addresses));
    }

    /// [`crate::engine::Output::Close`]: closes a connection with one of [`p2p_proto::peer::close_code`].
    pub fn close(&self, connection: ConnectionId, code: u32) {
        if let Some(entry) = self.inner.lock().connections.get(&connection) {
            entry.peer.quinn.close(VarInt::from_u32(code), b"");
        }
    }

    /// [`crate::engine::Output::OpenInterest`]: shows a provider what is downloaded here.
    pub fn open_interest(&self, id: InterestId, connection: ConnectionId, interest: Interest) {
        interest::open(&self.inner, id, connection, interest);
    }

    /// [`crate::engine::Output::RenewInterest`]: shows a fresh grant on an interest.
    pub fn renew_interest(&self, id: InterestId, grant: Grant) {
        interest::renew(&self.inner, id, grant);
    }

    /// [`crate::engine::Output::CloseInterest`]: ends an interest; nothing new is told of it.
    pub fn close_interest(&self, id: InterestId) {
        self.inner.lock().interests.remove(&id);
    }

    /// [`crate::engine::Output::Admitted`]: the peer keeps its place while this interest lives.
    pub fn admitted(&self, served: ServedId, user: UserName) {
        interest::admitted(&self.inner, served, user);
    }

    /// [`crate::engine::Output::Provide`]: tells a peer that has an interest here. One that does not read what it is
    /// told loses its connection.
    pub fn provide(&self, served: ServedId, message: FromProvider) {
        interest::provide(&self.inner, served, message);
    }

    /// The peer's request, to be answered; `None` where the peer no longer waits for it. Either way it is the caller's
    /// to tell [`Input::UploadEnded`].
    pub fn take_upload(&self, upload: UploadId) -> Option<Upload> {
        let mut registry = self.inner.lock();
        let taken = registry.uploads.remove(&upload).filter(Upload::is_wanted)?;
        let (stop, stopped) = oneshot::channel();
        registry.answering.insert(upload, stop);
        drop(registry);
        Some(taken.stopped_by(Answering::new(&self.inner, upload, stopped)))
    }

    /// [`crate::engine::Output::StopUpload`]: ends the stream of an answer in the middle, or refuses a request that is not
    /// being answered yet.
    pub fn stop_upload(&self, upload: UploadId, reason: Reject) {
        let stop = self.inner.lock().answering.remove(&upload);
        match stop {
            // Nobody hears it where the answer has just ended.
            Some(stop) => _ = stop.send(()),
            None => self.refuse(upload, reason),
        }
    }

    /// [`crate::engine::Output::RefuseUpload`]: refuses a peer's request.
    pub fn refuse(&self, upload: UploadId, reason: Reject) {
        if let Some(upload) = self.take_upload(upload) {
            tokio::spawn(upload.refuse(reason));
        }
    }

    /// [`crate::engine::Output::LimitUploads`]: holds pieces and manifests that are sent to this rate, 0 for no limit.
    pub fn limit_uploads(&self, bytes_per_second: u64) {
        self.inner.throttle.set_rate(bytes_per_second);
    }

    /// Makes a fetch known, so that [`Net::cancel_fetch`] finds it while it still waits for a buffer.
    pub fn begin_fetch(&self, fetch: FetchId, connection: ConnectionId) -> Fetch {
        Fetch::begin(&self.inner, fetch, connection)
    }

    /// [`crate::engine::Output::FetchPiece`]: gets a piece of exactly the buffer's length. [`Net::begin_fetch`] and
    /// [`Fetch::piece`] in one.
    pub async fn fetch_piece(
        &self,
        fetch: FetchId,
        connection: ConnectionId,
        content: ContentId,
        piece: PieceIndex,
        buffer: &mut PieceBuffer,
    ) -> (u64, Result<(), FetchError>) {
        self.begin_fetch(fetch, connection).piece(content, piece, buffer).await
    }

    /// [`crate::engine::Output::FetchManifest`]: gets an encoded manifest, not checked against its id yet.
    pub async fn fetch_manifest(
        &self,
        fetch: FetchId,
        connection: ConnectionId,
        content: ContentId,
    ) -> Result<Vec<u8>, FetchError> {
        self.begin_fetch(fetch, connection).manifest(content).await
    }

    /// [`crate::engine::Output::CancelFetch`]: ends a fetch with [`FetchError::Cancelled`], unless it has ended.
    pub fn cancel_fetch(&self, fetch: FetchId) {
        if let Some(cancel) = self.inner.lock().fetches.get(&fetch) {
            cancel.send_replace(true);
        }
    }

    /// A connection's round trip as QUIC measures it; zero for one that is gone.
    pub fn round_trip(&self, connection: ConnectionId) -> Duration {
        self.inner.lock().connections.get(&connection).map_or(Duration::ZERO, |entry| entry.peer.quinn.rtt())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_dial_budget(&self) -> MutexGuard<'_, dial_budget::DialBudget> {
        self.dial_budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number not given before. Connections, served interests and uploads draw from the same row.
    fn draw_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the engine; waits while it is busy, which is what holds the peers back.
    async fn tell(&self, input: Input) {
        // Without a receiver the daemon is ending, and nobody is left to be told.
        let _ = self.inputs.send(input).await;
    }
}

/// How long an answer of so many bytes may take, once it has begun.
fn request_deadline(bytes: u64) -> Duration {
    REQUEST_GRACE + Duration::from_secs(bytes / RATE_MIN_BYTES_PER_SECOND)
}

/// The slowest rate at which a peer may take so many bytes from here, in bytes a second.
fn sending_rate_min(bytes: u64) -> u64 {
    RATE_MIN_BYTES_PER_SECOND.max(bytes / SENDING_MAX.as_secs())
}

/// What counts as one machine: an IPv4 address, or the /64 of an IPv6 one, which is what one customer gets.
fn machine_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}
