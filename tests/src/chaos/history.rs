//! What was asked of a cluster and what it answered, and whether any order of the changes explains all of it.
//!
//! Each thing that is made and taken away (a group, a listing) is looked at by itself, which is enough: a history is
//! linearizable if that of each object is (Herlihy and Wing, "Linearizability", 1990, theorem 1). The search keeps every state
//! that the answers so far leave possible (Lowe, "Testing for linearizability", 2017, section 3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What was asked about a thing, with what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To make it, which is refused where it is there.
    Make(Outcome),
    /// To take it away, which is refused where it is not there.
    Take(Outcome),
    /// Whether it is there: it was, or was not.
    Look(bool),
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is acknowledged.
    Done,
    /// It was refused for what the thing is already.
    Refused,
    /// It may be made at any time from now on, or never: no majority, no answer.
    Unknown,
}

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// About which thing.
    pub thing: String,
    /// Who asked.
    pub client: String,
    /// What, and what came of it.
    pub asked: Asked,
    /// When it was asked, since the history's beginning.
    pub began: Duration,
    /// When the answer was there.
    pub ended: Duration,
}

/// An answer that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The first exchange whose answer no order of what was asked explains.
    pub exchange: Exchange,
    /// What was asked about the thing until then, in the order of the answers.
    pub before: Vec<Exchange>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "nothing explains: {}", self.exchange)?;
        for exchange in &self.before {
            writeln!(f, "          behind: {exchange}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exchange { thing, client, asked, began, ended } = self;
        write!(f, "{client} {asked:?} {thing} {:.3}..{:.3} s", began.as_secs_f64(), ended.as_secs_f64())
    }
}

/// Whether the answers have an explanation, for each thing that nobody knew of before.
///
/// # Errors
/// One violation for each thing without.
pub fn check(history: &[Exchange]) -> Result<(), Vec<Violation>> {
    let mut things: BTreeMap<&str, Vec<&Exchange>> = BTreeMap::new();
    for exchange in history {
        things.entry(&exchange.thing).or_default().push(exchange);
    }
    let violations: Vec<Violation> = things.into_values().filter_map(|exchanges| explain(&exchanges).err()).collect();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// A state that a thing may be in: whether it is there, and which of the exchanges under way have had their effect.
type Possible = (bool, BTreeSet<usize>);

fn explain(exchanges: &[&Exchange]) -> Result<(), Violation> {
    let mut moments = Vec::new();
    for (place, exchange) in exchanges.iter().enumerate() {
        moments.push((exchange.began, false, place));
        if !matches!(exchange.asked, Asked::Make(Outcome::Unknown) | Asked::Take(Outcome::Unknown)) {
            moments.push((exchange.ended, true, place));
        }
    }
    // Of two at one moment the beginning comes first: they may have been at once.
    moments.sort_unstable();
    let mut possible: BTreeSet<Possible> = BTreeSet::from([(false, BTreeSet::new())]);
    let (mut under_way, mut before) = (BTreeSet::new(), Vec::new());
    for (_, is_end, place) in moments {
        if !is_end {
            under_way.insert(place);
            continue;
        }
        possible = with_effects(possible, &under_way, exchanges);
        // Whatever is answered has had its effect by now.
        possible =
            possible.into_iter().filter_map(|(there, mut done)| done.remove(&place).then_some((there, done))).collect();
        under_way.remove(&place);
        if possible.is_empty() {
            let before = before.into_iter().map(|place: usize| exchanges[place].clone()).collect();
            return Err(Violation { exchange: exchanges[place].clone(), before });
        }
        before.push(place);
    }
    Ok(())
}

/// All that is possible when those under way may have their effects, in any order.
fn with_effects(
    possible: BTreeSet<Possible>,
    under_way: &BTreeSet<usize>,
    exchanges: &[&Exchange],
) -> BTreeSet<Possible> {
    let (mut all, mut new) = (possible.clone(), possible.into_iter().collect::<Vec<_>>());
    while let Some((there, done)) = new.pop() {
        for place in under_way.difference(&done) {
            let Some(there) = effect(exchanges[*place].asked, there) else { continue };
            let mut done = done.clone();
            done.insert(*place);
            if all.insert((there, done.clone())) {
                new.push((there, done));
            }
        }
    }
    all
}

/// Whether the thing is there behind it; `None` where it cannot have come to this answer.
fn effect(asked: Asked, there: bool) -> Option<bool> {
    match asked {
        Asked::Make(Outcome::Done) => (!there).then_some(true),
        Asked::Make(Outcome::Refused) => there.then_some(true),
        Asked::Make(Outcome::Unknown) => Some(true),
        Asked::Take(Outcome::Done) => there.then_some(false),
        Asked::Take(Outcome::Refused) => (!there).then_some(false),
        Asked::Take(Outcome::Unknown) => Some(false),
        Asked::Look(seen) => (seen == there).then_some(there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Asked::{Look, Make, Take};
    use Outcome::{Done, Refused, Unknown};

    /// A history of one thing: what was asked, from when to when, in seconds.
    fn history(exchanges: &[(Asked, u64, u64)]) -> Vec<Exchange> {
        let exchange = |&(asked, began, ended): &(Asked, u64, u64)| Exchange {
            thing: "group".to_owned(),
            client: "alice".to_owned(),
            asked,
            began: Duration::from_secs(began),
            ended: Duration::from_secs(ended),
        };
        exchanges.iter().map(exchange).collect()
    }

    /// Which exchange is found to be without an explanation.
    fn wrong(exchanges: &[(Asked, u64, u64)]) -> Option<Asked> {
        check(&history(exchanges)).err().map(|violations| violations[0].exchange.asked)
    }

    #[test]
    fn what_happened_one_after_the_other_is_explained() {
        assert_eq!(wrong(&[(Look(false), 0, 1), (Make(Done), 2, 3), (Look(true), 4, 5), (Take(Done), 6, 7)]), None);
        assert_eq!(
            wrong(&[(Make(Done), 0, 1), (Make(Refused), 2, 3), (Take(Done), 4, 5), (Take(Refused), 6, 7)]),
            None
        );
    }

    #[test]
    fn what_happens_at_once_may_be_seen_either_way() {
        for seen in [true, false] {
            assert_eq!(wrong(&[(Make(Done), 0, 5), (Look(seen), 1, 4)]), None);
        }
        // Once it was seen, it is there.
        assert_eq!(wrong(&[(Make(Done), 0, 9), (Look(true), 1, 2), (Look(false), 3, 4)]), Some(Look(false)));
        assert_eq!(wrong(&[(Make(Done), 0, 5), (Make(Refused), 1, 4)]), None);
        assert_eq!(wrong(&[(Make(Done), 0, 5), (Make(Done), 1, 4)]), Some(Make(Done)), "only one can have made it");
    }

    #[test]
    fn a_lost_write_is_found() {
        assert_eq!(wrong(&[(Make(Done), 0, 1), (Look(false), 2, 3)]), Some(Look(false)));
        assert_eq!(wrong(&[(Make(Done), 0, 1), (Take(Refused), 2, 3)]), Some(Take(Refused)));
        assert_eq!(wrong(&[(Make(Done), 0, 1), (Take(Done), 2, 3), (Look(true), 4, 5)]), Some(Look(true)));
    }

    #[test]
    fn a_change_that_was_applied_twice_is_found() {
        // Acknowledged once, taken away, and there again.
        let exchanges = [(Make(Done), 0, 1), (Take(Done), 2, 3), (Look(false), 4, 5), (Look(true), 6, 7)];
        assert_eq!(wrong(&exchanges), Some(Look(true)));
        // Or a retry that finds what its first try has made.
        assert_eq!(wrong(&[(Make(Refused), 0, 1)]), Some(Make(Refused)));
    }

    #[test]
    fn a_stale_read_is_found() {
        let exchanges = [(Make(Done), 0, 1), (Look(true), 2, 3), (Take(Done), 4, 5), (Look(true), 6, 7)];
        assert_eq!(wrong(&exchanges), Some(Look(true)));
    }

    #[test]
    fn who_got_no_answer_may_have_made_a_change_once_and_late_or_never() {
        for seen in [true, false] {
            assert_eq!(wrong(&[(Make(Unknown), 0, 1), (Look(seen), 2, 3)]), None);
        }
        let late = [(Make(Unknown), 0, 1), (Look(false), 2, 3), (Look(true), 4, 5), (Take(Done), 6, 7)];
        assert_eq!(wrong(&late), None);
        let again = [&late[..], &[(Look(true), 8, 9)]].concat();
        assert_eq!(wrong(&again), Some(Look(true)), "once");
    }

    #[test]
    fn things_are_looked_at_by_themselves() {
        let mut exchanges = history(&[(Make(Done), 0, 1), (Look(true), 2, 3)]);
        exchanges
            .extend(history(&[(Look(false), 2, 3)]).into_iter().map(|it| Exchange { thing: "other".into(), ..it }));
        assert_eq!(check(&exchanges), Ok(()));
    }
}
