//! The tracker on the network: a QUIC listener, one session per connection, requests in, answers and events out.
//!
//! ```text
//! listener ── admission ── session ─┬─ requests ─┬─ log (changes)      state → changes → online → events
//!                                   │            └─ state, online                     → audit
//!                                   ├─ accounts (OPAQUE) ── attempts
//!                                   └─ events of this node
//! ```
//!
//! Whose word counts: a connection's node is proved by the TLS handshake, its user is what the state has enrolled the node
//! under. Nothing that a message says about its sender is believed.
//!
//! Locks: the state's, then `online`'s, never the other way round; neither is held across an await.

mod accounts;
mod admission;
mod attempts;
mod audit;
mod frames;
mod listener;
mod online;
mod requests;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use p2p_proto::grant::{GrantKeyError, GrantSigner};
use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::password::{PasswordError, ServerSetup};
use p2p_proto::peer::close_code;
use p2p_proto::reject::Reject;
use quinn::VarInt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::clock;
use crate::log::{Consensus, LogError, Store};
use crate::state::{Command, Entry, Setup, State};
use admission::Admission;
use attempts::Attempts;
use online::Online;

/// How long the close of all connections may take when the tracker stops; peers that miss it learn by a stateless reset.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Announcements longer than [`requests::SMALL_FRAME_BYTES_MAX`] being read at once, each up to 256 KiB.
const LARGE_FRAMES_MAX: usize = 256;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The log is not usable.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The address is not usable.
    #[error("the address {address} cannot be listened at: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The TLS configuration was refused.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// QUIC needs a cipher that is missing.
    #[error("cannot set up QUIC: {0}")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The cluster's key for grants is damaged.
    #[error(transparent)]
    GrantKey(#[from] GrantKeyError),
    /// The cluster's password setup is damaged.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The cluster's secrets could not be kept.
    #[error("the cluster's keys could not be kept: {0}")]
    Setup(Reject),
}

/// A tracker that serves.
#[derive(Debug)]
pub struct Server {
    endpoint: quinn::Endpoint,
    accepting: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What all sessions share.
pub(crate) struct Shared {
    consensus: Consensus,
    online: Arc<Mutex<Online>>,
    admission: Arc<Admission>,
    attempts: Arc<Attempts>,
    signer: GrantSigner,
    grant_life: Duration,
    passwords: ServerSetup,
    large_frames: Semaphore,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Server {
    /// Recovers the state from `store` and listens at `address` (port 0 for any) under `identity`. Its grants live for
    /// `grant_life`, at most [`p2p_proto::limit::GRANT_LIFE_SECONDS`].
    ///
    /// # Errors
    /// Every [`ServerError`].
    pub async fn start(
        identity: &Identity,
        address: SocketAddr,
        store: Store,
        grant_life: Duration,
    ) -> Result<Server, ServerError> {
        let online = Arc::new(Mutex::new(Online::default()));
        let told = Arc::clone(&online);
        let consensus = Consensus::start(
            store,
            Box::new(move |state, entry, applied| {
                let mut online = lock(&told);
                let address = online.address(entry.actor);
                let readers = online.changed(state, &applied.changes, clock::now());
                drop(online);
                audit::record(state, entry, applied, address, &readers);
            }),
        )?;
        let setup = initialize(&consensus, identity.node_id()).await?;
        make_public_group(&consensus, identity.node_id()).await?;
        let shared = Arc::new(Shared {
            consensus,
            online,
            admission: Arc::default(),
            attempts: Attempts::new(Instant::now()),
            signer: GrantSigner::from_document(&setup.cluster_key)?,
            grant_life,
            passwords: ServerSetup::from_bytes(&setup.server_setup)?,
            large_frames: Semaphore::new(LARGE_FRAMES_MAX),
        });
        let endpoint = listener::bind(identity, address)?;
        let accepting = tokio::spawn(listener::accept(endpoint.clone(), Arc::clone(&shared)));
        Ok(Server { endpoint, accepting, shared })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Whatever the system answers.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Returns when the state can be read, as every request has to.
    pub fn read_state(&self) {
        self.shared.consensus.query(|_| ());
    }

    /// Waits until the log has failed; the process has to end then.
    pub async fn failed(&self) -> Arc<LogError> {
        self.shared.consensus.failed().await
    }

    /// Takes nobody in any more, finishes the changes that wait, writes a snapshot, closes every connection.
    pub async fn stop(self) {
        self.accepting.abort();
        self.endpoint.set_server_config(None);
        self.shared.consensus.stop().await;
        self.endpoint.close(VarInt::from_u32(close_code::SHUTDOWN), b"the tracker stops");
        if tokio::time::timeout(CLOSE_DEADLINE, self.endpoint.wait_idle()).await.is_err() {
            warn!("not every connection has confirmed its close");
        }
    }
}

impl Shared {
    fn online(&self) -> MutexGuard<'_, Online> {
        lock(&self.online)
    }
}

/// Nothing that holds this lock leaves it half changed when it panics, and one session's panic must not end the others.
fn lock(online: &Mutex<Online>) -> MutexGuard<'_, Online> {
    online.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the built-in group where it has not been made: on a new folder, or on one of an earlier version.
async fn make_public_group(consensus: &Consensus, node: NodeId) -> Result<(), ServerError> {
    if !consensus.query(State::public_made) {
        let command = Command::MakePublicGroup;
        // The tracker itself asks, once in its life.
        let entry = Entry { request: RequestId([1; RequestId::BYTES]), actor: node, at: clock::now(), command };
        consensus.propose(entry).await.map_err(ServerError::Setup)?;
    }
    if let Some(owner) = consensus.query(|state| state.owner_of_older_public().cloned()) {
        warn!(%owner, "a group `public` from before there was a built-in one has its place until it ends");
    }
    Ok(())
}

/// The cluster's secrets; the first time, made and kept.
async fn initialize(consensus: &Consensus, node: NodeId) -> Result<Setup, ServerError> {
    if let Some(setup) = consensus.query(|state| state.setup().cloned()) {
        return Ok(setup);
    }
    let setup =
        Setup { server_setup: ServerSetup::generate().to_bytes(), cluster_key: GrantSigner::generate_document()? };
    let command = Command::Initialize(setup.clone());
    // The tracker itself asks, once in its life, so any id tells this request from others.
    let entry = Entry { request: RequestId([0; RequestId::BYTES]), actor: node, at: clock::now(), command };
    consensus.propose(entry).await.map_err(ServerError::Setup)?;
    // Another tracker of a cluster may have been first.
    Ok(consensus.query(|state| state.setup().cloned()).unwrap_or(setup))
}
