//! A cluster of trackers under load while they are killed, cut off from each other and restarted all at once; what it
//! answered, and whether that can be true.
//!
//! Clients make groups, list files, join a group, and take all of it back, as fast as they are allowed to; beside them
//! others look at the lists through daemons of their own, and one file is downloaded all the time. Everything runs in a
//! network namespace of its own, so that trackers can be cut off from each other.

mod faults;
pub mod history;
mod load;
mod report;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chaos::history::{Exchange, Violation};
use crate::cluster::Cluster;
use crate::namespace::Loopback;

pub use report::Report;

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How often a tracker is killed, one after the other, the leader every other time.
    pub kills: u32,
    /// Time from one kill to the next; half of it the tracker is away.
    pub kill_every: Duration,
    /// How often the leader is cut off from the other trackers; every other time from the daemons too.
    pub partitions: u32,
    /// How long it is.
    pub partition: Duration,
    /// Daemons that change and look.
    pub clients: usize,
    /// Bytes a second at which the file is downloaded.
    pub transfer_rate: u64,
    /// For what is left to chance.
    pub seed: u64,
}

/// What happens at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Trackers are killed, one at a time.
    Kills,
    /// The leader is cut off, now and then.
    Partitions,
    /// All are killed at once, and started again.
    Restart,
}

/// What all threads of a run share.
struct Stage {
    start: Instant,
    /// What is happening.
    phase: Mutex<Phase>,
    /// Whether the clients are to end.
    over: AtomicBool,
}

/// Runs a plan on a new cluster.
///
/// # Errors
/// Each answer that nothing explains.
///
/// # Panics
/// If a program ends that nobody has killed, answers something that it never should, or if the trackers do not agree in
/// the end.
pub fn run(plan: &Plan, network: &Loopback) -> Result<Report, Vec<Violation>> {
    network.enter(|| run_inside(plan, network))
}

fn run_inside(plan: &Plan, network: &Loopback) -> Result<Report, Vec<Violation>> {
    let mut cluster = Cluster::new();
    let scene = load::Scene::new(plan, &cluster);
    let stage = Stage { start: Instant::now(), phase: Mutex::new(Phase::Kills), over: AtomicBool::new(false) };
    let (mut told, transfer, killed) = std::thread::scope(|scope| {
        // Where one of them fails, all end; the threads are waited for all the same.
        let _ending = Ending(&stage);
        let (scene, stage) = (&scene, &stage);
        let change = |client| {
            move || {
                let _ending = Ending(stage);
                load::change(scene, client, plan.seed, stage)
            }
        };
        let look = |client| {
            move || {
                let _ending = Ending(stage);
                load::look(scene, client, stage)
            }
        };
        let changing: Vec<_> = (0..plan.clients).map(|client| scope.spawn(change(client))).collect();
        let looking: Vec<_> = (0..plan.clients).map(|client| scope.spawn(look(client))).collect();
        let transfer = scope.spawn(|| load::download(scene, stage));
        let killed = faults::inflict(plan, &mut cluster, network, stage);
        let told: Vec<load::Told> = changing.into_iter().chain(looking).map(|thread| joined(thread.join())).collect();
        (told, joined(transfer.join()), killed)
    });
    let digest = cluster.agreed_digest();
    told.extend(load::look_once(&scene, &stage));
    let history: Vec<Exchange> = told.iter().flat_map(|told| told.exchanges.iter().cloned()).collect();
    history::check(&history)?;
    Ok(Report::new(&told, &history, transfer, killed, digest))
}

/// Ends the clients when it is dropped.
struct Ending<'a>(&'a Stage);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// What a thread came to, or its panic here.
fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
