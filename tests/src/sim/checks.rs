//! What must hold of everything that an engine asks for, checked from outside: the engine's own books are not believed.

use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::peer::FromProvider;
use p2pd::engine::input::FetchId;
use p2pd::engine::{Limits, Output};

use super::World;

/// A piece that a node waits for.
pub(super) struct Asked {
    pub content: ContentId,
    pub piece: PieceIndex,
    bytes: u64,
    at: Duration,
}

/// A second request for a piece before everything is asked for is allowed only where the first has waited for so long.
const OVERTAKEN_AFTER: Duration = Duration::from_millis(500);

impl World {
    /// Checks an output before it is performed.
    ///
    /// # Panics
    /// Where a rule is broken.
    pub(super) fn check(&mut self, place: usize, output: &Output) {
        match output {
            Output::FetchPiece(fetch, _, content, piece, bytes) => {
                self.check_request(place, *content, *piece);
                let asked = Asked { content: *content, piece: *piece, bytes: *bytes, at: self.now };
                self.nodes[place].asked.insert(*fetch, asked);
                self.check_outstanding(place, *fetch);
            }
            Output::CancelFetch(fetch) => drop(self.nodes[place].asked.remove(fetch)),
            Output::Provide(served, FromProvider::Have(pieces)) => {
                let Some(content) = self.content_served(place, *served) else { return };
                let missing = pieces.iter().find(|piece| !self.nodes[place].disk.has_piece(content, **piece));
                assert!(missing.is_none(), "node {place} offers {missing:?}, which is not here");
            }
            _ => (),
        }
    }

    /// A piece is asked of one peer; of two only when everything is asked for, or when the first lets it wait.
    fn check_request(&self, place: usize, content: ContentId, piece: PieceIndex) {
        let node = &self.nodes[place];
        let durable = node.disk.is_durable(content, piece);
        assert!(!durable, "at {:?} node {place} asks for {piece:?}, which is durable there", self.now);
        let waiting = node.asked.values().filter(|asked| asked.content == content);
        let twins: Vec<&Asked> = waiting.clone().filter(|asked| asked.piece == piece).collect();
        assert!(twins.len() < 2, "at {:?} node {place} asks a third peer for {piece:?}", self.now);
        if let Some(first) = twins.first() {
            let late = self.now.saturating_sub(first.at) >= OVERTAKEN_AFTER;
            let missing = node.disk.missing(content).into_iter();
            let unasked = missing.filter(|missing| waiting.clone().all(|asked| asked.piece != *missing)).count();
            assert!(late || unasked == 0, "node {place} asks twice for {piece:?} while {unasked} are not asked for");
        }
    }

    /// What is asked for has room in the buffers that it is read into.
    fn check_outstanding(&self, place: usize, newest: FetchId) {
        let asked = &self.nodes[place].asked;
        let outstanding: u64 = asked.values().map(|asked| asked.bytes).sum();
        let alone = asked.len() == 1 && asked.contains_key(&newest);
        let bound = Limits::default().fetch_bytes_max;
        assert!(alone || outstanding <= bound, "node {place} waits for {outstanding} bytes");
    }
}
