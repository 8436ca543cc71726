//! The picker: which piece of a content to ask for next.
//!
//! Every piece is in exactly one state, and one that is not wanted stays so. Only these transitions exist:
//!
//! ```text
//!            request            verified            durable
//! Missing ────────────▶ Requested ────────▶ Verified ────────▶ Durable
//!    ▲                    │    │
//!    └──── release (last) ┘    └─ hedge: two peers are asked
//! ```

use std::collections::BTreeSet;
use std::ops::Range;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;

/// State of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceState {
    /// Not here, asked of nobody.
    Missing,
    /// Asked of this many peers: one, or two when hedged.
    Requested(u8),
    /// Here and checked, but a power cut may still take it.
    Verified,
    /// On disk and marked.
    Durable,
    /// Not here, and not to be: it holds nothing of the files that are wanted.
    Unwanted,
}

/// Why a piece comes before another: compared field by field, the smallest first. This is the whole order of choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The place in the file, while it is streamed; otherwise 0 for all.
    sequence: u32,
    /// How many leechers offer it; seeders offer everything and so rank nothing.
    rarity: u32,
    /// Seeded chance, so that peers who start together ask for different pieces.
    chance: u32,
    /// The piece; makes the rank unique.
    piece: PieceIndex,
}

/// The pieces of one content.
#[derive(Debug)]
pub struct Picker {
    states: Vec<PieceState>,
    rarity: Vec<u32>,
    /// Missing pieces in the order of choice.
    missing: BTreeSet<Rank>,
    /// Pieces asked of exactly one peer, the candidates for a second request.
    single: BTreeSet<PieceIndex>,
    verified: HaveMap,
    durable: HaveMap,
    seed: u64,
    sequential: bool,
    /// The pieces that may be asked for now, in a sequence.
    window: Range<u32>,
    rivals: Rivals,
    /// How many pieces are not wanted.
    unwanted: u32,
}

/// The leechers that choose among the same pieces as this node, each by a number that all of them know it by.
#[derive(Debug, Default)]
struct Rivals {
    own: u64,
    others: Vec<u64>,
}

/// Pieces that are looked at for one whose turn it is: among 256, one of fifty leechers nearly always finds its own.
const TURNS_LOOKED_AT_MAX: usize = 256;

impl Picker {
    /// A picker for a content of which `durable` is here; `wanted`: the pieces to bring, where not all are.
    pub fn new(durable: HaveMap, wanted: Option<&HaveMap>, seed: u64, sequential: bool) -> Picker {
        let count = durable.piece_count() as usize;
        let mut picker = Picker {
            states: vec![PieceState::Missing; count],
            rarity: vec![0; count],
            missing: BTreeSet::new(),
            single: BTreeSet::new(),
            verified: durable.clone(),
            durable,
            seed,
            sequential,
            window: 0..u32::MAX,
            rivals: Rivals::default(),
            unwanted: 0,
        };
        for piece in (0..picker.durable.piece_count()).map(PieceIndex) {
            if picker.durable.contains(piece) {
                picker.states[piece.as_usize()] = PieceState::Durable;
            } else if wanted.is_some_and(|wanted| !wanted.contains(piece)) {
                picker.states[piece.as_usize()] = PieceState::Unwanted;
                picker.unwanted += 1;
            } else {
                picker.missing.insert(picker.rank(piece));
            }
        }
        picker
    }

    /// The best missing piece that `have` offers. Of those that no leecher has, one that fewest rivals stand before
    /// this node for.
    pub fn next(&self, have: &HaveMap) -> Option<PieceIndex> {
        let mut offered = self.wanted().filter(|rank| have.contains(rank.piece));
        let first = offered.next()?;
        if !self.takes_turns() || first.rarity > 0 {
            return Some(first.piece);
        }
        let (mut best, mut before) = (first.piece, self.rivals.before(first.piece, usize::MAX));
        for rank in offered.take(TURNS_LOOKED_AT_MAX).take_while(|rank| rank.rarity == 0) {
            if before == 0 {
                break;
            }
            let fewer = self.rivals.before(rank.piece, before);
            if fewer < before {
                (best, before) = (rank.piece, fewer);
            }
        }
        Some(best)
    }

    /// The best missing piece that `have` offers, no leecher has, and this node stands first for among its rivals: what
    /// a seeder is to be asked for, so that it sends every piece once and the leechers bring it to each other.
    pub fn next_in_turn(&self, have: &HaveMap) -> Option<PieceIndex> {
        if !self.takes_turns() {
            return None;
        }
        let unknown = self.missing.iter().take(TURNS_LOOKED_AT_MAX).take_while(|rank| rank.rarity == 0);
        let mut offered = unknown.map(|rank| rank.piece).filter(|piece| have.contains(*piece));
        offered.find(|piece| self.rivals.before(*piece, 1) == 0)
    }

    /// Whether leechers share out among themselves what only seeders have, and something of it is missing.
    pub fn shares_out(&self) -> bool {
        self.takes_turns() && self.missing.first().is_some_and(|rank| rank.rarity == 0)
    }

    /// Says who else downloads this content. The numbers stand for nodes, the same at every node.
    pub fn set_rivals(&mut self, own: u64, others: Vec<u64>) {
        self.rivals = Rivals { own, others };
    }

    /// The pieces asked of exactly one peer that `have` offers too: what a second request may overtake.
    pub fn hedgeable<'a>(&'a self, have: &'a HaveMap) -> impl Iterator<Item = PieceIndex> + 'a {
        self.single.iter().copied().filter(|piece| have.contains(*piece))
    }

    /// Whether every piece that may be asked for now is asked for or here.
    pub fn all_requested(&self) -> bool {
        self.wanted().next().is_none()
    }

    /// Of a sequence, only these pieces may be asked for from now on.
    pub fn set_window(&mut self, window: Range<u32>) {
        self.window = window;
    }

    /// The missing pieces that may be asked for now, in the order of choice.
    fn wanted(&self) -> impl Iterator<Item = &Rank> {
        let sequence = if self.sequential { self.window.start } else { 0 };
        let first = Rank { sequence, rarity: 0, chance: 0, piece: PieceIndex(0) };
        self.missing.range(first..).take_while(|rank| !self.sequential || rank.sequence < self.window.end)
    }

    /// A piece is asked of one more peer.
    pub fn request(&mut self, piece: PieceIndex) {
        let requests = match self.state(piece) {
            PieceState::Missing => 1,
            PieceState::Requested(requests) => requests.saturating_add(1),
            PieceState::Verified | PieceState::Durable | PieceState::Unwanted => return,
        };
        self.change(piece, PieceState::Requested(requests));
    }

    /// One of the requests for a piece came to nothing.
    pub fn release(&mut self, piece: PieceIndex) {
        if let PieceState::Requested(requests) = self.state(piece) {
            let rest = requests.saturating_sub(1);
            self.change(piece, if rest == 0 { PieceState::Missing } else { PieceState::Requested(rest) });
        }
    }

    /// A piece came, was checked and written. True if it was not here before.
    pub fn verified(&mut self, piece: PieceIndex) -> bool {
        let new = matches!(self.state(piece), PieceState::Missing | PieceState::Requested(_));
        if new {
            self.change(piece, PieceState::Verified);
            self.verified.insert(piece);
        }
        new
    }

    /// A piece survives a power cut now. True if it was not here before: the word that it is durable may overtake the
    /// word that it is verified.
    pub fn durable(&mut self, piece: PieceIndex) -> bool {
        let new = self.verified(piece);
        if self.state(piece) == PieceState::Verified {
            self.change(piece, PieceState::Durable);
            self.durable.insert(piece);
        }
        new
    }

    /// A leecher offers a piece, or (`offered` false) no longer does.
    pub fn count(&mut self, piece: PieceIndex, offered: bool) {
        let Some(rarity) = self.rarity.get(piece.as_usize()).copied() else { return };
        let changed = if offered { rarity.saturating_add(1) } else { rarity.saturating_sub(1) };
        let ranked = self.missing.remove(&self.rank(piece));
        self.rarity[piece.as_usize()] = changed;
        if ranked {
            self.missing.insert(self.rank(piece));
        }
    }

    /// The state of a piece; one beyond the end counts as here, so that nobody asks for it.
    pub fn state(&self, piece: PieceIndex) -> PieceState {
        self.states.get(piece.as_usize()).copied().unwrap_or(PieceState::Durable)
    }

    /// Number of pieces that are wanted and not here.
    pub fn pieces_left(&self) -> u32 {
        self.verified.piece_count() - self.verified.len() - self.unwanted
    }

    /// Whether a piece is wanted and not here.
    pub fn lacks(&self, piece: PieceIndex) -> bool {
        matches!(self.state(piece), PieceState::Missing | PieceState::Requested(_))
    }

    /// The pieces that are here and checked.
    pub fn have(&self) -> &HaveMap {
        &self.verified
    }

    /// Whether every piece that is wanted is on disk and marked.
    pub fn is_complete(&self) -> bool {
        self.durable.len() + self.unwanted == self.durable.piece_count()
    }

    /// What must hold after every step; says what does not.
    pub fn invariant(&self) -> Result<(), String> {
        let in_state = |wanted: fn(&PieceState) -> bool| {
            self.states.iter().enumerate().filter(move |(_, state)| wanted(state)).map(|(index, _)| index)
        };
        let missing: BTreeSet<usize> = self.missing.iter().map(|rank| rank.piece.as_usize()).collect();
        if missing != in_state(|state| *state == PieceState::Missing).collect() || missing.len() != self.missing.len() {
            return Err("the order of choice does not hold exactly the missing pieces".to_owned());
        }
        let single: BTreeSet<usize> = self.single.iter().map(|piece| piece.as_usize()).collect();
        if single != in_state(|state| *state == PieceState::Requested(1)).collect() {
            return Err("the hedgeable pieces are not those asked of one peer".to_owned());
        }
        if in_state(|state| matches!(state, PieceState::Requested(0 | 3..))).next().is_some() {
            return Err("a piece is asked of no peer or of more than two".to_owned());
        }
        let here = in_state(|state| matches!(state, PieceState::Verified | PieceState::Durable));
        if !here.eq(self.verified.iter().map(|piece| piece.as_usize())) {
            return Err("the have-map is not the verified pieces".to_owned());
        }
        if !in_state(|state| *state == PieceState::Durable).eq(self.durable.iter().map(|piece| piece.as_usize())) {
            return Err("the durable map is not the durable pieces".to_owned());
        }
        Ok(())
    }

    /// Moves a piece to another state and keeps the two orders in step.
    fn change(&mut self, piece: PieceIndex, state: PieceState) {
        match self.state(piece) {
            PieceState::Missing => drop(self.missing.remove(&self.rank(piece))),
            PieceState::Requested(1) => drop(self.single.remove(&piece)),
            _ => (),
        }
        self.states[piece.as_usize()] = state;
        match state {
            PieceState::Missing => drop(self.missing.insert(self.rank(piece))),
            PieceState::Requested(1) => drop(self.single.insert(piece)),
            _ => (),
        }
    }

    fn takes_turns(&self) -> bool {
        !self.sequential && !self.rivals.others.is_empty()
    }

    /// Where a piece stands in the order of choice.
    fn rank(&self, piece: PieceIndex) -> Rank {
        Rank {
            sequence: if self.sequential { piece.0 } else { 0 },
            rarity: self.rarity[piece.as_usize()],
            chance: chance(self.seed, piece),
            piece,
        }
    }
}

impl Rivals {
    /// How many rivals stand before this node for a piece, counted up to `enough`. Every node draws the same lots, one
    /// for each node and piece, so that all agree on who is first without a word (rendezvous hashing).
    fn before(&self, piece: PieceIndex, enough: usize) -> usize {
        let own = chance(self.own, piece);
        self.others.iter().filter(|rival| chance(**rival, piece) > own).take(enough).count()
    }
}

/// A piece's place among equals.
fn chance(seed: u64, piece: PieceIndex) -> u32 {
    draw(seed, u64::from(piece.0))
}

/// A number that looks random and is the same for the same seed and thing (the finalizer of splitmix64).
pub(super) fn draw(seed: u64, thing: u64) -> u32 {
    let mut mixed = seed.wrapping_add(thing.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces as a string: `#` durable, `v` verified, `1`/`2` requested, `.` missing.
    fn drawn(picker: &Picker) -> String {
        picker.invariant().expect("invariant");
        let letter = |state: &PieceState| match state {
            PieceState::Missing => '.',
            PieceState::Requested(requests) => char::from(b'0' + requests),
            PieceState::Verified => 'v',
            PieceState::Durable => '#',
            PieceState::Unwanted => ' ',
        };
        picker.states.iter().map(letter).collect()
    }

    /// A have-map as a string: `#` is offered.
    fn map(text: &str) -> HaveMap {
        let mut map = HaveMap::empty(text.len() as u32);
        for (index, _) in text.bytes().enumerate().filter(|(_, byte)| *byte == b'#') {
            map.insert(PieceIndex(index as u32));
        }
        map
    }

    fn picker(text: &str) -> Picker {
        Picker::new(map(text), None, 1, false)
    }

    fn order(mut picker: Picker, have: &str) -> Vec<u32> {
        let have = map(have);
        std::iter::from_fn(|| {
            let piece = picker.next(&have)?;
            picker.request(piece);
            picker.invariant().expect("invariant");
            Some(piece.0)
        })
        .collect()
    }

    #[test]
    fn only_missing_pieces_that_the_peer_offers_are_chosen() {
        let mut chosen = order(picker("##......"), ".##.#..#");
        chosen.sort_unstable();
        assert_eq!(chosen, [2, 4, 7]);
    }

    #[test]
    fn the_rarest_piece_comes_first() {
        let mut picker = picker("........");
        for leecher in ["########", "#######.", "##.####.", "#..####."] {
            for piece in map(leecher).iter() {
                picker.count(piece, true);
                picker.invariant().expect("invariant");
            }
        }
        assert_eq!(order(picker, "########")[..3], [7, 2, 1]);
    }

    #[test]
    fn two_seeds_choose_differently_and_one_seed_the_same() {
        let all = "################";
        let with = |seed| order(Picker::new(HaveMap::empty(16), None, seed, false), all);
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn leechers_share_out_what_only_a_seeder_has() {
        let nodes = [0x8c6d_40f1_92ab_35e7, 0x31f0_7e55_c9d8_1264, 0xe25b_9a03_4c71_fd88];
        let all = map("################################");
        let mut taken: Vec<u32> = Vec::new();
        for own in nodes {
            let mut picker = Picker::new(HaveMap::empty(32), None, own, false);
            assert!(!picker.shares_out() && picker.next_in_turn(&all).is_none(), "alone, it takes what comes");
            picker.set_rivals(own, nodes.into_iter().filter(|node| *node != own).collect());
            assert!(picker.shares_out());
            let before = taken.len();
            while let Some(piece) = picker.next_in_turn(&all) {
                assert_eq!(picker.next(&all), Some(piece), "what is its turn comes first");
                picker.request(piece);
                taken.push(piece.0);
            }
            assert!(taken.len() - before > 3, "{own} stands first for {} of 32", taken.len() - before);
        }
        // Together they take every piece, and none of them twice.
        taken.sort_unstable();
        assert_eq!(taken, (0..32).collect::<Vec<u32>>());
    }

    #[test]
    fn what_a_leecher_has_is_taken_out_of_turn_and_after_what_none_has() {
        let mut picker = picker("........");
        picker.set_rivals(1, vec![2]);
        for piece in map("######..").iter() {
            picker.count(piece, true);
        }
        let seeder = map("########");
        let in_turn: Vec<u32> = std::iter::from_fn(|| {
            let piece = picker.next_in_turn(&seeder)?;
            picker.request(piece);
            Some(piece.0)
        })
        .collect();
        assert!(in_turn.iter().all(|piece| [6, 7].contains(piece)), "{in_turn:?}");
        let rest = order(picker, "########");
        let rare: Vec<u32> = [6, 7].into_iter().filter(|piece| !in_turn.contains(piece)).collect();
        assert_eq!(rest[..rare.len()], rare[..]);
        assert_eq!(rest.len() + in_turn.len(), 8);
    }

    #[test]
    fn streaming_takes_pieces_in_order() {
        let picker = Picker::new(map("#......."), None, 3, true);
        assert_eq!(order(picker, "########"), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_window_bounds_how_far_ahead_of_its_reader_a_stream_is() {
        let mut picker = Picker::new(map("#......."), None, 3, true);
        let all = map("########");
        let mut ask = |window| {
            picker.set_window(window);
            let asked = std::iter::from_fn(|| {
                let piece = picker.next(&all)?;
                picker.request(piece);
                Some(piece.0)
            });
            let asked: Vec<u32> = asked.collect();
            assert!(picker.all_requested());
            asked
        };
        assert_eq!(ask(0..3), [1, 2]);
        assert_eq!(ask(2..5), [3, 4]);
        assert_eq!(ask(6..9), [6, 7], "what the reader has had already is not wanted");
    }

    #[test]
    fn a_released_piece_is_chosen_again_and_a_verified_one_never() {
        let mut picker = picker("....");
        picker.request(PieceIndex(0));
        picker.request(PieceIndex(1));
        picker.request(PieceIndex(1));
        assert_eq!(drawn(&picker), "12..");
        assert_eq!(picker.hedgeable(&map("####")).collect::<Vec<_>>(), [PieceIndex(0)]);
        picker.release(PieceIndex(1));
        picker.release(PieceIndex(0));
        assert_eq!(drawn(&picker), ".1..");
        assert!(picker.verified(PieceIndex(1)) && !picker.verified(PieceIndex(1)));
        picker.release(PieceIndex(1));
        picker.request(PieceIndex(1));
        assert_eq!(drawn(&picker), ".v..");
        assert!(!picker.durable(PieceIndex(1)));
        assert_eq!(drawn(&picker), ".#..");
    }

    #[test]
    fn a_piece_that_is_durable_before_it_is_known_to_be_verified_is_here() {
        let mut picker = picker("..");
        picker.request(PieceIndex(0));
        assert!(picker.durable(PieceIndex(0)));
        assert_eq!(drawn(&picker), "#.");
        assert!(!picker.verified(PieceIndex(0)));
        picker.release(PieceIndex(0));
        assert_eq!(drawn(&picker), "#.");
    }

    #[test]
    fn what_is_not_wanted_is_neither_asked_for_nor_missed() {
        let mut picker = Picker::new(map("#....."), Some(&map("###..#")), 1, true);
        assert_eq!(drawn(&picker), "#..  .");
        assert_eq!((picker.pieces_left(), picker.lacks(PieceIndex(3))), (3, false));
        for piece in [1, 2, 5].map(PieceIndex) {
            assert_eq!(picker.next(&map("######")), Some(piece));
            picker.request(piece);
            picker.durable(piece);
        }
        assert!(picker.is_complete() && picker.all_requested() && picker.pieces_left() == 0);
        assert_eq!(drawn(&picker), "###  #");
    }

    #[test]
    fn a_content_without_pieces_is_complete() {
        let picker = picker("");
        assert!(picker.is_complete() && picker.all_requested());
    }
}
