//! A swarm: some seeders, many leechers who begin at one moment, and how it went.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_proto::id::ContentId;
use p2p_proto::limit::PIECE_BYTES_MIN;

use super::{Link, Path, World, download_request};

/// What a swarm is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Nodes that have the file when it begins.
    pub seeders: usize,
    /// Nodes that want it.
    pub leechers: usize,
    /// Of these, how many belong to one user; the others have one node each.
    pub one_users_nodes: usize,
    /// Of the leechers, how many send pieces that are wrong.
    pub liars: usize,
    /// Of the leechers, how many take requests and never answer.
    pub silent: usize,
    /// Of the leechers, how many send ten times slower than the others.
    pub slow: usize,
    /// Pieces of the file, each of [`PIECE_BYTES_MIN`].
    pub pieces: u32,
    /// Every node's link.
    pub link: Link,
    /// What lies between any two nodes.
    pub path: Path,
    /// How long a leecher stays on average before it leaves or is killed; it is back after a quarter of that.
    pub churn: Option<Duration>,
    /// All chance comes from here.
    pub seed: u64,
    /// Whether every engine's invariant is looked at all the time.
    pub thorough: bool,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            seeders: 1,
            leechers: 50,
            one_users_nodes: 1,
            liars: 0,
            silent: 0,
            slow: 0,
            pieces: 512,
            link: Link::both(100 << 20),
            path: Path { delay: Duration::from_millis(10), loss: 0.0 },
            churn: None,
            seed: 1,
            thorough: false,
        }
    }
}

/// How a swarm went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When each leecher was done, from the moment they began, in order.
    pub completions: Vec<Duration>,
    /// Which share of all that the leechers want was there at which time, from the moment they began.
    pub arrivals: Vec<(Duration, f64)>,
    /// Leechers that were not done at the deadline.
    pub unfinished: usize,
    /// File ÷ rate of the slower direction of a link: the soonest that one leecher alone can be done.
    pub ideal: Duration,
    /// What the last one may take: 1.15 × ideal and [`PIECES_ALLOWED`] piece times.
    pub bound: Duration,
    /// Copies of the file that the seeders sent.
    pub seeder_copies: f64,
    /// Bytes that nobody needed, as a share of those that somebody did.
    pub duplicates: f64,
    /// Among users, the least and the most that one got from the seeders until the first leecher was done, as shares
    /// of the mean.
    pub fairness: (f64, f64),
    /// Nodes that were killed or left.
    pub departures: usize,
    /// Things that happened to engines, and what each cost of real time.
    pub engine_events: u64,
    /// Real time for one of them on average.
    pub engine_event_time: Duration,
}

/// Piece times that the last one may take beyond 1.15 × ideal: a piece goes through as many hands before it is everywhere.
pub const PIECES_ALLOWED: u32 = 8;

/// Moments within file ÷ rate at which it is looked at how much has arrived.
const SAMPLES: u32 = 20;

/// No swarm runs longer, in virtual time.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);

impl Spec {
    /// Lets it run.
    pub fn run(&self) -> Outcome {
        let (mut world, content) = self.build();
        let began = world.time();
        let leechers = self.seeders..self.seeders + self.leechers;
        for place in leechers.clone() {
            world.command(place, download_request(true, "f"));
        }
        let (arrivals, departures) = self.live(&mut world, content);
        let mut outcome = self.judge(&world, content, began, departures);
        outcome.arrivals = arrivals.into_iter().map(|(at, share)| (at - began, share)).collect();
        outcome
    }

    /// The nodes, and what the seeders have.
    fn build(&self) -> (World, ContentId) {
        let mut world = World::new(self.seed);
        world.thorough = self.thorough;
        world.path = self.path;
        let length = u64::from(self.pieces) * PIECE_BYTES_MIN;
        for place in 0..self.seeders + self.leechers {
            let leecher = place.checked_sub(self.seeders);
            let user = match leecher {
                Some(number) if number < self.one_users_nodes => "many".to_owned(),
                _ => format!("user{place}"),
            };
            world.add_member(self.link, &user);
            let Some(number) = leecher else { continue };
            // The last ones are the bad ones, so that the user with many nodes is a good one.
            let from_last = self.leechers - number;
            let node = &mut world.nodes[place];
            node.liar = from_last <= self.liars;
            node.silent = !node.liar && from_last <= self.liars + self.silent;
            if !node.liar && !node.silent && from_last <= self.liars + self.silent + self.slow {
                node.link.up_rate /= 10;
            }
        }
        let content = world.upload(0, length, "f");
        for place in 1..self.seeders {
            world.start_download(place, "f");
        }
        world.complete_all(1..self.seeders, content);
        for node in &mut world.nodes {
            (node.served_bytes, node.wasted_bytes) = (0, 0);
            node.received_bytes.clear();
        }
        world.completed.clear();
        (world.engine_events, world.engine_time) = (0, Duration::ZERO);
        (world, content)
    }

    /// Runs until all are done, with leechers that come and go; what had arrived when, and how often one went.
    fn live(&self, world: &mut World, content: ContentId) -> (Vec<(Duration, f64)>, usize) {
        let leechers = self.seeders..self.seeders + self.leechers;
        let deadline = world.time() + DEADLINE;
        let mut next: BTreeMap<(Duration, usize), ()> = BTreeMap::new();
        if let Some(mean) = self.churn {
            for place in leechers.clone() {
                let at = world.time() + exponential(&mut world.random, mean);
                next.insert((at, place), ());
            }
        }
        let mut departures = 0;
        let mut done = BTreeSet::new();
        let mut looked_at = 0;
        let mut arrivals = Vec::new();
        let wanted_bytes = self.length() * self.leechers as f64;
        let mut sample_at = world.time();
        loop {
            if world.time() >= sample_at {
                let received: u64 = world.nodes.iter().flat_map(|node| node.received_bytes.values()).sum();
                arrivals.push((world.time(), received as f64 / wanted_bytes));
                sample_at += self.ideal() / SAMPLES;
            }
            let until = next.first_key_value().map_or(deadline, |((at, _), ())| *at).min(deadline).min(sample_at);
            let all_done = world.run_until(until, |world| {
                for (_, place, what) in &world.completed[looked_at..] {
                    if *what == content {
                        done.insert(*place);
                    }
                }
                looked_at = world.completed.len();
                done.len() == leechers.len()
            });
            if all_done || until == deadline {
                return (arrivals, departures);
            }
            let Some(((at, place), ())) = next.pop_first() else { continue };
            if at > world.time() {
                next.insert((at, place), ());
                continue;
            }
            let mean = self.churn.unwrap_or(DEADLINE);
            let pause = if world.is_up(place) {
                departures += 1;
                if world.random.bool() {
                    world.kill(place)
                } else {
                    world.leave(place)
                }
                exponential(&mut world.random, mean / 4)
            } else {
                world.start(place);
                exponential(&mut world.random, mean)
            };
            next.insert((world.time() + pause, place), ());
        }
    }

    fn judge(&self, world: &World, content: ContentId, began: Duration, departures: usize) -> Outcome {
        let mut first_done = BTreeMap::new();
        for (at, place, what) in &world.completed {
            if *what == content {
                first_done.entry(*place).or_insert(*at - began);
            }
        }
        let mut completions: Vec<Duration> = first_done.into_values().collect();
        completions.sort_unstable();
        let (length, ideal) = (self.length(), self.ideal());
        let piece_time = ideal / self.pieces;
        let from_seeders: u64 = world.nodes[..self.seeders].iter().map(|node| node.served_bytes).sum();
        let wasted: u64 = world.nodes.iter().map(|node| node.wasted_bytes).sum();
        let useful: u64 = world.nodes.iter().flat_map(|node| node.received_bytes.values()).sum();
        Outcome {
            unfinished: self.leechers - completions.len(),
            completions,
            arrivals: Vec::new(),
            ideal,
            bound: ideal.mul_f64(1.15) + piece_time * PIECES_ALLOWED,
            seeder_copies: from_seeders as f64 / length.max(1.0),
            duplicates: wasted as f64 / (useful as f64).max(1.0),
            fairness: self.fairness(world),
            departures,
            engine_events: world.engine_events,
            engine_event_time: world.engine_time / u32::try_from(world.engine_events.max(1)).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of the file.
    fn length(&self) -> f64 {
        f64::from(self.pieces) * PIECE_BYTES_MIN as f64
    }

    /// File ÷ rate of the slower direction of a link.
    fn ideal(&self) -> Duration {
        Duration::from_secs_f64(self.length() / self.link.up_rate.min(self.link.down_rate) as f64)
    }

    /// What users got from the seeders: the least and the most, as shares of the mean.
    fn fairness(&self, world: &World) -> (f64, f64) {
        let mut by_user = BTreeMap::<usize, u64>::new();
        for number in 0..self.leechers {
            let user = if number < self.one_users_nodes { 0 } else { number };
            let received = &world.nodes[self.seeders + number].received_bytes;
            let from_seeders: u64 = received.iter().filter(|(from, _)| **from < self.seeders).map(|(_, n)| n).sum();
            *by_user.entry(user).or_default() += from_seeders;
        }
        let mean = by_user.values().sum::<u64>() as f64 / by_user.len().max(1) as f64;
        let share = |bytes: Option<&u64>| bytes.map_or(1.0, |bytes| *bytes as f64 / mean.max(1.0));
        (share(by_user.values().min()), share(by_user.values().max()))
    }
}

/// A span drawn so that, on average, it is `mean` and leaving is as likely at every moment.
fn exponential(random: &mut fastrand::Rng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - random.f64()).ln()).max(Duration::from_millis(1))
}
