//! Who is let in: bounds on connections and handshakes, by address where one could crowd out others. What is done with a
//! connection is bounded elsewhere: passwords in [`super::attempts`].
//!
//! What comes from the tracker's own machine is not counted by address: a flood from there is the operator's own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections at once: at 48 KiB each a little under a gibibyte.
pub const CONNECTIONS_MAX: usize = 20_000;

/// Connections at once from one address: a fleet behind one router, not all places.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;

/// Handshakes in progress above which an address must first show that it gets what is sent to it (RFC 9000, section 8.1).
const RETRY_ABOVE_HANDSHAKES: usize = 256;

/// Handshakes in progress, each some tens of KiB. Above, newcomers are not even answered.
const HANDSHAKES_MAX: usize = 2_048;

/// What to do with somebody who knocks.
#[derive(Debug)]
pub enum Verdict {
    /// Let in; the pass is kept for as long as the connection lives.
    Admit(Pass),
    /// Ask to show the address first.
    Retry,
    /// Say that there is no room.
    Refuse,
    /// Do not answer at all.
    Ignore,
}

/// Counts of who is in.
#[derive(Debug, Default)]
pub struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One place among the connections, given back when dropped.
#[derive(Debug)]
pub struct Pass {
    admission: Arc<Admission>,
    /// `None` for an address that is not counted.
    address: Option<IpAddr>,
    handshaking: bool,
}

impl Admission {
    /// Decides about somebody at `address`, `validated` where a Retry has shown that the address is theirs.
    pub fn knock(self: &Arc<Self>, address: IpAddr, validated: bool) -> Verdict {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.handshakes >= HANDSHAKES_MAX {
            return Verdict::Ignore;
        }
        if counts.handshakes >= RETRY_ABOVE_HANDSHAKES && !validated {
            return Verdict::Retry;
        }
        let address = Some(source(address)).filter(|address| !is_own_machine(*address));
        let here = address.map_or(0, |address| counts.by_address.get(&address).copied().unwrap_or(0));
        if counts.connections >= CONNECTIONS_MAX || here >= CONNECTIONS_PER_ADDRESS_MAX {
            return Verdict::Refuse;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        if let Some(address) = address {
            *counts.by_address.entry(address).or_default() += 1;
        }
        Verdict::Admit(Pass { admission: Arc::clone(self), address, handshaking: true })
    }
}

impl Pass {
    /// The handshake is over, the connection goes on.
    pub fn handshake_done(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.admission.counts.lock().unwrap_or_else(PoisonError::into_inner).handshakes -= 1;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.handshake_done();
        let mut counts = self.admission.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.connections -= 1;
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, the /64 of an IPv6 one (what one customer is given).
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// Whether an address is one that only the tracker's own machine has.
pub fn is_own_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// How long a handshake may take: three lost packets of either side.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn one_address_leaves_room_for_others() {
        let admission = Arc::new(Admission::default());
        let admit = |address| match admission.knock(address, true) {
            Verdict::Admit(mut pass) => {
                pass.handshake_done();
                Some(pass)
            }
            _ => None,
        };
        let passes: Vec<_> = std::iter::from_fn(|| admit(FAR)).take(5_000).collect();
        assert_eq!(passes.len(), CONNECTIONS_PER_ADDRESS_MAX);
        assert!(admit("192.0.2.2".parse().expect("an address")).is_some());
        drop(passes);
        assert!(admit(FAR).is_some(), "places are given back");
        let counts = admission.counts.lock().expect("whole");
        assert_eq!((counts.handshakes, counts.by_address.len()), (0, 0));
    }

    #[test]
    fn under_load_an_address_is_to_be_shown_first() {
        let admission = Arc::new(Admission::default());
        let localhost = "127.0.0.1".parse().expect("an address");
        let mut passes = Vec::new();
        while let Verdict::Admit(pass) = admission.knock(localhost, false) {
            passes.push(pass);
        }
        assert_eq!(passes.len(), RETRY_ABOVE_HANDSHAKES);
        assert!(matches!(admission.knock(localhost, false), Verdict::Retry));
        while let Verdict::Admit(pass) = admission.knock(localhost, true) {
            passes.push(pass);
        }
        assert_eq!(passes.len(), HANDSHAKES_MAX);
        assert!(matches!(admission.knock(localhost, true), Verdict::Ignore));
    }

    #[test]
    fn a_network_of_one_customer_is_one_address() {
        let source = |text: &str| source(text.parse().expect("an address")).to_string();
        assert_eq!(source("192.0.2.1"), "192.0.2.1");
        assert_eq!(source("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(["127.0.0.2", "::1"].map(source), ["127.0.0.2", "::1"]);
    }
}
