//! A transfer: one content on its way to this node, and the peers that it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::geometry::{Geometry, PieceIndex};
use p2p_proto::have_map::{HaveMap, WireHaveMap};
use p2p_proto::id::{DownloadId, NodeId};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::peer::Load;
use p2p_proto::time::UnixMillis;

use super::input::{FetchId, InterestId};
use super::picker::Picker;
use super::rate::RateMeter;

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

/// One peer of a transfer.
#[derive(Debug, Default)]
pub(super) struct SwarmPeer {
    pub user: Option<UserName>,
    /// The open interest.
    pub interest: Option<InterestId>,
    /// What it said it has, before the number of pieces is known here.
    pub offer: Option<WireHaveMap>,
    /// What it has.
    pub have: Option<HaveMap>,
    /// Whether `have` is counted in the picker's rarity: leechers are, seeders are not.
    pub counted: bool,
    /// Bytes asked of it.
    pub outstanding_bytes: u64,
    /// Requests to it.
    pub outstanding: u32,
    pub rate: RateMeter,
    pub round_trip: Duration,
    pub load: Load,
    /// Pieces that were not what their digest says.
    pub corrupt_pieces: u32,
    /// When the last of them came, until it is asked again what it has.
    pub lied_at: Option<Duration>,
    /// Not asked before this moment: it refused, or its connection broke.
    pub not_before: Duration,
    /// It has nothing that is missing; until it tells of more, or a request to another peer fails.
    pub dry: bool,
}

/// Corrupt pieces after which a peer is no longer asked: one may be a bad cable, two are a habit.
const CORRUPT_PIECES_MAX: u32 = 2;

/// Requests to a peer whose speed is not known yet.
const WINDOW_FIRST: u32 = 4;

/// Most requests to one peer at once: 32 MiB of the smallest pieces, enough for 1 Gbit/s over a quarter of a second.
const WINDOW_MAX: u64 = 64;

impl Transfer {
    /// A transfer for a download, before anything is known of it.
    pub fn new(download: DownloadId, group: GroupName, born: Option<UnixMillis>) -> Transfer {
        Transfer {
            download,
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

    /// Whether no peer offers a single piece.
    pub fn is_lonely(&self) -> bool {
        let offers = |peer: &SwarmPeer| match (&peer.have, &peer.offer) {
            (Some(have), _) => !have.is_empty(),
            (None, offer) => offer.is_some(),
        };
        !self.peers.values().any(offers)
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
        if !have.is_full() {
            have.iter().for_each(|piece| pieces.picker.count(piece, true));
            peer.counted = true;
        }
        peer.have = Some(have);
        peer.dry = false;
        Some(())
    }

    /// Takes news of what a peer has; `None` where it does not fit the content.
    pub fn take_have(&mut self, node: NodeId, news: &[PieceIndex]) -> Option<()> {
        let peer = self.peers.get_mut(&node)?;
        let Some(pieces) = &mut self.pieces else { return peer.take_have_early(news) };
        let have = peer.have.as_mut()?;
        for piece in news {
            pieces.geometry.piece(piece.0)?;
            if have.insert(*piece) && peer.counted {
                pieces.picker.count(*piece, true);
            }
        }
        peer.dry = false;
        Some(())
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
        peer.lied_at = None;
        peer.offer = None;
        peer.have = None;
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
        pieces.picker.invariant()
    }
}

impl SwarmPeer {
    /// Whether it may be asked for pieces now.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.have.is_some()
            && !self.dry
            && !self.is_banned()
            && self.not_before <= now
            && self.outstanding < self.window(now)
    }

    /// Whether it has lied too often.
    pub fn is_banned(&self) -> bool {
        self.corrupt_pieces >= CORRUPT_PIECES_MAX
    }

    /// Bytes per second it delivers, if that is known.
    pub fn delivery_rate(&self, now: Duration) -> Option<u64> {
        Some(self.rate.bytes_per_second(now)).filter(|rate| *rate > 0)
    }

    /// When a request of `bytes` made now would be answered, by what it delivers and what it owes. A peer of unknown
    /// speed is tried first, and least if its own word is that others wait there.
    pub fn expected_delivery(&self, bytes: u64, now: Duration) -> Duration {
        match self.delivery_rate(now) {
            Some(rate) => seconds(self.outstanding_bytes.saturating_add(bytes), rate),
            None => Duration::from_micros(u64::from(self.load.queued_requests).saturating_mul(1000)),
        }
    }

    /// Requests it may have at once: what flows in one round trip (its bandwidth-delay product), and two more so that
    /// it never waits for the next.
    fn window(&self, now: Duration) -> u32 {
        let Some(rate) = self.delivery_rate(now) else { return WINDOW_FIRST };
        let in_flight_bytes = u128::from(rate) * self.round_trip.as_micros() / 1_000_000;
        let pieces = in_flight_bytes / u128::from(p2p_proto::limit::PIECE_BYTES_MIN) + 3;
        u32::try_from(pieces.min(u128::from(WINDOW_MAX))).unwrap_or(WINDOW_FIRST)
    }

    /// What it sent as this piece is not it: to be asked for elsewhere, while its other pieces may be good.
    pub fn lacks(&mut self, piece: PieceIndex, picker: &mut Picker, now: Duration) {
        self.lied_at = Some(now);
        if let Some(have) = &mut self.have
            && have.remove(piece)
            && self.counted
        {
            picker.count(piece, false);
        }
    }

    /// Takes what it has out of the picker's rarity.
    fn uncount(&mut self, picker: &mut Picker) {
        if std::mem::take(&mut self.counted)
            && let Some(have) = &self.have
        {
            have.iter().for_each(|piece| picker.count(piece, false));
        }
    }

    /// News before the number of pieces is known: kept in the offer, which is asked for again if there is none.
    fn take_have_early(&mut self, news: &[PieceIndex]) -> Option<()> {
        match self.offer.as_mut()? {
            WireHaveMap::All => Some(()),
            WireHaveMap::Bits(bits) => {
                for piece in news {
                    *bits.get_mut(piece.as_usize() / 8)? |= 0x80 >> (piece.0 % 8);
                }
                Some(())
            }
        }
    }
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
