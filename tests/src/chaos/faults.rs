//! What is done to the trackers.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Phase, Plan, Stage};
use crate::cluster::Cluster;
use crate::namespace::Loopback;
use crate::tracker::Tracker;
use crate::wait::remain;

/// How often what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inflicted {
    /// Kills of one tracker.
    pub kills: u32,
    /// Of those, of the leader.
    pub leaders: u32,
    /// Times that a leader was cut off.
    pub partitions: u32,
    /// Restarts of all of them.
    pub restarts: u32,
}

/// Does all that is planned, and ends the clients.
pub(super) fn inflict(plan: &Plan, cluster: &mut Cluster, network: &Loopback, stage: &Stage) -> Inflicted {
    let mut done = Inflicted::default();
    let all: Vec<usize> = (0..cluster.trackers.len()).collect();
    for kill in 0..plan.kills {
        remain(plan.kill_every / 2);
        let leader = cluster.leader(&all);
        let victim = if kill % 2 == 0 { leader } else { kill as usize / 2 % all.len() };
        cluster.trackers[victim].kill();
        done.kills += 1;
        done.leaders += u32::from(victim == leader);
        remain(plan.kill_every / 2);
        cluster.trackers[victim].restart();
    }
    stage.enter(Phase::Partitions);
    for partition in 0..plan.partitions {
        remain(plan.partition / 2);
        let leader = cluster.leader(&all);
        let addresses = cluster.addresses();
        let others: Vec<SocketAddr> = addresses.iter().copied().filter(|it| *it != addresses[leader]).collect();
        network.cut_off(addresses[leader], (partition % 2 == 0).then_some(&others));
        done.partitions += 1;
        remain(plan.partition);
        network.mend();
    }
    remain(plan.partition / 2);
    stage.enter(Phase::Restart);
    cluster.trackers.iter_mut().for_each(Tracker::kill);
    cluster.start_all();
    done.restarts += 1;
    remain(plan.partition / 2);
    stage.over.store(true, Ordering::Relaxed);
    done
}

impl Stage {
    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}
