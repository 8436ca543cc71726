//! Hostile peers, providers, clients and trackers against the real programs: each meets its own refusal, nobody else notices.
//!
//! The tables read like a list of threats: what is tried, what comes of it. [`Staged`] is the scene for peers: a tracker
//! of the test's own, which gives out any grant, and two honest daemons, of which one serves the other.

mod crowds;
mod floods;
mod names;
mod peer_frames;
mod peer_grants;
mod peer_serving;
mod tracker_frames;
mod tracker_requests;
mod victims;

use std::net::IpAddr;
use std::path::PathBuf;

use p2p_proto::grant::Grant;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::GroupName;
use p2p_tests::ctl::Follower;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::wire::Close;
use p2p_tests::hostile::{Key, Peer, Tracker, runtime};
use p2p_tests::process::Process;
use p2p_tests::wait::eventually;
use p2p_tests::world::own_address;
use p2p_tests::{Binaries, Daemon};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{NAME, text};

/// How much a program may grow under an attack, in bytes: its windows, pools and caches, far below what is claimed.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// Alice serves a file of the group `photos` to bob, at a tracker of the test's own.
struct Staged {
    alice: Daemon,
    bob: Daemon,
    tracker: Tracker,
    /// Runs the tracker and whoever attacks.
    runtime: Runtime,
    file: PathBuf,
    content: ContentId,
    folder: TempDir,
}

impl Staged {
    /// With a file of `length` random bytes, which alice shares already.
    fn new(length: u64) -> Staged {
        let (here, runtime) = (own_address(), runtime());
        let folder = tempfile::Builder::new().prefix("p2p-").tempdir().expect("a folder");
        let tracker = runtime.block_on(async { Tracker::start(here) });
        let daemon = |name: &str| {
            tracker.books().expected.push_back(named(name));
            let mut daemon = Daemon::new(Binaries::get(), folder.path(), name, tracker.address, here);
            daemon.restart();
            eventually("the tracker has named the daemon's user", || {
                (daemon.json(&["status"])["user"] == name).then_some(())
            });
            daemon
        };
        let (alice, bob) = (daemon("alice"), daemon("bob"));
        let file = random_file(folder.path(), NAME, length);
        let uploaded = alice.json(&["upload_file", text(&file), "photos"]);
        let content = uploaded["content"].as_str().expect("an id").parse().expect("an id");
        tracker.books().providers.push(provider(&alice));
        Staged { alice, bob, tracker, runtime, file, content, folder }
    }

    /// A node of that user with a grant for `photos` that is as it should be.
    fn honest_grant(&self, key: &Key, user: &str) -> Grant {
        self.tracker.signer.sign(&self.tracker.body(key.node, user, &photos()))
    }

    /// A connection to alice, from another machine than hers.
    async fn connect(&self, key: &Key) -> Result<Peer, Close> {
        Peer::connect(stranger(), self.alice.address(), key).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Bob's download, which goes on while others attack.
    fn download(&self) -> Download {
        let copy = self.path("bob's copy");
        Download { follower: self.bob.follow(&["download_file", "photos", NAME, text(&copy)]), copy }
    }

    /// That bob's download ends as if nothing had been, and that alice is well.
    fn finish(&mut self, download: Download) {
        download.finish(&self.file);
        well(&mut self.alice);
        well(&mut self.bob);
    }
}

/// A download that is followed.
struct Download {
    follower: Follower,
    copy: PathBuf,
}

impl Download {
    fn finish(self, file: &std::path::Path) {
        let output = self.follower.finish();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{errors}");
        assert_equal(file, &self.copy);
    }
}

/// That a daemon answers, and knows of nothing that is wrong.
fn well(daemon: &mut Daemon) {
    let status = daemon.json(&["status"]);
    assert_eq!(status["problems"], serde_json::json!([]), "{status}");
    assert!(daemon.process().is_running());
}

/// A daemon as a tracker names it.
fn provider(daemon: &Daemon) -> p2p_proto::tracker::Provider {
    let status = daemon.json(&["status"]);
    let user = named(status["user"].as_str().expect("logged in"));
    p2p_proto::tracker::Provider { node: node(daemon), user, addresses: vec![daemon.address()], complete: true }
}

fn node(daemon: &Daemon) -> NodeId {
    daemon.json(&["status"])["node"].as_str().expect("an id").parse().expect("an id")
}

/// The group of [`Staged`].
fn photos() -> GroupName {
    named("photos")
}

/// The address of a machine that nobody has seen.
fn stranger() -> IpAddr {
    own_address()
}

/// Watches a process's memory.
struct Memory {
    before: Option<u64>,
}

impl Memory {
    fn of(process: &Process) -> Memory {
        Memory { before: process.resident_bytes() }
    }

    /// That the process lives and has not grown beyond [`GROWTH_BYTES_MAX`].
    fn is_flat(&self, process: &mut Process) {
        assert!(process.is_running());
        if let (Some(before), Some(after)) = (self.before, process.resident_bytes()) {
            assert!(after < before + GROWTH_BYTES_MAX, "grew from {before} to {after} bytes");
        }
    }
}
