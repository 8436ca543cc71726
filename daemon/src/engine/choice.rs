//! The choice: which piece is asked of which peer next, and which a second peer is asked for.
//!
//! First what this node stands first for among those who download the same: a seeder sends such a piece once, and they
//! bring it to each other. Then the peer that is expected to deliver soonest, for the rarest piece that it has. No more
//! is asked for than keeps the providers busy, so that each choice is made as late as it can be.

use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, NodeId};

use super::Engine;
use super::picker::{PieceState, draw};
use super::scheduler::{Fetch, Fetched};
use super::swarm_peer::{SILENT_MS, SwarmPeer};
use super::transfer::{Phase, Pieces, Transfer, lot, seconds};

/// A second request is made only where it saves at least this much: less is noise.
const HEDGE_GAIN_MS_MIN: u64 = 200;

/// Seeders are spared no longer than this after the last piece came from anywhere.
const SPARE_MS: u64 = 1_000;

/// Pieces that may be asked for, whatever the providers say of themselves.
const ASKED_PIECES_MIN: u64 = 4;

/// How much may be asked for over all peers of a transfer.
struct Room {
    /// Whether anything more may be.
    any: bool,
    /// Whether a peer that has delivered nothing yet may be asked.
    of_unknown: bool,
}

impl Engine {
    /// The next request of a content.
    pub(super) fn choose(&mut self, content: ContentId) -> Option<(NodeId, PieceIndex)> {
        let now = self.now.monotonic;
        let budget = self.config.limits.fetch_bytes_max;
        let transfer = self.transfers.get_mut(&content).filter(|transfer| transfer.phase == Phase::Fetching)?;
        let piece_length = transfer.pieces.as_ref()?.geometry.piece_length();
        // One piece is always allowed, or a piece larger than the whole budget would never come.
        if self.fetch_bytes > 0 && self.fetch_bytes.saturating_add(piece_length) > budget {
            transfer.starved = true;
            return None;
        }
        let room = room(transfer, piece_length, budget, now);
        if !room.any {
            return None;
        }
        let spare_seeders = spares_seeders(transfer, now);
        let left = time_left(transfer, piece_length, now);
        let Pieces { picker, .. } = transfer.pieces.as_mut()?;
        if picker.all_requested() {
            return self.choose_hedge(content);
        }
        let seed = self.random.u64(..);
        let order =
            |node: &NodeId, peer: &SwarmPeer| (peer.expected_delivery(piece_length, now), draw(seed, lot(*node)));
        let may_be_asked =
            |peer: &SwarmPeer| peer.is_ready(now) && (room.of_unknown || peer.pace.bytes_per_second(now).is_some());

        let seeders = transfer.peers.iter().filter(|(_, peer)| peer.is_complete() && may_be_asked(peer));
        let in_turn = seeders.filter_map(|(node, peer)| Some((node, peer, picker.next_in_turn(peer.have.as_ref()?)?)));
        if let Some((node, _, piece)) = in_turn.min_by_key(|(node, peer, _)| order(node, peer)) {
            return Some((*node, piece));
        }

        let mut passed_over = Vec::new();
        loop {
            let ready = transfer.peers.iter_mut().filter(|(node, peer)| {
                may_be_asked(peer) && !(spare_seeders && peer.is_complete()) && !passed_over.contains(*node)
            });
            let (node, peer) = ready.min_by_key(|(node, peer)| order(node, peer))?;
            let (node, have) = (*node, peer.have.as_ref()?);
            let Some(piece) = picker.next(have) else {
                peer.dry = true;
                continue;
            };
            let takes = peer.delivery_time(piece_length, now);
            let others = transfer.peers.iter().filter(|(other, _)| **other != node);
            let others: Vec<&SwarmPeer> = others.map(|(_, other)| other).collect();
            if takes.is_some_and(|takes| takes > left && bring_sooner(&others, piece, takes, piece_length, now)) {
                passed_over.push(node);
                continue;
            }
            return Some((node, piece));
        }
    }

    /// A piece that an idle peer would bring much sooner than the one that owes it.
    fn choose_hedge(&self, content: ContentId) -> Option<(NodeId, PieceIndex)> {
        let now = self.now.monotonic;
        let transfer = self.transfers.get(&content)?;
        let Pieces { geometry, picker } = transfer.pieces.as_ref()?;
        // Nobody that has left a request unanswered: a piece would go round among such peers and never be free for others.
        let idle = transfer
            .peers
            .iter()
            .filter(|(_, peer)| peer.outstanding == 0 && peer.unanswered == 0 && peer.is_usable(now));
        let mut idle: Vec<(Duration, NodeId, &SwarmPeer)> = idle
            .map(|(node, peer)| {
                let own = peer.delivery_time(geometry.piece_length(), now);
                let own = own.unwrap_or(Duration::from_millis(SILENT_MS));
                (own.max(peer.told_time(geometry.piece_length(), now).unwrap_or_default()), *node, peer)
            })
            .collect();
        idle.sort_unstable_by_key(|(own, node, _)| (*own, *node));
        for (own, node, peer) in idle {
            let own = own + peer.round_trip + Duration::from_millis(HEDGE_GAIN_MS_MIN);
            let owed = self.fetches.values().filter(|fetch| fetch.content == content && fetch.node != node);
            let late = owed.filter_map(|fetch| {
                let Fetched::Piece(piece) = fetch.what else { return None };
                let offers = peer.have.as_ref().is_some_and(|have| have.contains(piece));
                let single = picker.state(piece) == PieceState::Requested(1);
                let remaining = self.expected_remaining(fetch);
                (offers && single && remaining > own.saturating_mul(2)).then_some((remaining, piece))
            });
            if let Some((_, piece)) = late.max() {
                return Some((node, piece));
            }
        }
        None
    }

    /// How long a fetch is expected to take still: of a peer that has delivered nothing, what it has told, as long as that
    /// may be so, or else as long as it has taken.
    fn expected_remaining(&self, fetch: &Fetch) -> Duration {
        let now = self.now.monotonic;
        let peer = self.transfers.get(&fetch.content).and_then(|transfer| transfer.peers.get(&fetch.node));
        let known = peer.and_then(|peer| peer.delivery_time(0, now));
        let told = || peer.filter(|peer| peer.has_said_why(now))?.told_time(0, now);
        known.or_else(told).unwrap_or_else(|| now.saturating_sub(fetch.started))
    }
}

/// How much more may be asked for: what is on its way over a round trip, and at every provider this node's part of what
/// is to wait there. What silent peers owe does not count, so that they cannot use it up.
fn room(transfer: &Transfer, piece_length: u64, budget: u64, now: Duration) -> Room {
    let (mut asked, mut unknown_bytes, mut share_milli, mut round_trip) = (0, 0, 0, Duration::ZERO);
    for peer in transfer.peers.values().filter(|peer| peer.have.is_some()) {
        share_milli += peer.queue_share_milli();
        round_trip = round_trip.max(peer.round_trip);
        match peer.pace.bytes_per_second(now) {
            None => unknown_bytes += peer.outstanding_bytes,
            Some(_) if peer.is_silent(now) => (),
            Some(_) => asked += u64::from(peer.outstanding),
        }
    }
    let on_its_way = u128::from(transfer.rate.bytes_per_second(now)) * round_trip.as_micros() / 1_000_000;
    let on_its_way = u64::try_from(on_its_way).unwrap_or(u64::MAX) / piece_length;
    Room {
        any: asked < (share_milli / 1000).max(ASKED_PIECES_MIN).saturating_add(on_its_way),
        // Peers that never answer must leave room for those that do.
        of_unknown: unknown_bytes == 0 || unknown_bytes.saturating_add(piece_length) <= budget / 2,
    }
}

/// Whether seeders are left to those whose turn it is: while they have more to do than they can, have pieces that nobody
/// else has, and this node gets others meanwhile.
fn spares_seeders(transfer: &Transfer, now: Duration) -> bool {
    let comes = transfer.last_arrival.is_some_and(|at| now < at + Duration::from_millis(SPARE_MS));
    let shared_out = transfer.pieces.as_ref().is_some_and(|pieces| pieces.picker.shares_out());
    let busy = |peer: &SwarmPeer| peer.is_complete() && peer.load.queued_requests > 0;
    comes && shared_out && transfer.peers.values().any(busy)
}

/// How long all that is missing takes at the rate at which things come.
fn time_left(transfer: &Transfer, piece_length: u64, now: Duration) -> Duration {
    let left = transfer.pieces.as_ref().map_or(0, |pieces| pieces.picker.pieces_left());
    match transfer.rate.bytes_per_second(now) {
        0 => Duration::MAX,
        rate => seconds(u64::from(left) * piece_length, rate),
    }
}

/// Whether one of these peers, once it has brought what it owes, would bring a piece in half of `takes`.
fn bring_sooner(others: &[&SwarmPeer], piece: PieceIndex, takes: Duration, piece_length: u64, now: Duration) -> bool {
    let offers =
        |peer: &&&SwarmPeer| peer.is_usable(now) && peer.have.as_ref().is_some_and(|have| have.contains(piece));
    let times = others.iter().filter(offers).filter_map(|peer| peer.delivery_time(piece_length, now));
    times.min().is_some_and(|time| time < takes / 2)
}
