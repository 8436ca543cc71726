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

/// So often within [`REST`] an address may be tried that refuses: somebody who has no room just now lives there, or says
/// so. The engine's own pauses lie in between.
const REFUSED_TRIES_MAX: u32 = 5;

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
    /// Those that were tried and where nobody was met since.
    resting: HashMap<SocketAddr, Tried>,
    /// Who answered where: the engine's own pauses are enough there.
    proven: HashMap<SocketAddr, Met>,
}

/// An address that rests.
#[derive(Debug)]
struct Tried {
    /// When its rest began.
    first: Instant,
    tries: u32,
    /// Whether the last one was refused.
    refused: bool,
}

/// Who was met at an address.
#[derive(Debug)]
struct Met {
    node: NodeId,
    /// Whether this end dialled.
    dialled: bool,
}

impl DialBudget {
    /// Whether `address` may be dialled now for `node`; counts as tried if so.
    pub fn take(&mut self, node: NodeId, address: SocketAddr, now: Instant) -> bool {
        if self.proven.get(&address).is_some_and(|met| met.node == node) {
            return true;
        }
        self.resting.retain(|_, tried| now.saturating_duration_since(tried.first) < REST);
        if let Some(tried) = self.resting.get_mut(&address) {
            let again = tried.refused && tried.tries < REFUSED_TRIES_MAX;
            if again {
                (tried.tries, tried.refused) = (tried.tries + 1, false);
            }
            return again;
        }
        let machine = machine_of(address.ip());
        let on_machine = self.resting.keys().filter(|other| machine_of(other.ip()) == machine).count();
        if on_machine >= PER_MACHINE_MAX || self.resting.len() >= RESTING_MAX {
            return false;
        }
        self.resting.insert(address, Tried { first: now, tries: 1, refused: false });
        true
    }

    /// Who answers there has no room at present, and has not said who they are.
    pub fn refused(&mut self, address: SocketAddr) {
        if let Some(tried) = self.resting.get_mut(&address) {
            tried.refused = true;
        }
    }

    /// Whether whoever is there had no room when it was tried last.
    pub fn is_refusing(&self, address: SocketAddr) -> bool {
        self.resting.get(&address).is_some_and(|tried| tried.refused)
    }

    /// The node was met there, whoever `dialled`: it proved its key.
    pub fn met(&mut self, node: NodeId, address: SocketAddr, dialled: bool) {
        self.resting.remove(&address);
        if self.proven.len() >= PROVEN_MAX && !self.proven.contains_key(&address) {
            // What is forgotten is only dialled more patiently. First those who came by themselves: that costs a stranger
            // nothing.
            self.proven.retain(|_, met| met.dialled);
            if self.proven.len() >= PROVEN_MAX {
                self.proven.clear();
            }
        }
        let found = self.proven.get(&address).is_some_and(|met| met.node == node && met.dialled);
        self.proven.insert(address, Met { node, dialled: dialled || found });
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
            budget.met(node(port), address, true);
        }
        let address = at("192.0.2.1:2000");
        assert!(budget.take(node(2000), address, now) && budget.take(node(2000), address, now));
        assert!(
            budget.take(node(1), address, now) && !budget.take(node(1), address, now),
            "another node is not met yet"
        );
    }

    #[test]
    fn who_refuses_is_asked_a_few_times_and_no_more() {
        let (mut budget, start) = (DialBudget::default(), Instant::now());
        let address = at("192.0.2.1:4000");
        let knocks = |budget: &mut DialBudget, seconds: std::ops::Range<u64>| {
            let taken = seconds.filter(|second| {
                let taken = budget.take(node(*second as u32), address, start + Duration::from_secs(*second));
                budget.refused(address);
                taken
            });
            taken.count()
        };
        assert_eq!(knocks(&mut budget, 0..60), REFUSED_TRIES_MAX as usize);
        assert_eq!(knocks(&mut budget, 60..120), REFUSED_TRIES_MAX as usize);
        let silent = start + Duration::from_secs(120);
        assert!(budget.take(node(1), address, silent) && !budget.take(node(1), address, silent));
    }

    #[test]
    fn strangers_who_come_do_not_make_forget_who_was_found() {
        let (mut budget, now) = (DialBudget::default(), Instant::now());
        let found = at("192.0.2.1:4000");
        budget.met(node(0), found, true);
        for host in 1..10_000u32 {
            budget.met(node(host), SocketAddr::from((host.to_be_bytes(), 4000)), false);
        }
        assert!(budget.take(node(0), found, now) && budget.take(node(0), found, now));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut budget, now) = (DialBudget::default(), Instant::now());
        for host in 0..10_000u32 {
            let address = SocketAddr::from((host.to_be_bytes(), 4000));
            if budget.take(node(host), address, now) && host % 2 == 0 {
                budget.met(node(host), address, host % 4 == 0);
            }
        }
        assert!(budget.resting.len() <= RESTING_MAX && budget.proven.len() <= PROVEN_MAX);
    }
}
