//! A transfer: one content on its way to this node, and the peers that it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::geometry::{Geometry, PieceIndex};
use p2p_proto::have_map::{HaveMap, WireHaveMap};
use p2p_proto::id::{DownloadId, NodeId};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::time::UnixMillis;

use super::input::FetchId;
use super::picker::Picker;
use super::queue_hint::ToldQueue;
use super::rate::RateMeter;
use super::swarm_peer::SwarmPeer;

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store looks for what is here already.
    Opening,
    /// The manifest is not here: some provider has to send it.
    Manifest(Option<FetchId>),
    /// Pieces come in.
    Fetching,
    /// All pieces are on disk; the file is put into its place.
    Finishing,
}

/// One content being downloaded.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The download it is for.
    pub download: DownloadId,
    /// This node, as its rivals know it.
    own: NodeId,
    /// Through which group.
    pub group: GroupName,
    /// When that was born, if that is known: no other group of its name will do.
    pub born: Option<UnixMillis>,
    pub phase: Phase,
    /// Known from [`Phase::Fetching`] on.
    pub pieces: Option<Pieces>,
    /// Who is said to have some of it.
    pub peers: BTreeMap<NodeId, SwarmPeer>,
    pub rate: RateMeter,
    /// When something last came in.
    pub last_arrival: Option<Duration>,
    /// Verified and not told to those who download it from here yet.
    pub fresh: Vec<PieceIndex>,
    /// The seeder that was online last, as the tracker remembers.
    pub last_seeder: Option<(UserName, UnixMillis)>,
    /// Whether the group lists the content no longer: nobody new is told to have it.
    pub unlisted: bool,
    /// Stopped because too much is asked for over all transfers: goes on when something comes in.
    pub starved: bool,
}

/// The pieces of a content whose manifest is known.
#[derive(Debug)]
pub(super) struct Pieces {
    pub geometry: Geometry,
    pub picker: Picker,
}

impl Transfer {
    /// A transfer for a download, before anything is known of it.
    pub fn new(download: DownloadId, group: GroupName, born: Option<UnixMillis>, own: NodeId) -> Transfer {
        Transfer {
            download,
            own,
            group,
            born,
            phase: Phase::Opening,
            pieces: None,
            peers: BTreeMap::new(),
            rate: RateMeter::default(),
            last_arrival: None,
            fresh: Vec::new(),
            last_seeder: None,
            unlisted: false,
            starved: false,
        }
    }

    /// Whether it goes through the group of that name that was born then.
    pub fn is_of(&self, group: &GroupName, born: UnixMillis) -> bool {
        self.group == *group && self.born == Some(born)
    }

    /// Bytes verified and here.
    pub fn have_bytes(&self) -> u64 {
        let Some(Pieces { geometry, picker }) = &self.pieces else { return 0 };
        let have = picker.have();
        let full = u64::from(have.len()) * geometry.piece_length();
        let last = geometry.pieces().next_back().filter(|last| have.contains(*last));
        full - last.map_or(0, |last| geometry.piece_length() - geometry.piece_bytes(last))
    }

    /// Whether no peer offers anything that is missing here.
    pub fn is_lonely(&self) -> bool {
        let complete = self.pieces.as_ref().is_some_and(|pieces| pieces.picker.pieces_left() == 0);
        !complete && !self.peers.values().any(SwarmPeer::offers_something)
    }

    /// Takes what a peer says it has; `None` where it does not fit the content.
    pub fn take_have_map(&mut self, node: NodeId, wire: WireHaveMap) -> Option<()> {
        let peer = self.peers.get_mut(&node)?;
        let Some(pieces) = &mut self.pieces else {
            peer.offer = Some(wire);
            return Some(());
        };
        let have = HaveMap::from_wire(&wire, pieces.geometry.piece_count()).ok()?;
        peer.uncount(&mut pieces.picker);
        peer.useful = useful(&have, &pieces.picker);
        let leeches = !have.is_full();
        peer.have = Some(have);
        if leeches {
            peer.count(&mut pieces.picker);
        }
        peer.dry = false;
        self.find_rivals();
        Some(())
    }

    /// Takes news of what a peer has; `None` where it does not fit the content.
    pub fn take_have(&mut self, node: NodeId, news: &[PieceIndex]) -> Option<()> {
        let peer = self.peers.get_mut(&node)?;
        let Some(pieces) = &mut self.pieces else { return peer.take_have_early(news) };
        let have = peer.have.as_mut()?;
        for piece in news {
            pieces.geometry.piece(piece.0)?;
            if have.insert(*piece) {
                peer.useful += u32::from(pieces.picker.lacks(*piece));
                if peer.counted {
                    pieces.picker.count(*piece, true);
                }
            }
        }
        peer.dry = false;
        if have.is_full() {
            self.find_rivals();
        }
        Some(())
    }

    /// A piece is here: nobody's offer of it is of use any more.
    pub fn piece_here(&mut self, piece: PieceIndex) {
        self.fresh.push(piece);
        for peer in self.peers.values_mut() {
            if peer.have.as_ref().is_some_and(|have| have.contains(piece)) {
                peer.useful = peer.useful.saturating_sub(1);
            }
        }
    }

    /// The pieces are known now: what peers said before counts from here on.
    pub fn take_pieces(&mut self, pieces: Pieces) {
        self.pieces = Some(pieces);
        self.phase = Phase::Fetching;
        let offers: Vec<_> =
            self.peers.iter_mut().filter_map(|(node, peer)| Some((*node, peer.offer.take()?))).collect();
        for (node, offer) in offers {
            // One that does not fit is a peer with nothing to offer.
            let _ = self.take_have_map(node, offer);
        }
    }

    /// A peer's interest is gone: what it had no longer counts.
    pub fn forget_offer(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(pieces) = &mut self.pieces {
            peer.uncount(&mut pieces.picker);
        }
        peer.interest = None;
        peer.queue = ToldQueue::default();
        peer.lied_at = None;
        peer.offer = None;
        peer.have = None;
        peer.useful = 0;
        self.find_rivals();
    }

    /// What a peer has that long sends nothing counts as if nobody had it, and it takes no turns, until it delivers again.
    pub fn weigh_offers(&mut self, now: Duration) {
        let Some(pieces) = &mut self.pieces else { return };
        let mut changed = false;
        for peer in self.peers.values_mut() {
            let Some(have) = &peer.have else { continue };
            let counts = !have.is_full() && peer.unanswered == 0 && !peer.is_silent(now);
            changed |= counts != peer.counted;
            match (peer.counted, counts) {
                (false, true) => peer.count(&mut pieces.picker),
                (true, false) => peer.uncount(&mut pieces.picker),
                _ => (),
            }
        }
        if changed {
            self.find_rivals();
        }
    }

    /// Tells the picker which peers download this content too.
    fn find_rivals(&mut self) {
        let Some(pieces) = &mut self.pieces else { return };
        let leechers = self.peers.iter().filter(|(_, peer)| peer.counted && !peer.is_complete());
        pieces.picker.set_rivals(lot(self.own), leechers.map(|(node, _)| lot(*node)).collect());
    }

    /// Something that other peers may bring is free again.
    pub fn moisten(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.dry = false);
    }

    /// What must hold after every step; says what does not.
    pub fn invariant(&self) -> Result<(), String> {
        let Some(pieces) = &self.pieces else { return Ok(()) };
        if matches!(self.phase, Phase::Manifest(_)) {
            return Err("pieces are known before the manifest".to_owned());
        }
        if self.phase == Phase::Finishing && !pieces.picker.is_complete() {
            return Err("finishing with pieces missing".to_owned());
        }
        for (node, peer) in &self.peers {
            let expected = peer.have.as_ref().map_or(0, |have| useful(have, &pieces.picker));
            if peer.useful != expected {
                let (useful, short) = (peer.useful, node.short());
                return Err(format!("node {short} offers {expected} missing pieces, {useful} are counted"));
            }
        }
        pieces.picker.invariant()
    }
}

/// How many pieces that are not here a have-map offers.
pub(super) fn useful(have: &HaveMap, picker: &Picker) -> u32 {
    let count = have.iter().filter(|piece| picker.lacks(*piece)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The number that stands for a node where leechers draw lots.
pub(super) fn lot(node: NodeId) -> u64 {
    node.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The time that `bytes` take at `rate` bytes per second.
pub(super) fn seconds(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A refusal of a peer that is not to be believed again.
pub(super) fn banned(node: NodeId) -> String {
    format!("node {} sent pieces that are not what their digests say and is no longer asked", node.short())
}
