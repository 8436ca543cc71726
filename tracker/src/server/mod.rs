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
mod listener;
mod online;
mod requests;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use p2p_host::figures::Figures;
use p2p_proto::grant::{GrantKeyError, GrantSigner};
use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::password::{PasswordError, ServerSetup};
use p2p_proto::peer::close_code;
use p2p_proto::reject::Reject;
use p2p_proto::version::SOFTWARE;
use quinn::VarInt;
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::backup::Contents;
use crate::clock;
use crate::config::{Cluster, GrantTerms};
use crate::figures::{self, Counters, Standing, Watch};
use crate::log::{Consensus, Dialler, Epoch, LogError, Observer, Peers, Store};
use crate::seeders::{self, Row, Seeders};
use crate::state::{Applied, Command, Entry, Setup, State};
use crate::status::{self, Status};
use admission::Admission;
pub use admission::Verdict;
use attempts::Attempts;
use online::Online;

/// How long the close of all connections may take when the tracker stops; peers that miss it learn by a stateless reset.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long requests that are being answered may take when the tracker stops: a change with a slow disk, a login. Those that are
/// cut short are asked of another tracker.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);

/// What nodes are told when the tracker stops.
const STOPS: &[u8] = b"the tracker stops";

/// Announcements longer than [`requests::SMALL_FRAME_BYTES_MAX`] being read at once, each up to 256 KiB.
const LARGE_FRAMES_MAX: usize = 256;

/// Pause between two looks at whether the cluster's secrets have come.
const READY_PAUSE: Duration = Duration::from_millis(50);

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
    node: NodeId,
    endpoint: quinn::Endpoint,
    accepting: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What all sessions share.
pub(crate) struct Shared {
    consensus: Arc<Consensus>,
    online: Arc<Mutex<Online>>,
    admission: Arc<Admission>,
    attempts: Arc<Attempts>,
    grant_terms: Mutex<GrantTerms>,
    secrets: OnceLock<Secrets>,
    large_frames: Semaphore,
    /// Read by each request as long as it is served, written when the tracker stops: later ones are not begun.
    serving: RwLock<()>,
    figures: Figures,
    counters: Counters,
}

/// What the cluster's own secrets make. No session begins before they are there.
struct Secrets {
    signer: GrantSigner,
    passwords: ServerSetup,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Server {
    /// Listens at `address` (port 0 for any) under `identity` and recovers the state from `store`. Nodes are
    /// served once it is [`ready`](Self::ready).
    ///
    /// # Errors
    /// Every [`ServerError`].
    pub async fn start(
        identity: &Identity,
        address: SocketAddr,
        cluster: &Cluster,
        store: Store,
        grant_terms: GrantTerms,
    ) -> Result<Server, ServerError> {
        let endpoint = listener::bind(identity, address)?;
        let dialler = Dialler {
            endpoint: endpoint.clone(),
            config: listener::dialling(identity)?,
            runtime: tokio::runtime::Handle::current(),
        };
        let (asked, listed) = (cluster.asked, cluster.listed.clone());
        let (dialler, assume_crash_only) = (Some(dialler), cluster.assume_crash_only);
        let peers = Peers { asked, key: identity.node_id(), listed, dialler, assume_crash_only };
        let online = Arc::new(Mutex::new(Online::default()));
        let teller = Teller { online: Arc::clone(&online) };
        let consensus = Arc::new(Consensus::start(store, peers, Box::new(teller)).await?);
        let figures = figures::begin();
        let counters = Counters::new(&figures);
        let shared = Arc::new(Shared {
            consensus,
            online,
            admission: Arc::default(),
            attempts: Attempts::new(Instant::now()),
            grant_terms: Mutex::new(grant_terms),
            secrets: OnceLock::new(),
            large_frames: Semaphore::new(LARGE_FRAMES_MAX),
            serving: RwLock::new(()),
            figures,
            counters,
        });
        let accepting = tokio::spawn(listener::accept(endpoint.clone(), Arc::clone(&shared)));
        Ok(Server { node: identity.node_id(), endpoint, accepting, shared })
    }

    /// Waits until the cluster's secrets are there, from when on nodes are served: a tracker that is alone makes them, and
    /// one of a cluster gets them from it.
    ///
    /// # Errors
    /// Every [`ServerError`].
    pub async fn ready(&self) -> Result<(), ServerError> {
        let consensus = &self.shared.consensus;
        loop {
            let (setup, public_made) = consensus.query(|state| (state.setup().cloned(), state.public_made()));
            match setup {
                None if consensus.is_leader() => initialize(consensus, self.node).await?,
                None => tokio::time::sleep(READY_PAUSE).await,
                Some(_) if !public_made && consensus.is_leader() => make_public_group(consensus, self.node).await?,
                Some(setup) => {
                    let signer = GrantSigner::from_document(&setup.cluster_key)?;
                    let passwords = ServerSetup::from_bytes(&setup.server_setup)?;
                    // Whoever was first has set the same.
                    let _ = self.shared.secrets.set(Secrets { signer, passwords });
                    break;
                }
            }
        }
        if let Some(owner) = consensus.query(|state| state.owner_of_older_public().cloned()) {
            warn!(%owner, "a group `public` from before there was a built-in one has its place until it ends");
        }
        Ok(())
    }

    /// Grants from now on are given on other terms; those that are out live as they say.
    pub fn set_grant_terms(&self, terms: GrantTerms) {
        *self.shared.grant_terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// What tells the operator how it does.
    pub fn reporter(&self) -> Reporter {
        Reporter { shared: Arc::clone(&self.shared), node: self.node, address: self.endpoint.local_addr().ok() }
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

    /// Waits until this tracker has to begin again as something else.
    pub async fn decided(&self) {
        self.shared.consensus.decided().await;
    }

    /// Closes every connection and leaves the log as it is, as by a kill: what stands in it is needed.
    pub async fn abandon(&self) {
        self.accepting.abort();
        self.endpoint.set_server_config(None);
        self.close().await;
    }

    /// Takes nobody in any more, has another tracker lead, answers what it was asked, sends the nodes to the others, writes a
    /// snapshot, closes every connection.
    pub async fn stop(self) {
        self.accepting.abort();
        self.endpoint.set_server_config(None);
        self.shared.consensus.hand_over().await;
        let finished = tokio::time::timeout(FINISH_DEADLINE, self.shared.serving.write()).await;
        self.shared.online().disconnect_all(close_code::SHUTDOWN, STOPS);
        self.shared.consensus.stop().await;
        self.close().await;
        drop(finished);
    }

    async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(close_code::SHUTDOWN), STOPS);
        if tokio::time::timeout(CLOSE_DEADLINE, self.endpoint.wait_idle()).await.is_err() {
            warn!("not every connection has confirmed its close");
        }
    }
}

/// Tells the operator how a tracker does.
#[derive(Debug, Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
    node: NodeId,
    address: Option<SocketAddr>,
}

impl Reporter {
    /// How it does now. Costs a copy of the state, so it is not for every second.
    pub fn status(&self) -> Status {
        let cluster = self.shared.consensus.standing();
        let (applied, digest) = self.shared.consensus.query_at(|place, state| (place, Sha256::digest(state.encode())));
        Status {
            schema: status::SCHEMA,
            kind: status::KIND.to_owned(),
            software: SOFTWARE.to_owned(),
            tracker: cluster.id,
            id: self.node.to_string(),
            address: self.address.map(|address| address.to_string()),
            ready: self.shared.is_ready(),
            role: cluster.role,
            leader: cluster.leader,
            term: cluster.term,
            epoch: Epoch::of(applied).takeovers(),
            epoch_begun_by: Epoch::of(applied).begun_by(),
            applied,
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            nodes: self.shared.online().count(),
            trackers: cluster.members,
        }
    }
}

impl Reporter {
    /// Comes to what the cluster knows now; false where that cannot be known.
    pub async fn catch_up(&self) -> bool {
        self.shared.consensus.catch_up(0).await
    }

    /// What is asked by whoever watches.
    pub fn watch(&self) -> Watch {
        Watch::new(&self.shared.figures, self.clone())
    }

    /// How things stand, without what costs a copy of the state.
    pub(crate) fn standing(&self) -> Standing {
        let [users, groups, listings] = self.shared.consensus.query(State::counts);
        let online = self.shared.online();
        Standing {
            ready: self.shared.is_ready(),
            cluster: self.shared.consensus.standing(),
            applied: self.shared.consensus.place(),
            users,
            groups,
            listings,
            nodes: online.count(),
            announced: online.presence.announced(),
        }
    }

    /// All figures, as Prometheus reads them.
    pub(crate) fn figures(&self) -> String {
        self.shared.figures.text()
    }

    /// Who has what online.
    pub fn seeders(&self) -> Seeders {
        let mut seeders: Vec<Row> = {
            let online = self.shared.online();
            let rows = online.presence.rows().take(seeders::ROWS_MAX + 1);
            let row = |(group, content, user, node, have): (&GroupName, _, Option<&UserName>, _, _)| Row {
                group: group.clone(),
                names: Vec::new(),
                content,
                user: user.cloned(),
                node,
                have,
            };
            rows.map(row).collect()
        };
        let cut_short = seeders.len() > seeders::ROWS_MAX;
        seeders.truncate(seeders::ROWS_MAX);
        seeders.sort_unstable();
        for rows in seeders.chunk_by_mut(|one, next| one.group == next.group) {
            let names = rows.first().map(|row| self.shared.consensus.query(|state| state.names(&row.group)));
            for row in rows {
                row.names = names.as_ref().and_then(|names| names.get(&row.content)).cloned().unwrap_or_default();
            }
        }
        Seeders { schema: seeders::SCHEMA, kind: seeders::KIND.to_owned(), cut_short, seeders }
    }

    /// Has the tracker take over from the other of two; the first place of the epoch that it begins.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn promote(&self, force: bool) -> Result<u64, Reject> {
        self.shared.consensus.promote(force).await
    }

    /// Has the tracker take another one out of the cluster; the number of votes that are left.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn remove(&self, tracker: u64, force: bool) -> Result<u64, Reject> {
        self.shared.consensus.remove(tracker, force).await
    }

    /// A copy of everything but who is online; `key` is the text of the tracker's key file.
    pub fn copy(&self, key: Vec<u8>) -> Contents {
        let (place, state) = self.shared.consensus.query_at(|place, state| (place, state.encode()));
        Contents { taken: clock::now(), tracker: self.shared.consensus.standing().id, place, key, state }
    }
}

impl Shared {
    fn online(&self) -> MutexGuard<'_, Online> {
        lock(&self.online)
    }

    /// Whether nodes can be served.
    fn is_ready(&self) -> bool {
        self.secrets.get().is_some()
    }

    /// The terms of a grant that is issued now.
    fn grant_terms(&self) -> GrantTerms {
        *self.grant_terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signer(&self) -> &GrantSigner {
        &self.secrets().signer
    }

    fn passwords(&self) -> &ServerSetup {
        &self.secrets().passwords
    }

    fn secrets(&self) -> &Secrets {
        self.secrets.get().expect("no session begins before they are there")
    }
}

/// Nothing that holds this lock leaves it half changed when it panics, and one session's panic must not end the others.
fn lock(online: &Mutex<Online>) -> MutexGuard<'_, Online> {
    online.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the audit record and the nodes online what has changed.
struct Teller {
    online: Arc<Mutex<Online>>,
}

impl Observer for Teller {
    fn applied(&mut self, state: &State, entry: &Entry, applied: &Applied) {
        let mut online = lock(&self.online);
        let address = online.address(entry.actor);
        let readers = online.changed(state, &applied.changes, clock::now());
        drop(online);
        audit::record(state, entry, applied, address, &readers);
    }

    fn replaced(&mut self) {
        lock(&self.online).disconnect_all(close_code::DONE, b"connect again");
    }
}

/// Makes the built-in group where it has not been made: on a new folder, or on one of an earlier version.
async fn make_public_group(consensus: &Consensus, node: NodeId) -> Result<(), ServerError> {
    // The tracker itself asks, once in its life.
    let request = RequestId([1; RequestId::BYTES]);
    let entry = Entry { request, actor: node, at: clock::now(), command: Command::MakePublicGroup };
    consensus.propose(entry).await.map(drop).map_err(ServerError::Setup)
}

/// Makes the cluster's secrets and has them kept, unless another tracker of it was first.
async fn initialize(consensus: &Consensus, node: NodeId) -> Result<(), ServerError> {
    let setup =
        Setup { server_setup: ServerSetup::generate().to_bytes(), cluster_key: GrantSigner::generate_document()? };
    // The tracker itself asks, once in its life, so any id tells this request from others.
    let request = RequestId([0; RequestId::BYTES]);
    let entry = Entry { request, actor: node, at: clock::now(), command: Command::Initialize(setup) };
    consensus.propose(entry).await.map(drop).map_err(ServerError::Setup)
}
