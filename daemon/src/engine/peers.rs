//! Peers: at most one connection to each node, dialled when a transfer needs it and closed when nothing does.

use std::net::SocketAddr;
use std::time::Duration;

use p2p_proto::id::NodeId;
use p2p_proto::limit::NODE_ADDRESSES_MAX;
use p2p_proto::peer::close_code;

use super::input::ConnectionId;
use super::{Engine, Output, Timer};

/// First pause after a failed dial; doubled each time up to [`REDIAL_MS_MAX`].
const REDIAL_MS_MIN: u64 = 1_000;

/// Longest pause between dials of a node that has never answered there: a victim whose address somebody announced is not
/// flooded.
const REDIAL_MS_MAX: u64 = 60_000;

/// Longest pause where the node has answered before. A dial sends something every three seconds at least, so a link that
/// is back is noticed within five.
const REDIAL_KNOWN_MS_MAX: u64 = 2_000;

/// Longest pause where somebody is there who has no room at present: the five dials that [`crate::net`] makes within a minute
/// at an address that refuses lie in its first quarter, and who has shown to be the node is tried again soon.
const REDIAL_BUSY_MS_MAX: u64 = 8_000;

/// Longest pause where connections end because others need the place: a fleet that is too large for its provider would make
/// one a second each.
const REDIAL_PUT_OUT_MS_MAX: u64 = 30_000;

/// Failed dials in a row after which a node is left alone until a tracker names it again.
const FAILURES_MAX: u32 = 4;

/// Dials of one node at once: one to where it was, one to where it is said to be now.
const DIALS_MAX: u32 = 2;

/// Two connections made within this time may have been dialled at once, one by each end: a handshake and a Hello. When one
/// is dialled later, whoever dialled has lost the older.
const SIMULTANEOUS_MS: u64 = 15_000;

/// How long a connection that nothing uses is kept for what may come next.
const IDLE_MS: u64 = 120_000;

/// A connection in use.
#[derive(Debug, Clone, Copy)]
struct Link {
    connection: ConnectionId,
    dialled: bool,
    instance: u64,
    since: Duration,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Where trackers say that it is; newest word last.
    addresses: Vec<SocketAddr>,
    link: Option<Link>,
    /// Dials under way.
    dials: u32,
    failures: u32,
    /// Whether it has answered at one of these addresses.
    answered: bool,
    /// Whether whoever answered last had no room.
    busy: bool,
    /// Connections in a row that it ended soon because others needed the place.
    put_out: u32,
}

impl Peer {
    /// The connection to it.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.link.map(|link| link.connection)
    }

    /// Whether it is said to be online and did not answer when it was dialled last.
    pub fn is_unreachable(&self) -> bool {
        self.link.is_none() && self.failures > 0
    }

    /// How long to wait before the next dial.
    fn redial_pause(&self) -> Duration {
        let longest = match (self.answered, self.busy) {
            (true, _) => REDIAL_KNOWN_MS_MAX,
            (false, true) => REDIAL_BUSY_MS_MAX,
            (false, false) => REDIAL_MS_MAX,
        };
        let failed = doubled(self.failures).min(longest);
        Duration::from_millis(failed.max(doubled(self.put_out).min(REDIAL_PUT_OUT_MS_MAX)))
    }
}

/// The pause after so many failures in a row, in milliseconds.
fn doubled(failures: u32) -> u64 {
    REDIAL_MS_MIN << failures.saturating_sub(1).min(10)
}

impl Engine {
    /// Remembers where a node is said to be. False if there is no room for another node.
    pub(super) fn learn_peer(&mut self, node: NodeId, addresses: Vec<SocketAddr>) -> bool {
        if node == self.config.node {
            return false;
        }
        if !self.peers.contains_key(&node) && self.peers.len() >= self.config.limits.peers_max {
            self.forget_unused_peers();
            if self.peers.len() >= self.config.limits.peers_max {
                return false;
            }
        }
        let peer = self.peers.entry(node).or_default();
        if !addresses.is_empty() && peer.addresses != addresses {
            let known = !peer.addresses.is_empty();
            let moved = known && !addresses.iter().any(|address| peer.addresses.contains(address));
            peer.addresses = addresses;
            peer.addresses.truncate(NODE_ADDRESSES_MAX);
            peer.answered &= !moved;
            peer.busy = false;
            // What failed was another place.
            peer.failures = 0;
            self.timers.clear(&Timer::Dial(node));
            if moved {
                // What leads to where it was, connected or still dialled, is kept until the new place has answered.
                self.dial(node);
            }
        }
        true
    }

    /// Connects to a node that a transfer needs, unless that is done, under way, or to be tried again later.
    pub(super) fn connect(&mut self, node: NodeId) {
        if self.peers.get(&node).is_some_and(|peer| peer.link.is_none() && peer.dials == 0) {
            self.dial(node);
        }
    }

    /// Dials a node that a transfer needs, whatever connects to it already.
    fn dial(&mut self, node: NodeId) {
        let needed = self.transfers.values().any(|transfer| transfer.peers.contains_key(&node));
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if needed && peer.dials < DIALS_MAX && !peer.addresses.is_empty() {
            peer.dials += 1;
            self.outputs.push_back(Output::Dial(node, peer.addresses.clone()));
        }
    }

    /// Connects, but not before the pause after the last failure is over.
    pub(super) fn connect_in_time(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get(&node) else { return };
        if peer.failures == 0 {
            self.connect(node);
        } else {
            let at = self.after(peer.redial_pause());
            self.timers.set_if_unset(Timer::Dial(node), at);
        }
    }

    pub(super) fn peer_connected(&mut self, connection: ConnectionId, node: NodeId, dialled: bool, instance: u64) {
        if !self.learn_peer(node, Vec::new()) {
            self.outputs.push_back(Output::Close(connection, close_code::BUSY));
            return;
        }
        let own = self.config.node;
        let since = self.now.monotonic;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let link = Link { connection, dialled, instance, since };
        peer.failures = 0;
        if dialled {
            peer.dials = peer.dials.saturating_sub(1);
            peer.answered = true;
        }
        if let Some(old) = peer.link {
            if prefers_old(own, node, old, link) {
                self.outputs.push_back(Output::Close(connection, close_code::DUPLICATE));
                return;
            }
            self.outputs.push_back(Output::Close(old.connection, close_code::DUPLICATE));
            self.drop_connection(old.connection);
            self.forgive(node);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.link = Some(link);
        }
        self.connections.insert(connection, node);
        self.timers.clear(&Timer::Dial(node));
        let at = self.after(Duration::from_millis(IDLE_MS));
        self.timers.set(Timer::Idle(node), at);
        self.review_peer(node);
    }

    pub(super) fn peer_lost(&mut self, connection: ConnectionId, busy: bool) {
        let now = self.now.monotonic;
        let link = self.connections.get(&connection).and_then(|node| self.peers.get(node)?.link);
        let Some(node) = self.drop_connection(connection) else { return };
        // It may have moved: a tracker knows before the old place has failed to answer.
        self.look_up_for(node);
        if let Some(peer) = self.peers.get_mut(&node) {
            let held = link.map_or(Duration::ZERO, |link| now.saturating_sub(link.since));
            peer.put_out = match busy {
                true if held < Duration::from_millis(REDIAL_PUT_OUT_MS_MAX) => peer.put_out.saturating_add(1),
                _ => u32::from(busy),
            };
            // A lost connection is found again soon, but not in a busy loop.
            peer.failures = peer.failures.max(1);
            if peer.addresses.is_empty() {
                return self.give_up(node);
            }
        }
        self.connect_in_time(node);
    }

    pub(super) fn dial_failed(&mut self, node: NodeId, busy: bool) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.dials = peer.dials.saturating_sub(1);
        if peer.link.is_none() && peer.dials == 0 {
            peer.busy = busy;
            if !busy {
                peer.put_out = 0;
            }
            peer.failures = peer.failures.saturating_add(1);
            // Who has no room is there.
            if peer.failures >= FAILURES_MAX && !busy {
                self.look_up_for(node);
                self.give_up(node);
            } else {
                self.connect_in_time(node);
            }
        }
    }

    /// Closes a connection that neither side uses; looks again later otherwise.
    pub(super) fn close_if_idle(&mut self, node: NodeId) {
        let Some(connection) = self.peers.get(&node).and_then(Peer::connection) else { return };
        let downloads = self.transfers.values().any(|transfer| transfer.peers.contains_key(&node));
        let serves = self.served.values().any(|served| served.connection == connection);
        if downloads || serves {
            let at = self.after(Duration::from_millis(IDLE_MS));
            self.timers.set(Timer::Idle(node), at);
        } else {
            self.outputs.push_back(Output::Close(connection, close_code::DONE));
            self.drop_connection(connection);
        }
    }

    /// Forgets a connection and all that was on it; what the shell still tells of it is passed over.
    fn drop_connection(&mut self, connection: ConnectionId) -> Option<NodeId> {
        let node = self.connections.remove(&connection)?;
        self.timers.clear(&Timer::Idle(node));
        self.drop_served_of(connection);
        self.drop_interests_of(node);
        self.drop_fetches_of(connection);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.link = None;
        }
        Some(node)
    }

    /// Makes room: nodes that are not connected and that no transfer needs.
    fn forget_unused_peers(&mut self) {
        let transfers = &self.transfers;
        let used = |node: &NodeId| transfers.values().any(|transfer| transfer.peers.contains_key(node));
        self.peers.retain(|node, peer| peer.link.is_some() || peer.dials > 0 || used(node));
    }
}

/// Of two connections between the same nodes, both ends keep the same one: that of the other's newer life, then, of two made
/// at the same time, the one dialled by the lower node id, then the newer.
fn prefers_old(own: NodeId, node: NodeId, old: Link, new: Link) -> bool {
    let dialler = |link: Link| if link.dialled { own } else { node };
    let at_once = new.since.saturating_sub(old.since) <= Duration::from_millis(SIMULTANEOUS_MS);
    old.instance == new.instance && at_once && dialler(old) < dialler(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(connection: u64, dialled: bool, instance: u64) -> Link {
        Link { connection: ConnectionId(connection), dialled, instance, since: Duration::from_secs(connection) }
    }

    #[test]
    fn both_ends_keep_the_same_of_two_connections() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        // `low` dialled connection 1, `high` dialled connection 2; each end may see either first.
        let at_low = |old, new| prefers_old(low, high, old, new);
        let at_high = |old, new| prefers_old(high, low, old, new);
        assert!(at_low(link(1, true, 7), link(2, false, 7)));
        assert!(!at_low(link(2, false, 7), link(1, true, 7)));
        assert!(at_high(link(1, false, 7), link(2, true, 7)));
        assert!(!at_high(link(2, true, 7), link(1, false, 7)));
    }

    #[test]
    fn a_connection_of_a_newer_life_replaces_the_old() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(!prefers_old(low, high, link(1, true, 7), link(2, false, 8)));
    }

    #[test]
    fn who_dials_long_after_has_lost_the_old_connection() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(!prefers_old(low, high, link(1, true, 7), link(100, false, 7)));
        assert!(!prefers_old(high, low, link(1, false, 7), link(100, true, 7)));
    }

    #[test]
    fn pauses_between_dials_double_up_to_a_minute_or_to_seconds_where_somebody_is() {
        let pause =
            |failures, answered, busy| Peer { failures, answered, busy, ..Peer::default() }.redial_pause().as_secs();
        assert_eq!([1, 3, u32::MAX].map(|failures| pause(failures, false, false)), [1, 4, 60]);
        assert_eq!([1, 3, u32::MAX].map(|failures| pause(failures, false, true)), [1, 4, 8]);
        assert_eq!([1, 3, u32::MAX].map(|failures| pause(failures, true, true)), [1, 2, 2]);
        let put_out =
            |put_out| Peer { failures: 1, answered: true, put_out, ..Peer::default() }.redial_pause().as_secs();
        assert_eq!([0, 1, 2, 4, u32::MAX].map(put_out), [1, 1, 2, 8, 30], "who has no room for us is spared");
    }
}
