//! One peer of a transfer: what it has, how fast it delivers, and how much may be asked of it.

use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::{HaveMap, WireHaveMap};
use p2p_proto::name::UserName;
use p2p_proto::peer::Load;

use super::input::InterestId;
use super::pace::Pace;
use super::picker::Picker;
use super::queue_hint::ToldQueue;
use super::swarm::REST_MS;
use super::transfer::seconds;

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
    /// How many pieces of `have` are not here.
    pub useful: u32,
    /// Whether `have` is counted in the picker's rarity: leechers are, seeders are not.
    pub counted: bool,
    /// Bytes asked of it.
    pub outstanding_bytes: u64,
    /// Requests to it.
    pub outstanding: u32,
    pub pace: Pace,
    pub round_trip: Duration,
    pub load: Load,
    /// How it said that what is asked of it fares.
    pub queue: ToldQueue,
    /// Requests in a row of which nothing came.
    pub unanswered: u32,
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

/// Pieces that all nodes together keep waiting at one provider, as far as each can tell: enough that it always has one
/// to send, few enough that what is asked is soon sent.
const QUEUE_PIECES: u32 = 12;

/// Requests to a peer whose speed is not known yet.
const WINDOW_FIRST: u32 = 4;

/// Requests to a peer beyond what is on its way: it never waits for the next.
const WINDOW_SPARE: u32 = 3;

/// Most requests to one peer at once: 32 MiB of the smallest pieces, enough for 1 Gbit/s over a quarter of a second.
const WINDOW_MAX: u64 = 64;

/// How often the rest of a peer is doubled that leaves one request after the other unanswered: up to eight seconds, so that
/// one whose link is back is asked again within fifteen.
const REST_DOUBLINGS_MAX: u32 = 3;

/// A peer of which nothing has come for this long, and for so many times as long as it should take, is silent.
pub(super) const SILENT_MS: u64 = 2_000;
const SILENT_TIMES: u32 = 4;

impl SwarmPeer {
    /// Whether it may be asked for pieces now.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.useful > 0 && !self.dry && self.is_usable(now) && self.outstanding < self.window(now)
    }

    /// Whether it has something, and no reason speaks against asking for it.
    pub fn is_usable(&self, now: Duration) -> bool {
        self.have.is_some() && !self.is_banned() && self.not_before <= now && !self.is_silent(now)
    }

    /// Whether it has lied too often.
    pub fn is_banned(&self) -> bool {
        self.corrupt_pieces >= CORRUPT_PIECES_MAX
    }

    /// Whether it has, or may have, anything that is missing here.
    pub fn offers_something(&self) -> bool {
        match &self.have {
            Some(_) => self.useful > 0,
            None => self.offer.is_some(),
        }
    }

    /// Whether it has every piece.
    pub fn is_complete(&self) -> bool {
        self.have.as_ref().is_some_and(HaveMap::is_full)
    }

    /// Whether it has long owed something of which nothing comes, and has not said why.
    pub fn is_silent(&self, now: Duration) -> bool {
        let usual = self.pace.usual(self.outstanding_bytes).unwrap_or_default();
        let long = Duration::from_millis(SILENT_MS).max(usual.saturating_mul(SILENT_TIMES));
        self.pace.waited(now) >= long && !self.has_said_why(now)
    }

    /// Whether what it said of its queue and its limit is reason enough that nothing has come yet.
    pub fn has_said_why(&self, now: Duration) -> bool {
        let waits = self.queue.hint(now).is_some_and(|hint| hint.waiting > 0);
        waits || self.told_time(0, now).is_some_and(|told| self.pace.waited(now) < told.saturating_mul(SILENT_TIMES))
    }

    /// How long what it owes and `bytes` more take by its own word; nothing where it has told of no limit.
    pub fn told_time(&self, bytes: u64, now: Duration) -> Option<Duration> {
        self.queue.time(self.outstanding_bytes.saturating_add(bytes), now)
    }

    /// How long what it owes and `bytes` more take, by what it has delivered; `None` if it has delivered nothing.
    pub fn delivery_time(&self, bytes: u64, now: Duration) -> Option<Duration> {
        Some(seconds(self.outstanding_bytes.saturating_add(bytes), self.pace.bytes_per_second(now)?))
    }

    /// The same for choosing whom to ask: those who waited before this node have had their turn since it last asked. A
    /// peer of unknown speed is tried first, and one that has left a request unanswered last.
    pub fn expected_delivery(&self, bytes: u64, now: Duration) -> Duration {
        match self.delivery_time(bytes, now) {
            _ if self.unanswered > 0 => Duration::MAX,
            Some(time) => time.saturating_sub(self.pace.idle(now)),
            None => Duration::ZERO,
        }
    }

    /// This node's part of the pieces that are to wait there, in thousandths of a piece.
    pub fn queue_share_milli(&self) -> u64 {
        u64::from(QUEUE_PIECES) * 1000 / u64::from(self.load.active_peers.max(1))
    }

    /// Requests it may have at once: what flows in one round trip (its bandwidth-delay product), and a few more, fewer
    /// where many nodes ask.
    fn window(&self, now: Duration) -> u32 {
        let share = u32::try_from(self.queue_share_milli() / 1000).unwrap_or(u32::MAX);
        let Some(rate) = self.pace.bytes_per_second(now) else { return share.clamp(1, WINDOW_FIRST) };
        let in_flight_bytes = u128::from(rate) * self.round_trip.as_micros() / 1_000_000;
        let in_flight = in_flight_bytes / u128::from(p2p_proto::limit::PIECE_BYTES_MIN);
        let pieces = in_flight + u128::from(share.clamp(1, WINDOW_SPARE));
        u32::try_from(pieces.min(u128::from(WINDOW_MAX))).unwrap_or(WINDOW_FIRST)
    }

    /// A request to it came to nothing, or was overtaken before anything came of it: others are asked first, and it rests
    /// twice as long each time. All requests that end together are one silence.
    pub fn gave_no_answer(&mut self, now: Duration) {
        if self.not_before > now {
            return;
        }
        self.not_before = now + Duration::from_millis(REST_MS << self.unanswered.min(REST_DOUBLINGS_MAX));
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// What it sent as this piece is not it: to be asked for elsewhere, while its other pieces may be good.
    pub fn lacks(&mut self, piece: PieceIndex, picker: &mut Picker, now: Duration) {
        self.lied_at = Some(now);
        if let Some(have) = &mut self.have
            && have.remove(piece)
        {
            self.useful -= u32::from(picker.lacks(piece));
            if self.counted {
                picker.count(piece, false);
            }
        }
    }

    /// Counts what it has in the picker's rarity.
    pub fn count(&mut self, picker: &mut Picker) {
        if let Some(have) = &self.have
            && !std::mem::replace(&mut self.counted, true)
        {
            have.iter().for_each(|piece| picker.count(piece, true));
        }
    }

    /// Takes what it has out of the picker's rarity.
    pub fn uncount(&mut self, picker: &mut Picker) {
        if std::mem::take(&mut self.counted)
            && let Some(have) = &self.have
        {
            have.iter().for_each(|piece| picker.count(piece, false));
        }
    }

    /// News before the number of pieces is known: kept in the offer, which is asked for again if there is none.
    pub fn take_have_early(&mut self, news: &[PieceIndex]) -> Option<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_proto::peer::QueueHint;

    /// A peer that was asked for a second's worth at 100,000 bytes a second at the moment 0.
    fn asked() -> SwarmPeer {
        let mut peer = SwarmPeer { outstanding: 1, outstanding_bytes: 100_000, ..SwarmPeer::default() };
        peer.pace.asked(Duration::ZERO);
        peer
    }

    #[test]
    fn who_says_nothing_is_silent_soon_and_who_told_of_a_limit_when_that_explains_it_no_more() {
        let silent = Duration::from_millis(SILENT_MS);
        let mut peer = asked();
        assert!(!peer.is_silent(silent - Duration::from_millis(1)) && peer.is_silent(silent));
        assert_eq!(peer.told_time(0, silent), None);
        peer.queue.take(QueueHint { up_limit: 100_000, ..QueueHint::default() }, Duration::ZERO);
        assert_eq!(peer.told_time(100_000, silent), Some(Duration::from_secs(2)));
        let explained = Duration::from_secs(1) * SILENT_TIMES;
        assert!(!peer.is_silent(explained - Duration::from_millis(1)) && peer.is_silent(explained));
    }

    #[test]
    fn who_told_of_a_queue_is_not_silent_while_that_is_fresh() {
        let mut peer = asked();
        let told_at = Duration::from_secs(5);
        peer.queue.take(QueueHint { waiting: 1, ..QueueHint::default() }, told_at);
        assert!(!peer.is_silent(told_at + Duration::from_secs(5)));
        assert!(peer.is_silent(told_at + Duration::from_secs(60)));
    }
}
