//! Passwords tried: how often from where and for whom, and how many at once. Asked before any work is done for one.
//!
//! A login, a new account and a change of password each pass, in this order:
//!
//! | what | bound | against |
//! |---|---|---|
//! | attempts of one address | [`ADDRESS_ATTEMPTS`] | a flood; not counted for the tracker's own machine, whose flood is the operator's own |
//! | accounts asked for by one address | [`ADDRESS_ACCOUNTS`] | filling the table of users, finding out names; likewise |
//! | attempts of one address for one name | [`NAME_ATTEMPTS`] | guessing; a right password is given back |
//! | the same while everybody together guesses that name | [`CROWDED_NAME_ATTEMPTS`] | guessing from many addresses |
//! | exchanges in progress of one address, and of all | [`EXCHANGES_PER_ADDRESS_MAX`], [`EXCHANGES_MAX`] | holding all places |
//!
//! Nobody can lock a name. What is counted against a name is counted for each address by itself; what all addresses
//! together have tried ([`NAME_ATTEMPTS_OF_ALL`]) refuses nobody, it only makes the allowance of each address smaller: one
//! attempt, and another each half minute. So alice gets in from her address whatever a stranger does from his, and ten
//! thousand strangers have one guess each while she has hers. A name that nobody has is counted like any other.
//!
//! Who finds all places of its address taken waits in line for [`LINE_DEADLINE`] and is then told that the tracker is busy.
//! Addresses do not wait for each other before all places of the tracker are taken.
//!
//! Memory is the same whatever comes: counts stand in tables of fixed size, two places each, and the lesser one counts. To be
//! mistaken for others an address has to share both places with them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use p2p_proto::name::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{is_own_machine, source};

/// Attempts of one address: a fleet that logs in at once, and what a core checks in a fraction of its time.
const ADDRESS_ATTEMPTS: Rate = Rate { burst: 2_000.0, seconds_each: 0.005 };

/// Accounts asked for by one address, also those whose name is taken: a company on its first day, then one a minute. The
/// table of users would take an address a year to fill.
const ADDRESS_ACCOUNTS: Rate = Rate { burst: 100.0, seconds_each: 60.0 };

/// Wrong passwords for one name from one address: some typing errors at once, then one in five seconds.
const NAME_ATTEMPTS: Rate = Rate { burst: 20.0, seconds_each: 5.0 };

/// The same for a name that is being guessed from many addresses, or by one for long.
const CROWDED_NAME_ATTEMPTS: Rate = Rate { burst: 1.0, seconds_each: 30.0 };

/// Wrong passwords for one name from all addresses, above which [`CROWDED_NAME_ATTEMPTS`] holds for it.
const NAME_ATTEMPTS_OF_ALL: Rate = Rate { burst: 60.0, seconds_each: 10.0 };

/// Exchanges in progress at once. Each waits for its daemon's key stretching and keeps about 2 KiB meanwhile.
pub const EXCHANGES_MAX: usize = 8_192;

/// Exchanges in progress of one address: a thirty-second of all places, and 256 key stretchings at once in one network.
pub const EXCHANGES_PER_ADDRESS_MAX: usize = 256;

/// How long one waits in line: several rounds of honest exchanges, half of what a daemon waits for an answer. The line is as
/// long as the connections and their exchanges are many.
const LINE_DEADLINE: Duration = Duration::from_secs(5);

/// Places of one table in each of its two rows: 2 MiB a table.
const PLACES: usize = 65_536;

/// Counts of who tries passwords, and the exchanges in progress.
#[derive(Debug)]
pub struct Attempts {
    counts: Mutex<Counts>,
    exchanges: Arc<Semaphore>,
    /// Addresses with exchanges in progress or in line: no more than there are connections.
    lines: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

#[derive(Debug)]
struct Counts {
    start: Instant,
    addresses: Table,
    accounts: Table,
    names_by_address: Table,
    names: Table,
}

/// A place among the exchanges in progress, given back when dropped.
#[derive(Debug)]
pub struct Place {
    _here: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    // Last: it looks whether the permits are given back.
    _line: Line,
}

/// The line of one address, forgotten with the last who is in it.
#[derive(Debug)]
struct Line {
    attempts: Arc<Attempts>,
    source: IpAddr,
    places: Arc<Semaphore>,
}

impl Attempts {
    /// Nothing tried yet.
    pub fn new(now: Instant) -> Arc<Attempts> {
        let counts = Counts {
            start: now,
            addresses: Table::new(),
            accounts: Table::new(),
            names_by_address: Table::new(),
            names: Table::new(),
        };
        Arc::new(Attempts {
            counts: Mutex::new(counts),
            exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)),
            lines: Mutex::default(),
        })
    }

    /// Counts one attempt to prove a password. A right one is given back by [`Attempts::succeeded`].
    ///
    /// # Errors
    /// How long to wait before trying again; nothing is counted then.
    pub fn password(&self, address: IpAddr, user: &UserName, now: Instant) -> Result<(), Duration> {
        self.attempt(address, user, false, now)
    }

    /// Counts one attempt to make an account. Only the attempt for the name is given back by [`Attempts::succeeded`].
    ///
    /// # Errors
    /// As [`Attempts::password`].
    pub fn account(&self, address: IpAddr, user: &UserName, now: Instant) -> Result<(), Duration> {
        self.attempt(address, user, true, now)
    }

    fn attempt(&self, address: IpAddr, user: &UserName, account: bool, now: Instant) -> Result<(), Duration> {
        let counts = &mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.saturating_duration_since(counts.start).as_secs_f64();
        let (from, name) = (source(address), user.key());
        let pair = (from, &name);
        let is_crowded = counts.names.wait(&name, NAME_ATTEMPTS_OF_ALL, now) > Duration::ZERO;
        let name_attempts = if is_crowded { CROWDED_NAME_ATTEMPTS } else { NAME_ATTEMPTS };
        let mut wait = counts.names_by_address.wait(&pair, name_attempts, now);
        let is_counted = !is_own_machine(address);
        if is_counted {
            wait = wait.max(counts.addresses.wait(&from, ADDRESS_ATTEMPTS, now));
        }
        if is_counted && account {
            wait = wait.max(counts.accounts.wait(&from, ADDRESS_ACCOUNTS, now));
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        counts.names.take(&name, NAME_ATTEMPTS_OF_ALL, now);
        counts.names_by_address.take(&pair, name_attempts, now);
        if is_counted {
            counts.addresses.take(&from, ADDRESS_ATTEMPTS, now);
        }
        if is_counted && account {
            counts.accounts.take(&from, ADDRESS_ACCOUNTS, now);
        }
        Ok(())
    }

    /// The attempt was right, or came to nothing for no fault of its own: it does not count against the name.
    pub fn succeeded(&self, address: IpAddr, user: &UserName) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = user.key();
        counts.names_by_address.give_back(&(source(address), &name));
        counts.names.give_back(&name);
    }

    /// Waits for a place among the exchanges in progress; `None` where that takes too long.
    pub async fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let line = self.line(source(address));
        let turn = async {
            let here = Arc::clone(&line.places).acquire_owned().await.ok()?;
            let all = Arc::clone(&self.exchanges).acquire_owned().await.ok()?;
            Some((here, all))
        };
        let (here, all) = tokio::time::timeout(LINE_DEADLINE, turn).await.ok()??;
        Some(Place { _here: here, _all: all, _line: line })
    }

    fn line(self: &Arc<Self>, source: IpAddr) -> Line {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let places = lines.entry(source).or_insert_with(|| Arc::new(Semaphore::new(EXCHANGES_PER_ADDRESS_MAX)));
        Line { attempts: Arc::clone(self), source, places: Arc::clone(places) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut lines = self.attempts.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's own and this one: all others are made with the table locked.
        if Arc::strong_count(&self.places) == 2 {
            lines.remove(&self.source);
        }
    }
}

/// How many may be taken at once, and how long until one of them is back.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f32,
    seconds_each: f32,
}

/// What has been taken of each key, in two rows of places that keys are spread over differently.
#[derive(Debug)]
struct Table {
    rows: [(RandomState, Vec<Taken>); 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    number: f32,
    /// When that was so, in seconds since the start. Whole seconds of a year do not fit an `f32`.
    at: f64,
}

impl Taken {
    /// What is still taken at `now`. Never more than a burst, so that a stricter rate is not waited for longer than it takes.
    fn left(self, rate: Rate, now: f64) -> f32 {
        (self.number.min(rate.burst) - (now - self.at).max(0.0) as f32 / rate.seconds_each).max(0.0)
    }
}

impl Table {
    fn new() -> Table {
        let row = || (RandomState::new(), vec![Taken::default(); PLACES]);
        Table { rows: [row(), row()] }
    }

    /// How long until one can be taken; zero where one can be now.
    fn wait(&mut self, key: &impl Hash, rate: Rate, now: f64) -> Duration {
        let taken = self.places(key).map(|place| place.left(rate, now)).fold(f32::INFINITY, f32::min);
        Duration::from_secs_f32(((taken + 1.0 - rate.burst) * rate.seconds_each).max(0.0))
    }

    fn take(&mut self, key: &impl Hash, rate: Rate, now: f64) {
        for place in self.places(key) {
            *place = Taken { number: place.left(rate, now) + 1.0, at: now };
        }
    }

    fn give_back(&mut self, key: &impl Hash) {
        for place in self.places(key) {
            place.number = (place.number - 1.0).max(0.0);
        }
    }

    fn places(&mut self, key: &impl Hash) -> impl Iterator<Item = &mut Taken> {
        self.rows.iter_mut().map(move |(hasher, places)| {
            let index = hasher.hash_one(key) as usize % PLACES;
            &mut places[index]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().expect("an allowed name")
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0xc633_6400 + number).into())
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Attempts that are let through of so many at one moment.
    fn passed(tries: u32, attempt: impl Fn(u32) -> Result<(), Duration>) -> usize {
        (0..tries).filter(|number| attempt(*number).is_ok()).count()
    }

    #[test]
    fn guessing_slows_down_for_that_name_and_address_alone() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let guess = |_| attempts.password(address(1), &name("alice"), start);
        assert_eq!(passed(100, guess), NAME_ATTEMPTS.burst as usize);
        assert_eq!(guess(0), Err(5 * SECOND));
        assert_eq!(attempts.password(address(1), &name("bob"), start), Ok(()));
        assert_eq!(attempts.password(address(2), &name("Alice"), start), Ok(()));
        assert_eq!(attempts.password(address(1), &name("ALICE"), start + 6 * SECOND), Ok(()));
        assert!(attempts.password(address(1), &name("alice"), start + 6 * SECOND).is_err());
    }

    #[test]
    fn a_name_that_everybody_guesses_is_open_to_its_user_still() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let alice = name("alice");
        assert_eq!(passed(10_000, |number| attempts.password(address(number % 50), &alice, start)), 60);
        // Each of them waits, and she does not; not even where she has mistyped it before.
        let minute = start + 60 * SECOND;
        for mistyped in 0..3 {
            assert_eq!(
                attempts.password(address(99), &alice, start),
                if mistyped == 0 { Ok(()) } else { Err(30 * SECOND) }
            );
        }
        assert_eq!(attempts.password(address(99), &alice, minute), Ok(()));
        assert_eq!(attempts.password(address(100), &alice, start), Ok(()), "from anywhere else too");
        // When they have given up, it is as before.
        assert_eq!(passed(100, |_| attempts.password(address(98), &alice, start + 3_600 * SECOND)), 20);
    }

    #[test]
    fn right_passwords_are_not_counted() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        for _ in 0..1_000 {
            assert_eq!(attempts.password(address(1), &name("ops"), start), Ok(()));
            attempts.succeeded(address(1), &name("ops"));
        }
    }

    #[test]
    fn one_address_makes_accounts_slowly_and_others_are_not_kept_from_it() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let make = |address| {
            move |number: u32| {
                let user = name(&format!("u{number}"));
                attempts.account(address, &user, start).inspect(|()| attempts.succeeded(address, &user))
            }
        };
        assert_eq!(passed(500, make(address(1))), ADDRESS_ACCOUNTS.burst as usize);
    }

    #[test]
    fn a_flood_of_names_from_one_address_leaves_others_alone() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let guess = |number| attempts.password(address(1), &name(&format!("u{number}")), start);
        assert_eq!(passed(50_000, guess), ADDRESS_ATTEMPTS.burst as usize);
        let of_others = |number| attempts.password(address(2 + number % 200), &name(&format!("v{number}")), start);
        assert_eq!(passed(1_000, of_others), 1_000);
        let of_own_machine =
            |number| attempts.password("127.0.0.1".parse().expect("one"), &name(&format!("w{number}")), start);
        assert_eq!(passed(5_000, of_own_machine), 5_000, "its flood is the operator's own");
    }

    #[test]
    fn what_is_refused_is_not_counted() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let alice = name("alice");
        assert_eq!(passed(100_000, |_| attempts.password(address(1), &alice, start)), 20);
        assert_eq!(passed(60, |number| attempts.password(address(2 + number / 20), &alice, start)), 40 + 1);
    }

    #[tokio::test]
    async fn an_address_waits_for_its_own_places_alone() {
        let attempts = Attempts::new(Instant::now());
        let mut held = Vec::new();
        for _ in 0..EXCHANGES_PER_ADDRESS_MAX {
            held.push(attempts.place(address(1)).await.expect("free"));
        }
        let next = tokio::time::timeout(Duration::ZERO, attempts.place(address(1)));
        assert!(next.await.is_err(), "all places of this address are taken");
        held.push(attempts.place(address(2)).await.expect("another address"));
        let (next, ()) = tokio::join!(attempts.place(address(1)), async { drop(held.remove(0)) });
        assert!(next.is_some(), "who waits in line is next");
        drop((held, next));
        assert!(attempts.lines.lock().expect("whole").is_empty(), "nothing is kept of who has gone");
        assert_eq!(attempts.exchanges.available_permits(), EXCHANGES_MAX);
    }
}
