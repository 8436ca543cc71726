//! Load hints: telling those who download from here how busy this node is, when that has changed markedly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_proto::name::UserName;
use p2p_proto::peer::{FromProvider, Load};

use super::input::{ConnectionId, ServedId};
use super::serving::Served;
use super::{Engine, Output, Timer};

/// Load is told this often at the most: a quarter of a second old, it is still worth more than its message.
const LOAD_GATHER_MS: u64 = 250;

impl Engine {
    /// Something that makes up the load has changed: it is told in a moment.
    pub(super) fn load_changed(&mut self) {
        let at = self.after(Duration::from_millis(LOAD_GATHER_MS));
        self.timers.set_if_unset(Timer::Load, at);
    }

    /// Tells the load to those who download from here, where it is markedly other than what they were told.
    pub(super) fn tell_load(&mut self) {
        let sharers = Sharers::of(&self.served);
        self.uploads.set_readers(sharers.nodes());
        let queued_requests = u32::try_from(self.uploads.waiting_count()).unwrap_or(u32::MAX);
        let loads = self.served.iter().map(|(served, entry)| {
            let active_peers = sharers.count_for(&entry.user);
            (*served, entry.told_load, Load { queued_requests, active_peers })
        });
        let news = loads.filter(|(_, told, load)| told.is_none_or(|told| differs_markedly(told, *load)));
        let news: Vec<(ServedId, Load)> = news.map(|(served, _, load)| (served, load)).collect();
        for (served, load) in news {
            self.outputs.push_back(Output::Provide(served, FromProvider::Load(load)));
            if let Some(entry) = self.served.get_mut(&served) {
                entry.told_load = Some(load);
            }
        }
    }
}

/// Who shares what this node sends: nodes by user.
struct Sharers<'a>(BTreeMap<&'a UserName, BTreeSet<ConnectionId>>);

impl Sharers<'_> {
    fn of(served: &BTreeMap<ServedId, Served>) -> Sharers<'_> {
        let mut nodes = BTreeMap::<&UserName, BTreeSet<ConnectionId>>::new();
        for served in served.values() {
            nodes.entry(&served.user).or_default().insert(served.connection);
        }
        Sharers(nodes)
    }

    /// How many nodes each user reads with.
    fn nodes(&self) -> BTreeMap<UserName, usize> {
        self.0.iter().map(|(user, connections)| ((*user).clone(), connections.len())).collect()
    }

    /// By how many nodes like one of this user's it is shared: users share alike, and the nodes of one user share that
    /// user's part.
    fn count_for(&self, user: &UserName) -> u32 {
        let own = self.0.get(user).map_or(1, BTreeSet::len);
        u32::try_from(self.0.len().saturating_mul(own)).unwrap_or(u32::MAX)
    }
}

/// Whether requests begin or cease to wait, or a quarter more or fewer nodes are served.
fn differs_markedly(told: Load, load: Load) -> bool {
    let quarter = told.active_peers / 4;
    (told.queued_requests == 0) != (load.queued_requests == 0)
        || told.active_peers.abs_diff(load.active_peers) > quarter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_share_alike_and_the_nodes_of_one_share_its_part() {
        let user = |name: &str| name.parse::<UserName>().expect("a good name");
        let connections = |numbers: std::ops::Range<u64>| numbers.map(ConnectionId).collect();
        let (one, ten) = (user("one"), user("ten"));
        let sharers = Sharers(BTreeMap::from([(&one, connections(0..1)), (&ten, connections(1..11))]));
        assert_eq!((sharers.count_for(&one), sharers.count_for(&ten)), (2, 20));
    }

    #[test]
    fn load_is_told_when_a_queue_begins_or_ends_and_when_a_quarter_more_nodes_are_served() {
        let load = |queued_requests, active_peers| Load { queued_requests, active_peers };
        assert!(differs_markedly(load(0, 4), load(1, 4)) && differs_markedly(load(9, 4), load(0, 4)));
        assert!(!differs_markedly(load(1, 4), load(900, 4)));
        assert!(!differs_markedly(load(0, 40), load(0, 50)) && differs_markedly(load(0, 40), load(0, 51)));
        assert!(differs_markedly(load(0, 0), load(0, 1)) && differs_markedly(load(0, 1), load(0, 0)));
    }
}
