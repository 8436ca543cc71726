//! Three trackers and daemons that know all of them, in one temporary folder, on a loopback address of their own.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::daemon::Daemon;
use crate::tracker::Tracker;
use crate::wait::eventually;
use crate::world::{new_folder, own_address};

/// A cluster of trackers and what belongs to it. Dropped: everything is killed and deleted.
#[derive(Debug)]
pub struct Cluster {
    /// The trackers, in the order of their `tracker_info.txt`.
    pub trackers: Vec<Tracker>,
    addresses: Vec<SocketAddr>,
    binaries: Binaries,
    address: IpAddr,
    /// Last, so that the programs end before their folder does.
    folder: TempDir,
}

impl Cluster {
    /// `size` trackers that do not run yet. Nobody else has the loopback address, so ports that are free stay free.
    ///
    /// # Panics
    /// If there is no folder or port.
    pub fn resting(size: u64) -> Cluster {
        let (folder, address) = (new_folder().unwrap_or_else(|error| panic!("{error}")), own_address());
        let sockets: Vec<_> = (0..size).map(|_| UdpSocket::bind((address, 0)).expect("a free port")).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        let file = folder.path().join("tracker_info.txt");
        let mut text = String::new();
        for address in &addresses {
            writeln!(text, "{} {}", address.ip(), address.port()).expect("memory");
        }
        std::fs::write(&file, text).expect("written");
        let binaries = Binaries::get().clone();
        let trackers = (1..=size).map(|id| Tracker::listed(&binaries, folder.path(), file.clone(), id)).collect();
        Cluster { trackers, addresses, binaries, address, folder }
    }

    /// Three trackers that run and are one cluster.
    ///
    /// # Panics
    /// If they do not get ready.
    pub fn new() -> Cluster {
        let mut cluster = Cluster::resting(3);
        cluster.start_all();
        cluster
    }

    /// Starts every tracker, all at once.
    ///
    /// # Panics
    /// If one does not get ready.
    pub fn start_all(&mut self) {
        let started: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let starting: Vec<_> =
                self.trackers.iter_mut().map(|tracker| scope.spawn(|| tracker.try_restart())).collect();
            starting.into_iter().map(|start| start.join().unwrap_or(Err("panicked".to_owned()))).collect()
        });
        for outcome in started {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Which tracker leads, as soon as all of `running` agree.
    ///
    /// # Panics
    /// If they do not agree in time.
    pub fn leader(&self, running: &[usize]) -> usize {
        eventually("the trackers agree on a leader", || {
            let leaders: Vec<_> =
                running.iter().map(|place| self.trackers[*place].status()["leader"].as_u64()).collect();
            let leader = leaders.first().copied().flatten().and_then(|id| usize::try_from(id).ok())? - 1;
            let agreed = leaders.iter().all(|other| *other == leaders[0]);
            (agreed && running.contains(&leader)).then_some(leader)
        })
    }

    /// Waits until every tracker has applied the same, and gives the digest of what that came to.
    ///
    /// # Panics
    /// If they differ, or do not come to the same place in time.
    pub fn agreed_digest(&self) -> String {
        eventually("all trackers have applied the same", || {
            let states: Vec<Value> = self.trackers.iter().map(Tracker::status).collect();
            let applied = &states[0]["applied"];
            if !applied.is_u64() || states.iter().any(|state| state["applied"] != *applied) {
                return None;
            }
            assert!(states.iter().all(|state| state["digest"] == states[0]["digest"]), "states differ: {states:?}");
            states[0]["digest"].as_str().map(str::to_owned)
        })
    }

    /// Two trackers that run, of which the second has all that the first has.
    ///
    /// # Panics
    /// If they do not come to it.
    pub fn pair() -> Cluster {
        let mut cluster = Cluster::resting(2);
        cluster.start_all();
        let followers = || cluster.trackers[0].status()["trackers"].as_array().map(Vec::len);
        eventually("the second follows", || (followers() == Some(2)).then_some(()));
        cluster.agreed_digest();
        cluster
    }

    /// Waits until a tracker is what is said of it, also where it begins again meanwhile.
    ///
    /// # Panics
    /// If it does not come to it.
    pub fn becomes(&self, place: usize, role: &str, epoch: u64) {
        eventually(&format!("tracker {} is {role} in epoch {epoch}", place + 1), || {
            let text = self.trackers[place].asked(&["status", "--json"]).ok()?;
            let status: Value = serde_json::from_str(&text).ok()?;
            (status["role"] == role && status["epoch"] == epoch && status["ready"] == true).then_some(())
        });
    }

    /// The changes that a tracker alone had when it gave way, which it has named in its log; none where it had none.
    ///
    /// # Panics
    /// If the files are not as they should be.
    pub fn given_out(&self, place: usize) -> Vec<Value> {
        let entries = std::fs::read_dir(self.trackers[place].home.join("tracker")).expect("a folder");
        let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        let ending = |end: &str| paths.iter().find(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
        let (Some(changes), Some(copy)) = (ending(".jsonl"), ending(".copy")) else { return Vec::new() };
        let log = std::fs::read_to_string(self.path(&format!("tracker-{}.log", place + 1))).expect("a log");
        for path in [changes, copy] {
            assert!(log.contains(path.to_str().expect("a text")), "{} is named", path.display());
            let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().expect("there"));
            assert_eq!(mode & 0o777, 0o600, "nobody else reads {}", path.display());
        }
        let text = std::fs::read_to_string(changes).expect("readable");
        text.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
    }

    /// A path in the folder that everything is in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that everything is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the trackers listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A daemon that knows every tracker, with a new user of the same name, logged in.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn user(&self, name: &str) -> Daemon {
        self.user_of(name, &self.addresses)
    }

    /// The same, where the daemon knows these trackers alone.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn user_of(&self, name: &str, trackers: &[SocketAddr]) -> Daemon {
        let daemon = Daemon::new(&self.binaries, self.folder.path(), name, trackers[0], self.address);
        let mut daemon = daemon.with_trackers(trackers.iter().map(SocketAddr::to_string).collect());
        daemon.restart();
        daemon.become_known_as(name);
        daemon
    }
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster::new()
    }
}
