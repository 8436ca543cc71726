//! Three trackers in one process, over real connections: forwarding, a follower far behind, and a stranger's folder.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_proto::identity::Identity;
use p2p_proto::tls;
use p2p_proto::version::ALPN_RAFT;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};

use super::*;

/// How long anything here may take before the test is given up: no rule is about time.
const GIVE_UP: Duration = Duration::from_secs(300);

/// Three folders, keys and addresses, and what runs on them.
struct Trackers {
    folders: Vec<tempfile::TempDir>,
    addresses: Vec<SocketAddr>,
    running: Vec<Option<(Arc<Consensus>, Endpoint)>>,
    /// How often a state was replaced.
    replaced: Arc<AtomicUsize>,
}

/// Counts how often the state is replaced.
struct Counter(Arc<AtomicUsize>);

impl Observer for Counter {
    fn applied(&mut self, _: &State, _: &Entry, _: &Applied) {}

    fn replaced(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Trackers {
    async fn start() -> Trackers {
        let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        let folders = (0..3).map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
        let mut trackers = Trackers { folders, addresses, running: vec![None, None, None], replaced: Arc::default() };
        for (place, socket) in sockets.into_iter().enumerate() {
            trackers.run(place, socket).await;
        }
        trackers
    }

    async fn run(&mut self, place: usize, socket: UdpSocket) {
        let folder = self.folders[place].path();
        let identity = Identity::load_or_create(folder).expect("an identity");
        let server = tls::server_config(&identity, &[ALPN_RAFT]).expect("a configuration");
        let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).expect("a cipher")));
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime));
        let endpoint = endpoint.expect("a socket");
        let client = tls::client_config(&identity, ALPN_RAFT, None).expect("a configuration");
        let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("a cipher")));
        let runtime = tokio::runtime::Handle::current();
        let dialler = Some(Dialler { endpoint: endpoint.clone(), config: client, runtime });
        let listed = (1..).zip(&self.addresses).map(|(id, address)| (id, Listed { address: *address, pin: None }));
        let (asked, listed) = (Some(place as u64 + 1), listed.collect());
        let peers = Peers { asked, key: identity.node_id(), listed, dialler, assume_crash_only: false };
        let observer = Box::new(Counter(Arc::clone(&self.replaced)));
        let consensus = Consensus::start(Store::open(folder).expect("a log"), peers, observer).await;
        let consensus = Arc::new(consensus.expect("starts"));
        let (accepting, serving) = (endpoint.clone(), Arc::clone(&consensus));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                if let Ok(connection) = incoming.await {
                    tokio::spawn(serve(Arc::clone(&serving), connection));
                }
            }
        });
        self.running[place] = Some((consensus, endpoint));
    }

    fn log(&self, place: usize) -> &Arc<Consensus> {
        &self.running[place].as_ref().expect("runs").0
    }

    /// Ends one as by a kill, as far as its folder and the others are concerned.
    async fn kill(&mut self, place: usize) {
        let (consensus, endpoint) = self.running[place].take().expect("runs");
        endpoint.close(0u32.into(), b"");
        drop(endpoint);
        // The tasks of its connections have it too, and end with them.
        let mut consensus = Some(consensus);
        while let Err(shared) = Arc::try_unwrap(consensus.take().expect("put back below")) {
            consensus = Some(shared);
            tokio::task::yield_now().await;
        }
    }

    async fn restart(&mut self, place: usize) {
        // The endpoint before lets go of the port when its last task has ended.
        let socket = loop {
            match UdpSocket::bind(self.addresses[place]) {
                Ok(socket) => break socket,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.run(place, socket).await;
    }

    async fn leader(&self) -> usize {
        loop {
            let running = (0..3).filter(|place| self.running[*place].is_some());
            if let Some(leader) = running.into_iter().find(|place| self.log(*place).is_leader()) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Writes a snapshot and takes out of the log all that it holds.
async fn shorten(raft: &Raft<Types>) {
    let place = raft.metrics().borrow().last_applied;
    raft.trigger().snapshot().await.expect("runs");
    let written = raft.wait(None).metrics(|metrics| metrics.snapshot >= place, "a snapshot").await;
    written.expect("is written");
    raft.trigger().purge_log(place.expect("some").index).await.expect("runs");
    raft.wait(None).metrics(|metrics| metrics.purged >= place, "a shorter log").await.expect("is taken out");
}

fn test<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async { tokio::time::timeout(GIVE_UP, test).await.expect("the test takes too long") });
}

#[test]
fn what_one_has_taken_is_read_at_every_other_at_once() {
    test(async {
        let trackers = Trackers::start().await;
        for number in 0..30 {
            let place = number as usize % 3;
            assert_eq!(trackers.log(place).propose(entry(number)).await, Ok(Outcome::Done));
            for reader in 0..3 {
                assert!(trackers.log(reader).catch_up(0).await, "a majority is there");
                assert!(has(trackers.log(reader), number), "{number} at {reader}");
            }
        }
        // Again at another one, as after a lost answer: the same, and not twice.
        assert_eq!(trackers.log(1).propose(entry(0)).await, Ok(Outcome::Done));
    });
}

#[test]
fn what_was_acknowledged_is_read_after_a_restart_of_all() {
    test(async {
        let mut trackers = Trackers::start().await;
        assert_eq!(trackers.log(0).propose(entry(0)).await, Ok(Outcome::Done));
        let place = trackers.log(0).place();
        for place in 0..3 {
            trackers.kill(place).await;
        }
        for place in 0..3 {
            trackers.restart(place).await;
        }
        // What is on disk of how far all agree lags: a leader that goes on to lead knows better from its log.
        let first = loop {
            let leader = trackers.leader().await;
            if let Ok(first) = reading::place_to_read(&trackers.log(leader).raft).await {
                break first;
            }
        };
        assert!(first >= place, "{first} is before {place}, which was acknowledged");
        assert!(trackers.log(1).catch_up(0).await, "a majority is there");
        assert!(has(trackers.log(1), 0));
    });
}

#[test]
fn who_ends_hands_over_and_no_change_is_lost() {
    test(async {
        let trackers = Trackers::start().await;
        let before = trackers.leader().await;
        let propose = |place: usize, number| {
            let log = Arc::clone(trackers.log(place));
            tokio::spawn(async move { log.propose(entry(number)).await })
        };
        let proposed: Vec<_> = (0..30).map(|number| propose(number as usize % 3, number)).collect();
        trackers.log(before).hand_over().await;
        for reply in proposed {
            assert_eq!(reply.await.expect("runs"), Ok(Outcome::Done));
        }
        // One that was elected a moment before may be asked in vain, as those do not vote who have just heard of it.
        while trackers.leader().await == before {
            trackers.log(before).hand_over().await;
        }
        assert_eq!(trackers.log(before).propose(entry(30)).await, Ok(Outcome::Done), "it follows as long as it runs");
        assert!(trackers.log(before).catch_up(0).await);
        assert!((0..=30).all(|number| has(trackers.log(before), number)));
    });
}

#[test]
fn a_leader_that_nobody_follows_says_so() {
    test(async {
        let mut trackers = Trackers::start().await;
        assert_eq!(trackers.log(0).propose(entry(0)).await, Ok(Outcome::Done));
        let leader = trackers.leader().await;
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        for other in others {
            trackers.kill(other).await;
        }
        assert_eq!(trackers.log(leader).propose(entry(1)).await, Err(no_majority()));
        assert_eq!((trackers.log(leader).is_leader(), trackers.log(leader).standing().leader), (false, None));
        assert!(!trackers.log(leader).catch_up(0).await, "what it knows may be old");
        for other in others {
            trackers.restart(other).await;
        }
        // The same as before, as it is asked again: it is made once, whatever became of it.
        while trackers.log(leader).propose(entry(1)).await != Ok(Outcome::Done) {}
        assert!(trackers.log(leader).catch_up(0).await);
        assert_eq!(trackers.leader().await, trackers.log(leader).standing().leader.expect("one") as usize - 1);
    });
}

#[test]
fn a_tracker_far_behind_gets_the_whole_state() {
    test(async {
        let mut trackers = Trackers::start().await;
        assert_eq!(trackers.log(0).propose(entry(0)).await, Ok(Outcome::Done));
        let leader = trackers.leader().await;
        let behind = (leader + 1) % 3;
        trackers.log(behind).catch_up(0).await;
        trackers.kill(behind).await;
        for number in 1..10 {
            assert_eq!(trackers.log(leader).propose(entry(number)).await, Ok(Outcome::Done));
        }
        // Whoever of the two leads when it comes back: neither has what it lacks in its log.
        for place in (0..3).filter(|place| *place != behind) {
            trackers.log(place).catch_up(0).await;
            shorten(&trackers.log(place).raft).await;
        }
        trackers.restart(behind).await;
        assert!(trackers.log(behind).catch_up(0).await);
        assert!((0..10).all(|number| has(trackers.log(behind), number)));
        assert_eq!(trackers.replaced.load(Ordering::Relaxed), 1, "those connected there are told to look again");
        assert_eq!(trackers.log(behind).query(State::encode), trackers.log(leader).query(State::encode));
        assert_eq!(trackers.log(behind).propose(entry(10)).await, Ok(Outcome::Done), "and it takes part");
    });
}

#[test]
fn a_tracker_whose_folder_is_lost_is_not_taken_for_what_it_was() {
    test(async {
        let mut trackers = Trackers::start().await;
        assert_eq!(trackers.log(0).propose(entry(0)).await, Ok(Outcome::Done));
        // The first founds a cluster where there is none: not in the place of one that there is.
        trackers.kill(0).await;
        trackers.folders[0] = tempfile::tempdir().expect("a temporary folder");
        trackers.restart(0).await;
        let leader = trackers.leader().await;
        assert_eq!(trackers.log(leader).propose(entry(1)).await, Ok(Outcome::Done));
        assert!(leader != 0 && !trackers.log(0).is_leader());
        assert!(!trackers.log(0).raft.is_initialized().await.expect("runs"), "nothing was sent to it");
        assert!(!has(trackers.log(0), 0));
    });
}
