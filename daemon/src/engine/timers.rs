//! Deadlines: at most one moment for each thing that waits, found in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is due, each of kind `K` at most once. Setting, clearing and taking cost log n.
#[derive(Debug)]
pub struct Timers<K> {
    by_key: BTreeMap<K, Duration>,
    by_time: BTreeSet<(Duration, K)>,
}

impl<K> Default for Timers<K> {
    /// Nothing is due.
    fn default() -> Timers<K> {
        Timers { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Makes `key` due at `at`, in place of any earlier setting.
    pub fn set(&mut self, key: K, at: Duration) {
        self.clear(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// Makes `key` due at `at` unless it is due already, whenever that is.
    pub fn set_if_unset(&mut self, key: K, at: Duration) {
        if !self.by_key.contains_key(&key) {
            self.set(key, at);
        }
    }

    /// Makes `key` not due.
    pub fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// When the next thing is due.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next thing that is due at `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<K> {
        let (at, key) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let key = key.clone();
        self.clear(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_again_is_due_once_at_the_later_setting() {
        let mut timers = Timers::default();
        let at = Duration::from_millis;
        timers.set('a', at(5));
        timers.set('b', at(3));
        timers.set('a', at(1));
        timers.set_if_unset('b', at(0));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take_due(at(2)), Some('a'));
        assert_eq!(timers.take_due(at(2)), None);
        assert_eq!(timers.take_due(at(9)), Some('b'));
        assert_eq!((timers.take_due(at(9)), timers.next()), (None, None));
    }
}
