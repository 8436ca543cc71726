//! The dial budget: how often this daemon knocks where nobody that it looked for has ever answered.
//!
//! Addresses come from trackers, and a tracker may be hostile: without a bound it could aim all its daemons at one victim,
//! under as many made-up nodes as it likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_proto::id::NodeId;
use tokio::time::Instant;

use super::{DIALS_AT_ONCE_MAX, machine_of};

/// An address where the node looked for was not met is left alone for so long, whichever node is said to be there next.
const REST: Duration = Duration::from_secs(60);

/// Addresses of one machine (IPv6: one /64) that are tried within [`REST`] without meeting anybody: many daemons may live
/// behind one router, and those that are met do not count.
const PER_MACHINE_MAX: usize = DIALS_AT_ONCE_MAX;

/// Addresses that rest at once, some hundred bytes each; beyond, only those that answered before are dialled.
const RESTING_MAX: usize = 1024;

/// Addresses remembered to have answered, as many as the engine remembers nodes.
const PROVEN_MAX: usize = 1024;

/// Where has been knocked, and where somebody answered.
#[derive(Debug, Default)]
pub(super) struct DialBudget {
    /// When each was tried last, of those that have not answered since.
    resting: HashMap<SocketAddr, Instant>,
    /// Who answered where: the engine's own pauses are enough there.
    proven: HashMap<SocketAddr, NodeId>,
}

impl DialBudget {
    /// Whether `address` may be dialled now for `node`; counts as tried if so.
    pub fn take(&mut self, node: NodeId, address: SocketAddr, now: Instant) -> bool {
        if self.proven.get(&address) == Some(&node) {
            return true;
        }
        self.resting.retain(|_, tried| now.saturating_duration_since(*tried) < REST);
        let machine = machine_of(address.ip());
        let on_machine = self.resting.keys().filter(|other| machine_of(other.ip()) == machine).count();
        if self.resting.contains_key(&address) || on_machine >= PER_MACHINE_MAX || self.resting.len() >= RESTING_MAX {
            return false;
        }
        self.resting.insert(address, now);
        true
    }

    /// The node was met there, whoever dialled: it proved its key.
    pub fn met(&mut self, node: NodeId, address: SocketAddr) {
        self.resting.remove(&address);
        if self.proven.len() >= PROVEN_MAX && !self.proven.contains_key(&address) {
            // What is forgotten is only dialled more patiently.
            self.proven.clear();
        }
        self.proven.insert(address, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn node(number: u32) -> NodeId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        NodeId(id)
    }

    #[test]
    fn a_victim_is_knocked_at_once_a_minute_whoever_is_said_to_be_there() {
        let (mut budget, start) = (DialBudget::default(), Instant::now());
        let second = |second: u64| start + Duration::from_secs(second);
        let knocks = |budget: &mut DialBudget, seconds: std::ops::Range<u64>| {
            seconds
                .filter(|at_second| budget.take(node(*at_second as u32), at("192.0.2.1:4000"), second(*at_second)))
                .count()
        };
        assert_eq!(knocks(&mut budget, 0..60), 1);
        assert_eq!(knocks(&mut budget, 60..600), 9);
    }

    #[test]
    fn a_victims_ports_are_a_few_and_other_machines_are_not_held_up() {
        let (mut budget, now) = (DialBudget::default(), Instant::now());
        let tried =
            (2000..12_000).filter(|port| budget.take(node(*port), at(&format!("192.0.2.1:{port}")), now)).count();
        assert_eq!(tried, PER_MACHINE_MAX);
        let of_a_network = (1..10_000u32).filter(|host| {
            budget.take(node(*host), at(&format!("[2001:db8::{:x}:{:x}]:4000", host >> 16, host & 0xffff)), now)
        });
        assert_eq!(of_a_network.count(), PER_MACHINE_MAX);
        assert!(budget.take(node(1), at("192.0.2.2:4000"), now));
    }

    #[test]
    fn who_was_met_is_dialled_as_often_as_it_takes() {
        let (mut budget, now) = (DialBudget::default(), Instant::now());
        for port in 2000..2100 {
            let address = at(&format!("192.0.2.1:{port}"));
            assert!(budget.take(node(port), address, now));
            budget.met(node(port), address);
        }
        let address = at("192.0.2.1:2000");
        assert!(budget.take(node(2000), address, now) && budget.take(node(2000), address, now));
        assert!(
            budget.take(node(1), address, now) && !budget.take(node(1), address, now),
            "another node is not met yet"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut budget, now) = (DialBudget::default(), Instant::now());
        for host in 0..10_000u32 {
            let address = SocketAddr::from((host.to_be_bytes(), 4000));
            if budget.take(node(host), address, now) && host % 2 == 0 {
                budget.met(node(host), address);
            }
        }
        assert!(budget.resting.len() <= RESTING_MAX && budget.proven.len() <= PROVEN_MAX);
    }
}
