//! Links that fail: the real programs in network namespaces, whose cables are cut, lose packets, and change addresses.
//!
//! Each test has a network of its own ([`p2p_tests::namespace`]) with the tracker, alice who seeds and bob who downloads on
//! nodes of their own. They need root and say so where they are skipped. What they hold: a transfer goes on within
//! [`GOES_ON_WITHIN`] of the moment from which it could, without anyone's help. `--nocapture` shows how soon it did.

mod addresses;
mod chaos;
mod cuts;
mod fairness;
mod forged;
mod gateways;
mod loss;
mod pair;
mod stops;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::namespace::{Network, Node, Rate, network_or_skip};
use p2p_tests::wait::eventually;
use p2p_tests::{Binaries, Daemon, World};
use serde_json::Value;

/// What is promised to people: from when the link is there again to the first new piece.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

/// The shared file's length, and the rate of every cable: some 13 s of transfer, so that what happens meets it in the middle.
const LENGTH: u64 = 96 * MIB;
const RATE: Rate = Rate(60_000_000);

/// More than can be under way between two daemons on such a cable, or lie received and not counted yet: what comes beyond
/// was asked for after the fault.
const UNDER_WAY: u64 = 6 * MIB;

/// The name of the file.
const NAME: &str = "beach.jpg";

/// Alice has published a file in the public group `photos`; bob is logged in. In this order: programs end before the
/// network that they are in.
struct Linked {
    alice: Daemon,
    bob: Daemon,
    file: PathBuf,
    world: World,
    tracker: Node,
    seeder: Node,
    downloader: Node,
}

impl Linked {
    /// On nodes with plain cables; `None`, and a word on standard error, where namespaces cannot be made.
    fn new() -> Option<Linked> {
        let network = network_or_skip()?;
        let (seeder, downloader) = (network.node("seeder"), network.node("downloader"));
        Some(Linked::on(&network, seeder, downloader))
    }

    fn on(network: &Network, seeder: Node, downloader: Node) -> Linked {
        let tracker = network.node("tracker");
        [&tracker, &seeder, &downloader].into_iter().for_each(|node| node.shape(RATE));
        let world = World::on(&tracker, Binaries::get().clone()).unwrap_or_else(|error| panic!("{error}"));
        let (alice, bob) = (world.user_on(&seeder, "alice"), world.user_on(&downloader, "bob"));
        let file = random_file(world.folder(), NAME, LENGTH);
        alice.run(&["create_group", "photos", "--policy", "public"]);
        alice.run(&["upload_file", text(&file), "photos"]);
        Linked { alice, bob, file, world, tracker, seeder, downloader }
    }

    /// Where bob puts it.
    fn copy(&self) -> PathBuf {
        self.world.path("bob's copy")
    }

    /// Begins bob's download.
    fn start(&self) {
        self.bob.run(&["download_file", "photos", NAME, text(&self.copy()), "--detach"]);
    }

    /// Begins bob's download and waits until it is in the middle.
    fn start_and_meet_in_the_middle(&self) {
        self.start();
        eventually("the download is in the middle", || (self.have() > UNDER_WAY).then_some(()));
        assert!(self.have() < LENGTH / 2, "too fast to be met in the middle: {}", self.download());
    }

    /// Bob's download.
    fn download(&self) -> Value {
        let downloads = self.bob.json(&["show_downloads"]);
        match downloads["downloads"].as_array().map(Vec::as_slice) {
            Some([download]) => download.clone(),
            _ => panic!("not one download: {downloads}"),
        }
    }

    /// Bytes that bob has.
    fn have(&self) -> u64 {
        let download = self.download();
        download["have_bytes"].as_u64().unwrap_or_else(|| panic!("no number in {download}"))
    }

    /// Waits until nothing comes any more: a fault that has no effect tests nothing.
    fn wait_until_stalled(&self) {
        eventually("nothing comes any more", || (self.download()["state"] == "waiting").then_some(()));
    }

    /// That the transfer goes on in time from now, having had `before`, and ends with the file.
    fn goes_on(&self, before: u64) {
        assert!(before + 2 * UNDER_WAY < LENGTH, "nothing is left to go on with after {before} bytes");
        let cured_at = Instant::now();
        eventually("the transfer goes on", || (self.have() > before + UNDER_WAY).then_some(()));
        let pause = cured_at.elapsed();
        eprintln!("{}: went on within {:.1} s", std::thread::current().name().unwrap_or("?"), pause.as_secs_f64());
        assert!(pause <= GOES_ON_WITHIN, "went on only after {:.1} s", pause.as_secs_f64());
        self.ends_with_the_file();
    }

    /// That bob has the file, to the last bit.
    fn ends_with_the_file(&self) {
        let id = self.download()["id"].as_str().expect("an id").to_owned();
        self.bob.run(&["wait", &id]);
        assert_equal(&self.file, &self.copy());
    }
}

/// How long a fault lasts: `P2P_FAULT_SECONDS`, where somebody wants to know how it is for another time.
fn fault_time(usual: Duration) -> Duration {
    let seconds = std::env::var("P2P_FAULT_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(usual, Duration::from_secs)
}

/// A path as a word of a command.
fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}
