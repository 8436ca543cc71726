//! A thousand small worlds with faults: whatever happens, everything that is asked for arrives, and no rule is broken on
//! the way. The rules are in `p2p_tests::sim` (its checks of every output, and each engine's invariants).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2p_proto::control::{DownloadPrefix, Request};
use p2p_proto::id::ContentId;
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_tests::sim::{Link, Path, World};

/// Seeds that are looked at every time.
const SEEDS: std::ops::Range<u64> = 0..1000;

/// One of them repeats with `SMALL_WORLD=SEED cargo test -p p2p-tests --test sim small_world -- --nocapture`.
const REPEAT: &str = "SMALL_WORLD";

#[test]
fn a_thousand_small_worlds_with_faults_complete() {
    if let Some(seed) = std::env::var(REPEAT).ok().and_then(|seed| seed.parse().ok()) {
        return live(seed);
    }
    let next = AtomicU64::new(SEEDS.start);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let seeds = std::iter::from_fn(|| {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                SEEDS.contains(&seed).then_some(seed)
            });
            let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| live(*seed))).is_err();
            seeds.filter(fails).collect::<Vec<u64>>()
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker catches panics")).collect()
    });
    for seed in &failed {
        println!("repeat: {REPEAT}={seed} cargo test -p p2p-tests --test sim small_world -- --nocapture");
    }
    assert!(failed.is_empty(), "seeds {failed:?}");
}

#[test]
fn a_small_world_whose_only_seeder_leaves_while_it_is_dialled_completes() {
    live(1422);
}

#[test]
fn a_small_world_in_which_a_piece_went_round_among_silent_peers_completes() {
    live(982);
}

/// A world of three to eight nodes, of which the first has the file, and what happens to them.
struct SmallWorld {
    world: World,
    content: ContentId,
    downloads: Vec<Option<DownloadPrefix>>,
    cut: Option<(usize, usize)>,
    /// A typical time for the whole file.
    scale: Duration,
}

/// Lets the world of a seed live, and checks that everything arrives in the end.
fn live(seed: u64) {
    let mut small = SmallWorld::new(seed);
    let count = small.downloads.len();
    for place in 1..count {
        if small.world.random.u8(0..8) > 0 {
            small.start(place);
        }
    }
    for _ in 0..small.world.random.u8(4..12) {
        let pause = small.scale.mul_f64(small.world.random.f64() / 3.0);
        small.world.run_for(pause);
        small.disturb();
    }
    small.calm_down();
    let content = small.content;
    small.world.complete_all(1..count, content);
}

impl SmallWorld {
    fn new(seed: u64) -> SmallWorld {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(3..=8);
        // From a telephone line, over which grants are renewed on the way, to a fast network.
        let rate = 1 << random.u32(14..28);
        let mut world = World::new(seed);
        world.path = Path {
            delay: Duration::from_millis(random.u64(1..80)),
            loss: if random.bool() { 0.0 } else { random.f64() / 10.0 },
        };
        for place in 0..count {
            let slower = if random.u8(0..4) == 0 { 10 } else { 1 };
            let link = Link { up_rate: rate / slower, down_rate: rate };
            // Some users have several nodes.
            let user = if random.u8(0..4) == 0 { "many".to_owned() } else { format!("user{place}") };
            world.add_member(link, &user);
        }
        let length = random.u64(0..24 * PIECE_BYTES_MIN);
        let content = world.upload(0, length, "f");
        for place in 1..count {
            match random.u8(0..12) {
                0 => world.nodes[place].liar = true,
                1 => world.nodes[place].silent = true,
                _ => (),
            }
        }
        let scale = Duration::from_secs_f64(length as f64 / rate as f64) + Duration::from_millis(100);
        SmallWorld { world, content, downloads: vec![None; count], cut: None, scale }
    }

    /// A node begins to download, if its daemon runs and the tracker answers.
    fn start(&mut self, place: usize) {
        let id = self.world.try_start_download(place, "f");
        self.downloads[place] = id.or(self.downloads[place].take());
    }

    /// Something happens.
    fn disturb(&mut self) {
        let place = self.world.random.usize(0..self.downloads.len());
        let up = self.world.is_up(place);
        match self.world.random.u8(0..9) {
            0 if up => self.world.kill(place),
            1 if up => self.world.leave(place),
            0..=2 if !up => self.world.start(place),
            2 | 3 => {
                let other = self.world.random.usize(0..self.downloads.len());
                let cut = self.cut.replace((place, other));
                if let Some((one, other)) = cut {
                    self.world.set_cut(one, other, false);
                }
                if place != other {
                    self.world.set_cut(place, other, true);
                }
            }
            4 => {
                let up = self.world.random.bool();
                self.world.set_tracker(up);
            }
            5 if up => self.start(place),
            _ => self.cross_commands(place),
        }
    }

    /// Commands about one download, each given before the one before it is answered.
    fn cross_commands(&mut self, place: usize) {
        let Some(id) = self.downloads[place].clone().filter(|_| self.world.is_up(place)) else { return };
        for _ in 0..self.world.random.u8(1..4) {
            let id = id.clone();
            let request = match self.world.random.u8(0..5) {
                0 | 1 => Request::Pause { id },
                2 | 3 => Request::Resume { id },
                _ => Request::Cancel { id, delete_data: false },
            };
            self.world.command(place, request);
            let pause = Duration::from_micros(self.world.random.u64(0..2_000));
            self.world.run_for(pause);
        }
    }

    /// The faults end, and everybody wants the file.
    fn calm_down(&mut self) {
        if let Some((one, other)) = self.cut.take() {
            self.world.set_cut(one, other, false);
        }
        self.world.set_tracker(true);
        self.world.run_for(Duration::from_secs(1));
        for place in 0..self.downloads.len() {
            if !self.world.is_up(place) {
                self.world.start(place);
            }
        }
        self.world.run_for(Duration::from_secs(5));
        for place in 1..self.downloads.len() {
            if let Some(id) = self.downloads[place].clone() {
                let _ = self.world.ask(place, Request::Resume { id });
            }
            if !self.world.holds(place, self.content) {
                self.start(place);
            }
        }
    }
}
