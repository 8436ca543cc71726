//! The durable order of all changes, agreed on by all trackers of a cluster, behind a seam that says nothing of how.
//!
//! [`Consensus::propose`] puts an entry into the log and answers once it is on disk (on a majority of disks, where there are
//! several) and applied; [`Consensus::query`] reads the state. Behind it is openraft, on a thread and in a runtime of its own:
//! however busy the sessions are, the other trackers hear of this one in time. One tracker is a cluster of one.
//!
//! ```text
//! propose → proposals → openraft ─┬─ log_store ─┬─ storage (redb)
//!            │    ▲               ├─ machine ───┘   └ applied → observer
//!            ▼    │               │
//!           network (p2p-raft/1) ─┘  ◀──▶  the other trackers
//! ```

mod answers;
mod duty;
mod epoch;
mod error;
mod failure;
mod forming;
mod handover;
mod log_store;
mod machine;
mod network;
mod operator;
mod proposals;
mod quorum;
mod reading;
mod record;
mod stalls;
mod storage;
mod takeover;
#[cfg(test)]
mod tests;
mod turn;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use answers::serve;
pub use duty::ASSUMED_CRASHED;
pub use epoch::Epoch;
pub use error::LogError;
pub use network::{Dialler, Links, Listed, Peers};
pub use proposals::no_majority;
pub use record::RecordError;
pub use storage::{FILE_NAME, Store};
pub use takeover::begin_alone;
#[cfg(test)]
pub(crate) use takeover::write_log_of_format_1;
pub use turn::{Alone, Leaving, Turn, decided, give_way, leaving, take_over};
pub use types::TrackerId;

use crate::state::{Applied, Entry, Outcome, State};
use crate::status::{MemberStatus, Role};
use failure::Failure;
use forming::Pair;
use log_store::LogStore;
use machine::{Shared, StateMachine};
use proposals::{Answered, Message, Proposal, Proposer, refusal_unknown};
use reading::Readers;
use stalls::Stalls;
use types::{Member, Types};

/// Proposals that may wait for the disk: some seconds of a slow one, a few megabytes of memory. More are answered BUSY.
const QUEUE_PROPOSALS_MAX: usize = 4_096;

/// How often a leader says that it is there, in milliseconds; a message to a follower may take as long.
const HEARTBEAT_MS: u64 = 250;

/// How long a leader may be silent before another is elected, in milliseconds: each tracker takes its own time in
/// between, so that seldom two stand at once. openraft waits for the longest of them first, and looks at the clock every one and
/// a half heartbeats, so a new leader is there within two seconds, while changes wait ([`proposals`]). The shortest is also how
/// long another may take to write its vote to the disk. Who waits for its own disk is no candidate ([`stalls`]).
const ELECTION_MS: std::ops::Range<u64> = 600..750;

/// How long a snapshot may take to another tracker, in milliseconds: 100 MiB over a slow link.
const SNAPSHOT_MS: u64 = 60_000;

/// Places that stay in the log when a snapshot holds them, for followers that are a little behind: a few minutes of changes.
const KEPT_PLACES: u64 = 512;

/// Places that a message to a follower holds at the most; its bytes are bounded as well.
const MESSAGE_PLACES_MAX: u64 = 256;

/// Hears what is applied. Runs on the log's thread, so it never waits.
pub trait Observer: Send {
    /// Each applied entry, in order, before it is answered; with the state as it is then. What was applied before a start
    /// is not told again.
    fn applied(&mut self, state: &State, entry: &Entry, applied: &Applied);

    /// The whole state was replaced, by another tracker's: what has changed is not known.
    fn replaced(&mut self);
}

/// Where a tracker stands in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which tracker of the list.
    pub id: TrackerId,
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<TrackerId>,
    /// How often a leader was elected, or tried to be.
    pub term: u64,
    /// All who belong to it.
    pub members: Vec<MemberStatus>,
}

/// The state and its log.
pub struct Consensus {
    shared: Arc<Shared>,
    raft: Raft<Types>,
    links: Arc<Links>,
    failure: Failure,
    stalls: Stalls,
    readers: Arc<Readers>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Message>>,
    /// `None` only while dropping.
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").finish_non_exhaustive()
    }
}

/// What the log's thread starts with.
struct Start {
    links: Arc<Links>,
    shared: Arc<Shared>,
    log: LogStore,
    machine: StateMachine,
    failure: Failure,
    stalls: Stalls,
    readers: Arc<Readers>,
    queue: mpsc::Receiver<Message>,
    started: oneshot::Sender<Result<Raft<Types>, LogError>>,
}

impl Consensus {
    /// Recovers the state from the store and starts to take proposals. A tracker that is alone has applied all that its
    /// log holds when this returns.
    ///
    /// # Errors
    /// Every [`LogError`]; nothing was changed then.
    pub async fn start(store: Store, peers: Peers, observer: Box<dyn Observer>) -> Result<Consensus, LogError> {
        let id = store.become_tracker(peers.asked)?;
        takeover::take_over(&store, id, Member { key: Some(peers.key) })?;
        store.check()?;
        // Who has given way, and got nothing yet, must not begin something new in the place of what there is.
        if peers.listed.len() <= 1 && store.next()? == 0 && !store.keys()?.is_empty() {
            return Err(LogError::Follows);
        }
        let store = Arc::new(store);
        let failure = Failure::new();
        let machine = StateMachine::load(Arc::clone(&store), failure.clone(), observer)?;
        let shared = machine.shared();
        let links = Arc::new(Links::new(id, peers, Arc::clone(&shared), Arc::clone(&store))?);
        let readers = Arc::new(Readers::new(Arc::clone(&store))?);
        let stalls = Stalls::new();
        let log = LogStore::new(store, failure.clone(), stalls.clone());
        let (queue, proposals) = mpsc::channel(QUEUE_PROPOSALS_MAX);
        let (started, raft) = oneshot::channel();
        let start = Start {
            links: Arc::clone(&links),
            shared: Arc::clone(&shared),
            log,
            machine,
            failure: failure.clone(),
            stalls: stalls.clone(),
            readers: Arc::clone(&readers),
            queue: proposals,
            started,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || run(start));
        let thread = thread.map_err(LogError::Thread)?;
        let raft = raft.await.unwrap_or(Err(LogError::Died))?;
        Ok(Consensus { shared, raft, links, failure, stalls, readers, queue: Some(queue), thread: Some(thread) })
    }

    /// Puts an entry into the log. Answers once it is agreed on and applied, with what came of it.
    ///
    /// # Errors
    /// The state's refusal; or that the change may or may not be made, in which case the same entry may be proposed again.
    pub async fn propose(&self, entry: Entry) -> Result<Outcome, Reject> {
        match self.submit(entry, false)?.await {
            Ok(Answered::Applied(reply, _)) => reply,
            Ok(Answered::Refused(reject)) if reject.code == ErrorCode::NO_MAJORITY => Err(self.nobody_decides(reject)),
            Ok(Answered::Refused(reject)) => Err(reject),
            Ok(Answered::NotLeader) | Err(_) => Err(refusal_unknown()),
        }
    }

    /// The refusal where nobody was found who decides, with what helps.
    fn nobody_decides(&self, reject: Reject) -> Reject {
        match self.pair() {
            Pair::Follows(other) => {
                Reject::new(ErrorCode::NO_MAJORITY, format!("tracker {other} does not answer, and it alone decides"))
                    .hint("start it; if it is lost, `tracker promote` on the other one; asking again is safe")
            }
            Pair::Decides(_) | Pair::None => reject,
        }
    }

    fn submit(&self, entry: Entry, forwarded: bool) -> Result<oneshot::Receiver<Answered>, Reject> {
        if !self.links.duty.is_open() {
            return Err(self.links.duty.closed());
        }
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("taken only while dropping");
        match queue.try_send(Message::Propose(Proposal { entry, forwarded, since: Instant::now(), reply })) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Reject::new(ErrorCode::BUSY, "the tracker has too many changes waiting for its disk")
                    .hint("try again in a few seconds"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) if self.failure.first().is_some() => Err(refusal_unknown()),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Reject::new(ErrorCode::BUSY, "the tracker is stopping").hint("try again in a few seconds"))
            }
        }
    }

    /// Waits until this tracker knows what the leader knew when this was called, so that [`query`](Self::query) reads what is
    /// current; false where that cannot be known for want of a leader or a majority, and what is read may be old. But it is
    /// waited for all before the place `seen`, which somebody knows of already, for as long as an election takes.
    pub async fn catch_up(&self, seen: u64) -> bool {
        let current = self.links.duty.is_open() && (self.is_alone() || self.readers.turn().await);
        if !current && self.may_learn() {
            // Late is better than never, and what is behind is told with the answer.
            let _ = tokio::time::timeout(reading::PATIENCE_FOR_SEEN, self.shared.wait_for(seen)).await;
        }
        current
    }

    /// Whether this tracker needs no other: it has no others listed, and the log knows of none that vote.
    fn is_alone(&self) -> bool {
        self.links.is_alone() && decides_alone(&self.raft, &self.links)
    }

    /// How long ago it was that this tracker had sight of a majority, or began; one that is alone has it always.
    pub fn without_majority(&self) -> Duration {
        if self.is_alone() { Duration::ZERO } else { self.readers.current_ago() }
    }

    /// Whether this tracker may come to know more than it does without anybody's help: not who only follows another one that is
    /// silent.
    fn may_learn(&self) -> bool {
        match self.pair() {
            Pair::Follows(other) => !self.links.duty.is_silent(other),
            Pair::Decides(_) => false,
            Pair::None => true,
        }
    }

    fn pair(&self) -> Pair {
        Pair::of(&self.raft.metrics().borrow().membership_config, self.links.me())
    }

    /// Waits until this tracker has to begin again as something else: what it becomes is on disk.
    pub async fn decided(&self) {
        self.links.duty.decided().await;
    }

    /// Reads the state. Short: changes wait meanwhile.
    pub fn query<T>(&self, read_state: impl FnOnce(&State) -> T) -> T {
        self.shared.query(read_state)
    }

    /// Reads the state as it was between two places of the log, with the place behind it.
    pub fn query_at<T>(&self, read_state: impl FnOnce(u64, &State) -> T) -> T {
        self.shared.query_at(read_state)
    }

    /// The place behind the last one of the log that is applied. Takes no lock.
    pub fn place(&self) -> u64 {
        self.shared.place()
    }

    /// Whether changes are decided here.
    pub fn is_leader(&self) -> bool {
        self.links.duty.is_open() && quorum::leader(&self.raft.metrics().borrow()) == Some(self.links.me())
    }

    /// Where this tracker stands in its cluster.
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow().clone();
        let members = metrics.membership_config.membership();
        let voters: BTreeSet<TrackerId> = members.voter_ids().collect();
        // Only who leads knows how far the others are.
        let lag = |id: &TrackerId| {
            let has = metrics.replication.as_ref()?.get(id)?.map_or(0, |has| has.index + 1);
            Some(metrics.last_log_index.map_or(0, |last| last + 1).saturating_sub(has))
        };
        let members = members.nodes().map(|(id, member)| MemberStatus {
            tracker: *id,
            id: member.key.map(|key| key.to_string()),
            votes: voters.contains(id),
            lag: lag(id),
        });
        let waits = self.links.duty.waits();
        let role = match metrics.state {
            ServerState::Leader if waits => Role::Waiting,
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        };
        let (id, term) = (self.links.me(), metrics.current_term);
        let leader = quorum::leader(&metrics).filter(|leader| !(waits && *leader == id));
        Standing { id, role, leader, term, members: members.collect() }
    }

    /// Waits until the log has failed. The process has to end then: what is on disk is unknown.
    pub async fn failed(&self) -> Arc<LogError> {
        self.failure.wait().await
    }

    /// Has another tracker lead where this one does. Proposals go on to be taken, and wait for no more than that.
    pub async fn hand_over(&self) {
        self.at_the_end_of_the_queue(Message::HandOver).await;
    }

    /// Finishes what waits, writes a snapshot and ends. Later proposals are refused.
    pub async fn stop(&self) {
        self.at_the_end_of_the_queue(Message::Stop).await;
    }

    /// Has something done behind all that was proposed, and waits for it.
    async fn at_the_end_of_the_queue(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("taken only while dropping");
        if queue.send(message(done)).await.is_ok() {
            // An error means that the disk failed meanwhile, which `failed` tells.
            let _ = answer.await;
        }
    }
}

impl Drop for Consensus {
    /// Ends the thread without a snapshot: to the disk it is as if the process were killed between two writes.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// The log's thread: openraft and all that it starts live and end in this runtime.
fn run(start: Start) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(keep(start)),
        Err(error) => drop(start.started.send(Err(LogError::Thread(error)))),
    }
}

async fn keep(start: Start) {
    let Start { links, shared, log, machine, failure, stalls, readers, queue, started } = start;
    let raft = match begin(&links, &shared, log, machine, &failure).await {
        Ok(raft) => raft,
        // Who started this may have stopped waiting.
        Err(error) => return drop(started.send(Err(error))),
    };
    shared.go_live();
    let followed = raft.metrics().borrow().membership_config.membership().learner_ids().next().is_some();
    if !links.is_alone() && decides_alone(&raft, &links) && followed {
        links.duty.wait();
    }
    if started.send(Ok(raft.clone())).is_err() {
        return;
    }
    let proposer = Proposer {
        raft: raft.clone(),
        shared: Arc::clone(&shared),
        links: Arc::clone(&links),
        failure: failure.clone(),
    };
    tokio::select! {
        () = proposer.run(queue) => {}
        () = write_snapshots(&raft, &shared) => {}
        () = stalls.guard(&raft) => {}
        () = forming::form(&raft, &links) => {}
        () = readers.serve(&raft, &links, &shared) => {}
        error = ended(&raft) => {
            failure.tell(error);
            // Those who wait are told so by the queue's end.
        }
    }
}

/// Starts openraft. A tracker that is alone is its own leader when this returns, and has applied its whole log.
async fn begin(
    links: &Arc<Links>,
    shared: &Shared,
    log: LogStore,
    machine: StateMachine,
    failure: &Failure,
) -> Result<Raft<Types>, LogError> {
    let config = Config {
        cluster_name: "p2p".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        // Until it has listened.
        enable_elect: false,
        install_snapshot_timeout: SNAPSHOT_MS,
        max_payload_entries: MESSAGE_PLACES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT_PLACES,
        ..Config::default()
    };
    let lost = |error: &dyn std::fmt::Display| LogError::Ended(error.to_string());
    let me = links.me();
    let raft = Raft::new(me, Arc::new(config), Arc::clone(links), log, machine).await.map_err(|error| lost(&error))?;
    // Once it has answered it has told who belongs to it, too.
    let initialized = raft.is_initialized().await.map_err(|error| lost(&error))?;
    if links.is_alone() && !initialized {
        let members = BTreeMap::from([(me, links.member())]);
        raft.initialize(members).await.map_err(|error| lost(&error))?;
    }
    if decides_alone(&raft, links) {
        raft.trigger().elect().await.map_err(|error| lost(&error))?;
        let wait = raft.wait(None);
        let applied = wait.metrics(
            |metrics| {
                metrics.current_leader == Some(me)
                    && metrics.last_applied.map(|applied| applied.index) >= metrics.last_log_index
            },
            "a tracker that is alone leads itself",
        );
        tokio::select! {
            failure = failure.wait() => return Err(lost(&failure)),
            applied = applied => drop(applied.map_err(|error| lost(&error))?),
        }
    }
    tracing::debug!(tracker = me, place = shared.query_at(|place, _| place), "the log is there");
    Ok(raft)
}

/// Whether this tracker is the only one with a vote.
fn decides_alone(raft: &Raft<Types>, links: &Links) -> bool {
    let voters: BTreeSet<TrackerId> = raft.metrics().borrow().membership_config.voter_ids().collect();
    voters == BTreeSet::from([links.me()])
}

/// Has a snapshot written whenever enough has been applied.
async fn write_snapshots(raft: &Raft<Types>, shared: &Shared) {
    loop {
        shared.snapshot_due.notified().await;
        if raft.trigger().snapshot().await.is_err() {
            // It has ended, which is told elsewhere.
            return std::future::pending().await;
        }
    }
}

/// Waits until openraft has ended without being asked to.
async fn ended(raft: &Raft<Types>) -> LogError {
    let mut metrics = raft.metrics();
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        match state {
            Ok(()) => {}
            Err(openraft::error::Fatal::Stopped) => std::future::pending().await,
            Err(error) => return LogError::Ended(error.to_string()),
        }
        if metrics.changed().await.is_err() {
            return LogError::Died;
        }
    }
}
