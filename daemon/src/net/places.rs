//! Places: which of those that connect here stay, and who goes where there are too many.
//!
//! Somebody new is nobody yet: they stay until they are the one that has been there longest of many new ones, and never
//! less than [`PROBATION`]: enough to say Hello and to show a grant. Who is found to hold one, or to be of use to a
//! download, does not go for somebody new. So those who want nothing, or may not have what they want, keep nobody out,
//! whatever address they share and however soon they come back.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_proto::name::UserName;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Connections that peers opened, those included that shake hands: a daemon with 50 peers is a busy one, and each may
/// cost its windows.
const PLACES_MAX: usize = 192;

/// How many of them may be in use at once: the others are there for somebody new at all times.
const IN_USE_MAX: usize = 160;

/// The same for one machine, by [`super::machine_of`]: a household or an office behind one router, or several daemons on one
/// machine.
const IN_USE_PER_MACHINE_MAX: usize = 64;

/// New ones of one machine. Together with [`PROBATION`] it bounds what a flood from there can cost: 256 handshakes a
/// second, some percent of a processor each hundred.
const NEW_PER_MACHINE_MAX: usize = 64;

/// A newcomer does not go before: two round trips of a long path, of which the handshake with Hello is one and an interest
/// with its answer the other. An address where all are newer is refused.
const PROBATION: Duration = Duration::from_millis(250);

/// Those that have to go and are not gone yet, beside all others; with more, nobody is let in at their expense.
const LEAVING_MAX: usize = 64;

/// With more handshakes than this under way, an address proves first that it is not forged (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = 16;

/// What to do with somebody who knocks.
pub(super) enum Verdict {
    /// Let in; the place is kept for as long as the connection lives, or until the receiver says that it has to go.
    Admit(Place, oneshot::Receiver<()>),
    /// Ask to show the address first.
    Retry,
    /// Say that there is no room.
    Refuse,
}

/// All places. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
}

/// One of the places, given back when dropped.
pub(super) struct Place {
    places: Places,
    /// By which it is found.
    pub(super) id: PlaceId,
}

/// Tells places apart; whoever came later has the higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct PlaceId(u64);

/// A place is in use for as long as one of these is kept.
pub(super) struct Use {
    places: Places,
    id: PlaceId,
}

impl Places {
    /// Decides about somebody of that machine, `validated` where a Retry has shown that the address is theirs.
    pub(super) fn knock(&self, machine: IpAddr, validated: bool, now: Instant) -> Verdict {
        match self.lock().knock(machine, validated, now) {
            Ok((id, told_to_go)) => Verdict::Admit(Place { places: self.clone(), id }, told_to_go),
            Err(refusal) => refusal,
        }
    }

    /// The place is in use from now on: by a user whose grant held, or, with `None`, by a download of ours. Where too many
    /// are in use, somebody has to go.
    pub(super) fn begin_use(&self, id: PlaceId, user: Option<UserName>) -> Use {
        self.lock().begin_use(id, user);
        Use { places: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Both Hellos are exchanged.
    pub(super) fn handshake_done(&self) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.handshaking = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.uses -= 1;
            if taken.uses == 0 {
                // Who was somebody a moment ago has as much time as who is new.
                taken.since = Instant::now();
            }
        }
    }
}

#[derive(Default)]
struct Table {
    last: PlaceId,
    /// The oldest first.
    taken: BTreeMap<PlaceId, Taken>,
}

struct Taken {
    machine: IpAddr,
    since: Instant,
    handshaking: bool,
    uses: usize,
    /// Whose grant held; `None` where none did.
    user: Option<UserName>,
    /// Tells that it has to go; `None` once it was told.
    go: Option<oneshot::Sender<()>>,
}

impl Taken {
    fn is_new(&self) -> bool {
        self.go.is_some() && self.uses == 0
    }

    fn is_in_use(&self) -> bool {
        self.go.is_some() && self.uses > 0
    }
}

impl Table {
    fn knock(
        &mut self,
        machine: IpAddr,
        validated: bool,
        now: Instant,
    ) -> Result<(PlaceId, oneshot::Receiver<()>), Verdict> {
        if !validated && self.count(|taken| taken.handshaking) > RETRY_ABOVE {
            return Err(Verdict::Retry);
        }
        let machine_is_full = self.count(|taken| taken.is_new() && taken.machine == machine) >= NEW_PER_MACHINE_MAX;
        if machine_is_full || self.count(|taken| taken.go.is_some()) >= PLACES_MAX {
            if !validated {
                // Nobody has to go for an address that may be forged.
                return Err(Verdict::Retry);
            }
            let crowd = machine_is_full.then_some(machine);
            let goes = self.newcomer_to_go(crowd, now).filter(|_| self.count(|taken| taken.go.is_none()) < LEAVING_MAX);
            self.tell_to_go(goes.ok_or(Verdict::Refuse)?);
        }
        let (go, told_to_go) = oneshot::channel();
        self.last = PlaceId(self.last.0 + 1);
        let taken = Taken { machine, since: now, handshaking: true, uses: 0, user: None, go: Some(go) };
        self.taken.insert(self.last, taken);
        Ok((self.last, told_to_go))
    }

    /// The newcomer of that machine, or of the one that has most of them, that has been there longest.
    fn newcomer_to_go(&self, crowd: Option<IpAddr>, now: Instant) -> Option<PlaceId> {
        let mut per_machine: HashMap<IpAddr, usize> = HashMap::new();
        for taken in self.taken.values().filter(|taken| taken.is_new()) {
            *per_machine.entry(taken.machine).or_default() += 1;
        }
        let old_enough = self.taken.iter().filter(|(_, taken)| {
            let of_crowd = crowd.is_none_or(|crowd| crowd == taken.machine);
            taken.is_new() && of_crowd && now.saturating_duration_since(taken.since) >= PROBATION
        });
        let goes = old_enough.max_by_key(|(id, taken)| (per_machine[&taken.machine], std::cmp::Reverse(**id)));
        goes.map(|(id, _)| *id)
    }

    fn begin_use(&mut self, id: PlaceId, user: Option<UserName>) {
        let Some(taken) = self.taken.get_mut(&id) else { return };
        let machine = taken.machine;
        taken.uses += 1;
        taken.user = user.or(taken.user.take());
        if taken.uses > 1 {
            return;
        }
        let of_machine = |taken: &Taken| taken.is_in_use() && taken.machine == machine;
        if self.count(of_machine) > IN_USE_PER_MACHINE_MAX {
            self.tell_to_go(self.user_to_go(id, of_machine));
        } else if self.count(Taken::is_in_use) > IN_USE_MAX {
            self.tell_to_go(self.user_to_go(id, Taken::is_in_use));
        }
    }

    /// Who goes so that `newest` can stay: the last that came of the user who has most of these places; `newest` itself
    /// where that would not leave its own user with fewer than that one. So one user's many nodes keep no other user out.
    fn user_to_go(&self, newest: PlaceId, among: impl Fn(&Taken) -> bool) -> PlaceId {
        // Our own downloads count as one user's.
        let mut per_user: BTreeMap<Option<&UserName>, (usize, PlaceId)> = BTreeMap::new();
        for (id, taken) in self.taken.iter().filter(|(_, taken)| among(taken)) {
            let (count, last) = per_user.entry(taken.user.as_ref()).or_default();
            (*count, *last) = (*count + 1, *id);
        }
        let user = self.taken.get(&newest).and_then(|taken| taken.user.as_ref());
        let own = per_user.get(&user).map_or(1, |(count, _)| *count);
        let most = per_user.values().max_by_key(|(count, _)| *count);
        most.filter(|(count, _)| *count > own + 1).map_or(newest, |(_, last)| *last)
    }

    fn tell_to_go(&mut self, id: PlaceId) {
        if let Some(go) = self.taken.get_mut(&id).and_then(|taken| taken.go.take()) {
            // Nobody hears it where it is going by itself.
            let _ = go.send(());
        }
    }

    fn count(&self, which: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|taken| which(taken)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who was let in, with the place's number.
    struct Guest {
        place: Place,
        told_to_go: oneshot::Receiver<()>,
    }

    impl Guest {
        fn goes(&mut self) -> bool {
            self.told_to_go.try_recv().is_ok()
        }

        fn is_found_to_be(&self, user: &str) -> Use {
            self.place.places.begin_use(self.place.id, Some(user.parse().expect("a name")))
        }
    }

    fn machine(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn let_in(places: &Places, machine: IpAddr, now: Instant) -> Option<Guest> {
        match places.knock(machine, true, now) {
            Verdict::Admit(place, told_to_go) => {
                place.handshake_done();
                Some(Guest { place, told_to_go })
            }
            _ => None,
        }
    }

    fn crowd(places: &Places, machine: IpAddr, count: usize, now: Instant) -> Vec<Guest> {
        (0..count).map_while(|_| let_in(places, machine, now)).collect()
    }

    #[test]
    fn the_oldest_newcomer_of_a_crowded_machine_goes_and_nobody_elses() {
        let (places, start) = (Places::default(), Instant::now());
        let mut other = let_in(&places, machine(2), start).expect("room");
        let mut guests = crowd(&places, machine(1), NEW_PER_MACHINE_MAX, start);
        for round in 0..10 {
            guests.push(let_in(&places, machine(1), start + PROBATION).expect("let in"));
            assert!(guests[round].goes());
        }
        assert!(!other.goes() && guests[10..].iter_mut().all(|guest| !guest.goes()));
    }

    #[test]
    fn a_newcomer_stays_for_its_probation_however_many_come() {
        let (places, start) = (Places::default(), Instant::now());
        let mut flood = crowd(&places, machine(1), 1000, start);
        assert_eq!(flood.len(), NEW_PER_MACHINE_MAX);
        let soon = start + PROBATION - Duration::from_millis(1);
        assert!(let_in(&places, machine(1), soon).is_none(), "all are new");
        assert!(let_in(&places, machine(2), soon).is_some(), "elsewhere there is room");
        let honest = let_in(&places, machine(1), start + PROBATION);
        drop(flood.drain(..1));
        let until = start + 2 * PROBATION - Duration::from_millis(1);
        let more = crowd(&places, machine(1), 1000, until);
        assert_eq!(more.len(), NEW_PER_MACHINE_MAX - 1, "each in the place of an older one");
        assert!(!honest.expect("let in").goes());
    }

    #[test]
    fn who_is_found_to_be_somebody_does_not_go_for_somebody_new() {
        let (places, start) = (Places::default(), Instant::now());
        let mut member = let_in(&places, machine(1), start).expect("room");
        let in_use = member.is_found_to_be("alice");
        let late = |round: u32| start + PROBATION * round;
        let mut flood = Vec::new();
        for round in 0..20 {
            flood.extend(crowd(&places, machine(1), 1000, late(round)));
            flood.retain_mut(|guest| !guest.goes());
        }
        assert!(!member.goes());
        drop(in_use);
        flood.extend(let_in(&places, machine(1), late(20)));
        assert!(member.goes(), "it has been there longest and wants nothing any more");
    }

    #[test]
    fn with_all_places_taken_the_machine_that_has_most_newcomers_gives_one() {
        let (places, start) = (Places::default(), Instant::now());
        let mut few = crowd(&places, machine(9), 8, start);
        let mut many: Vec<_> =
            (1..=3).flat_map(|number| crowd(&places, machine(number), NEW_PER_MACHINE_MAX, start)).collect();
        assert_eq!(few.len() + many.len(), PLACES_MAX);
        for number in 20..50 {
            few.push(let_in(&places, machine(number), start + PROBATION).expect("let in"));
        }
        assert!(few.iter_mut().all(|guest| !guest.goes()));
        assert_eq!(many.iter_mut().filter_map(|guest| guest.goes().then_some(())).count(), 30);
    }

    #[test]
    fn one_users_many_nodes_keep_no_other_user_out() {
        let (places, start) = (Places::default(), Instant::now());
        let late = |round: usize| start + PROBATION * u32::try_from(round).expect("small");
        let mut of_mallory: Vec<(Guest, Use)> = Vec::new();
        for round in 0..IN_USE_PER_MACHINE_MAX {
            let guest = let_in(&places, machine(1), late(round)).expect("room");
            let in_use = guest.is_found_to_be("mallory");
            of_mallory.push((guest, in_use));
        }
        let mut more = let_in(&places, machine(1), late(100)).expect("room");
        let _in_use = more.is_found_to_be("mallory");
        assert!(more.goes(), "mallory has had enough");
        drop(more);
        let mut honest = let_in(&places, machine(1), late(101)).expect("room");
        let _in_use = honest.is_found_to_be("alice");
        assert!(!honest.goes());
        assert_eq!(of_mallory.iter_mut().filter_map(|(guest, _)| guest.goes().then_some(())).count(), 1);
    }

    #[test]
    fn where_all_have_as_much_who_comes_last_is_turned_away() {
        let (places, start) = (Places::default(), Instant::now());
        let mut members: Vec<(Guest, Use)> = Vec::new();
        for number in 0..IN_USE_MAX {
            let guest = let_in(&places, machine((number % 16) as u8), start).expect("room");
            let in_use = guest.is_found_to_be(&format!("user{number}"));
            members.push((guest, in_use));
        }
        let mut last = let_in(&places, machine(20), start).expect("room for somebody new");
        let _in_use = last.is_found_to_be("last");
        assert!(last.goes() && members.iter_mut().all(|(guest, _)| !guest.goes()));
    }

    #[test]
    fn nobody_goes_for_an_address_that_may_be_forged() {
        let (places, start) = (Places::default(), Instant::now());
        let mut guests = crowd(&places, machine(1), NEW_PER_MACHINE_MAX, start);
        assert!(matches!(places.knock(machine(1), false, start + PROBATION), Verdict::Retry));
        assert!(guests.iter_mut().all(|guest| !guest.goes()));
        let forged = |number| places.knock(machine(number), false, start);
        let shaking: Vec<_> = (2..100).map(forged).filter(|verdict| matches!(verdict, Verdict::Admit(..))).collect();
        assert_eq!(shaking.len(), RETRY_ABOVE + 1);
    }

    #[test]
    fn who_has_to_go_and_does_not_is_not_followed_by_others_without_end() {
        let (places, start) = (Places::default(), Instant::now());
        let guests: Vec<_> =
            (0..100).flat_map(|round| crowd(&places, machine(1), 1000, start + PROBATION * round)).collect();
        assert_eq!(guests.len(), NEW_PER_MACHINE_MAX + LEAVING_MAX);
        drop(guests);
        assert!(places.lock().taken.is_empty());
    }
}
