//! Who is let in: bounds on connections, handshakes and password attempts, by address where one could crowd out others.
//!
//! What comes from the tracker's own machine is not counted by address: a flood from there is the operator's own.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use p2p_proto::name::UserName;

/// Connections at once: at 48 KiB each a little under a gibibyte.
pub const CONNECTIONS_MAX: usize = 20_000;

/// Connections at once from one address: a fleet behind one router, not all places.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;

/// Handshakes in progress above which an address must first show that it gets what is sent to it (RFC 9000, section 8.1).
const RETRY_ABOVE_HANDSHAKES: usize = 256;

/// Handshakes in progress, each some tens of KiB. Above, newcomers are not even answered.
const HANDSHAKES_MAX: usize = 2_048;

/// Slots of one table of buckets: fixed memory, whatever comes; two that share a slot share their bucket.
const SLOTS: usize = 65_536;

/// Password attempts of one address: a fleet that logs in at once, and what a core can check beside its other work.
const ADDRESS_ATTEMPTS: Rate = Rate { burst: 2_000.0, per_second: 200.0 };

/// Wrong passwords for one name from one address: some typing errors at once, then one in five seconds.
const NAME_ATTEMPTS: Rate = Rate { burst: 20.0, per_second: 0.2 };

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

/// Counts of who is in, and buckets of who tries passwords.
#[derive(Debug)]
pub struct Admission {
    counts: Mutex<Counts>,
    buckets: Mutex<Buckets>,
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
    /// Nobody in yet.
    pub fn new(now: Instant) -> Arc<Admission> {
        Arc::new(Admission { counts: Mutex::default(), buckets: Mutex::new(Buckets::new(now)) })
    }

    /// Decides about somebody at `address`, `validated` where a Retry has shown that the address is theirs.
    pub fn knock(self: &Arc<Self>, address: IpAddr, validated: bool) -> Verdict {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.handshakes >= HANDSHAKES_MAX {
            return Verdict::Ignore;
        }
        if counts.handshakes >= RETRY_ABOVE_HANDSHAKES && !validated {
            return Verdict::Retry;
        }
        let address = counted(address);
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

    /// Whether an address may try another password, for this name. A right one is given back by [`Admission::succeeded`].
    pub fn attempt(&self, address: IpAddr, user: &UserName, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = counted(address).is_none_or(|address| buckets.take(&address, ADDRESS_ATTEMPTS, now));
        by_address && buckets.take(&(counted(address), user.key()), NAME_ATTEMPTS, now)
    }

    /// The attempt was right: it does not count against the name.
    pub fn succeeded(&self, address: IpAddr, user: &UserName) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.give_back(&(counted(address), user.key()), NAME_ATTEMPTS);
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

/// What counts as one address: an IPv4 address, the /64 of an IPv6 one (what one customer is given); `None` for the
/// tracker's own machine.
fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

/// How much a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f32,
    per_second: f32,
}

/// What has been taken of each bucket, by hash.
#[derive(Debug)]
struct Buckets {
    hasher: RandomState,
    start: Instant,
    /// Taken, and when (seconds since `start`) that was so.
    slots: Vec<(f32, f32)>,
}

impl Buckets {
    fn new(start: Instant) -> Buckets {
        Buckets { hasher: RandomState::new(), start, slots: vec![(0.0, 0.0); SLOTS] }
    }

    fn slot(&mut self, key: &impl Hash) -> &mut (f32, f32) {
        let index = self.hasher.hash_one(key) as usize % SLOTS;
        &mut self.slots[index]
    }

    /// Takes one; `false` where nothing is left.
    fn take(&mut self, key: &impl Hash, rate: Rate, now: Instant) -> bool {
        let at = now.saturating_duration_since(self.start).as_secs_f32();
        let (taken, since) = self.slot(key);
        *taken = (*taken - (at - *since).max(0.0) * rate.per_second).max(0.0);
        *since = at;
        let left = *taken + 1.0 <= rate.burst;
        if left {
            *taken += 1.0;
        }
        left
    }

    fn give_back(&mut self, key: &impl Hash, rate: Rate) {
        let (taken, _) = self.slot(key);
        *taken = (*taken - 1.0).clamp(0.0, rate.burst);
    }
}

/// How long a handshake may take: three lost packets of either side.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().expect("an allowed name")
    }

    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn one_address_leaves_room_for_others() {
        let admission = Admission::new(Instant::now());
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
        let admission = Admission::new(Instant::now());
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
    fn guessing_slows_down_for_that_name_and_address_alone() {
        let start = Instant::now();
        let admission = Admission::new(start);
        let tries = (0..100).filter(|_| admission.attempt(FAR, &name("alice"), start)).count();
        assert_eq!(tries, NAME_ATTEMPTS.burst as usize);
        assert!(admission.attempt(FAR, &name("bob"), start));
        assert!(admission.attempt("192.0.2.2".parse().expect("an address"), &name("alice"), start));
        assert!(admission.attempt(FAR, &name("alice"), start + Duration::from_secs(6)));
    }

    #[test]
    fn right_passwords_are_not_counted() {
        let start = Instant::now();
        let admission = Admission::new(start);
        for _ in 0..200 {
            assert!(admission.attempt(FAR, &name("ops"), start));
            admission.succeeded(FAR, &name("ops"));
        }
    }
}
