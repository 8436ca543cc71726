//! The scheduler: asks for what was chosen, and judges what comes back.

use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, DownloadId, NodeId};
use p2p_proto::reject::ErrorCode;

use super::input::{ConnectionId, FetchError, FetchId};
use super::problems::Cause;
use super::swarm::REST_MS;
use super::transfer::{Pieces, banned};
use super::{Engine, Output, Timer};

/// How long verified pieces are gathered before they are told to others in one message: a piece goes through several
/// hands before it is everywhere, and each of them adds this.
const HAVE_GATHER_MS: u64 = 5;

/// Something being fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetch {
    pub content: ContentId,
    pub node: NodeId,
    pub connection: ConnectionId,
    pub what: Fetched,
    /// Bytes asked for; 0 for a manifest, whose length is not known.
    pub bytes: u64,
    pub started: Duration,
}

/// What is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    Manifest,
    Piece(PieceIndex),
}

impl Engine {
    /// Asks for pieces of a content until every peer has enough to do or too much is asked for.
    pub(super) fn schedule(&mut self, content: ContentId) {
        while self.has_place(content)
            && self.may_fetch_now(content)
            && let Some((node, piece)) = self.choose(content)
        {
            self.request(content, node, piece);
        }
    }

    pub(super) fn piece_fetched(
        &mut self,
        fetch: FetchId,
        received_bytes: u64,
        round_trip: Duration,
        result: Result<(), FetchError>,
    ) {
        let Some(fetch) = self.end_fetch(fetch) else { return };
        let Fetched::Piece(piece) = fetch.what else { return };
        let now = self.now.monotonic;
        self.down_rate.add(received_bytes, now);
        self.rates.down.give_back(fetch.bytes.saturating_sub(received_bytes));
        let Some(transfer) = self.transfers.get_mut(&fetch.content) else { return };
        if let Some(download) = self.downloads.get_mut(transfer.download) {
            download.record.fetched_bytes = download.record.fetched_bytes.saturating_add(received_bytes);
        }
        if let Some(peer) = transfer.peers.get_mut(&fetch.node) {
            peer.outstanding = peer.outstanding.saturating_sub(1);
            peer.outstanding_bytes = peer.outstanding_bytes.saturating_sub(fetch.bytes);
            peer.pace.came(received_bytes, peer.outstanding > 0, now);
            if !round_trip.is_zero() {
                peer.round_trip = round_trip;
            }
        }
        let Some(Pieces { picker, .. }) = &mut transfer.pieces else { return };
        match result {
            Ok(()) => {
                if let Some(peer) = transfer.peers.get_mut(&fetch.node) {
                    peer.unanswered = 0;
                }
                transfer.rate.add(received_bytes, now);
                transfer.last_arrival = Some(now);
                if picker.verified(piece) {
                    transfer.piece_here(piece);
                }
                self.tell_have_soon(fetch.content);
                self.cancel_twins(fetch.content, piece);
            }
            Err(error) => {
                picker.release(piece);
                if error == FetchError::Corrupt
                    && let Some(peer) = transfer.peers.get_mut(&fetch.node)
                {
                    peer.lacks(piece, picker, now);
                }
                transfer.moisten();
                self.blame(fetch.content, fetch.node, &error);
            }
        }
        self.stream_pieces_of(fetch.content);
        self.schedule(fetch.content);
        self.schedule_starved();
        self.finish_if_complete(fetch.content);
    }

    pub(super) fn pieces_durable(&mut self, download: DownloadId, pieces: &[PieceIndex]) {
        let Some(content) = self.running_content(download) else { return };
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let Some(Pieces { picker, .. }) = &mut transfer.pieces else { return };
        let new: Vec<PieceIndex> = pieces.iter().copied().filter(|piece| picker.durable(*piece)).collect();
        new.into_iter().for_each(|piece| transfer.piece_here(piece));
        self.stream_pieces_of(content);
        self.tell_have_soon(content);
        self.finish_if_complete(content);
    }

    /// Tells new pieces to those who read the content from here, in a moment and in one message.
    fn tell_have_soon(&mut self, content: ContentId) {
        if self.transfers.get(&content).is_some_and(|transfer| !transfer.fresh.is_empty()) {
            let at = self.after(Duration::from_millis(HAVE_GATHER_MS));
            self.timers.set_if_unset(Timer::Have(content), at);
        }
    }

    /// Takes a fetch out of the books; `None` if it was given up before.
    pub(super) fn end_fetch(&mut self, fetch: FetchId) -> Option<Fetch> {
        let ended = self.fetches.remove(&fetch)?;
        self.fetch_bytes = self.fetch_bytes.saturating_sub(ended.bytes);
        Some(ended)
    }

    /// Gives up every fetch on a connection that is gone.
    pub(super) fn drop_fetches_of(&mut self, connection: ConnectionId) {
        let gone = self.fetches.iter().filter(|(_, fetch)| fetch.connection == connection);
        let gone: Vec<(FetchId, Fetched)> = gone.map(|(number, fetch)| (*number, fetch.what)).collect();
        for (fetch, what) in gone {
            self.outputs.push_back(Output::CancelFetch(fetch));
            match what {
                Fetched::Manifest => self.manifest_fetched(fetch, Err(FetchError::Lost)),
                Fetched::Piece(_) => self.piece_fetched(fetch, 0, Duration::ZERO, Err(FetchError::Lost)),
            }
        }
    }

    /// Gives up every fetch of a content that is no longer wanted.
    pub(super) fn cancel_fetches(&mut self, content: ContentId) {
        let gone = self.fetches.iter().filter(|(_, fetch)| fetch.content == content);
        let gone: Vec<FetchId> = gone.map(|(number, _)| *number).collect();
        for fetch in gone {
            self.end_fetch(fetch);
            self.outputs.push_back(Output::CancelFetch(fetch));
        }
        self.schedule_starved();
    }

    /// Draws the consequence of a failed fetch for the peer it was asked of.
    pub(super) fn blame(&mut self, content: ContentId, node: NodeId, error: &FetchError) {
        let now = self.now.monotonic;
        let rest_until = self.after(Duration::from_millis(REST_MS));
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let group = transfer.group.clone();
        let Some(peer) = transfer.peers.get_mut(&node) else { return };
        match error {
            FetchError::Corrupt => {
                peer.corrupt_pieces = peer.corrupt_pieces.saturating_add(1);
                if peer.is_banned() {
                    if let Some(interest) = peer.interest {
                        self.outputs.push_back(Output::CloseInterest(interest));
                        self.interest_closed(interest, None);
                    }
                    self.note_problem(Cause::Liar(node), banned(node));
                }
            }
            FetchError::Refused(reject) => {
                peer.not_before = rest_until;
                if matches!(reject.code, ErrorCode::GRANT_REFUSED | ErrorCode::NOT_MEMBER) {
                    self.grant_disbelieved(&group);
                }
            }
            FetchError::Lost => peer.gave_no_answer(now),
            FetchError::Cancelled => (),
            FetchError::Store(reject) => {
                let reject = reject.clone();
                self.fail_transfer(content, reject);
            }
        }
    }

    /// Asks a peer for a piece.
    fn request(&mut self, content: ContentId, node: NodeId, piece: PieceIndex) {
        let started = self.now.monotonic;
        let fetch = FetchId(self.number());
        let connection = self.peers.get(&node).and_then(super::peers::Peer::connection);
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let Some(peer) = transfer.peers.get_mut(&node) else { return };
        let (Some(pieces), Some(connection)) = (&mut transfer.pieces, connection) else {
            // A have-map without a connection: told of its loss in a moment.
            peer.dry = true;
            return;
        };
        let bytes = pieces.geometry.piece_bytes(piece);
        pieces.picker.request(piece);
        peer.pace.asked(started);
        peer.outstanding += 1;
        peer.outstanding_bytes += bytes;
        self.fetch_bytes += bytes;
        self.count_fetch(content, bytes);
        self.fetches.insert(fetch, Fetch { content, node, connection, what: Fetched::Piece(piece), bytes, started });
        self.outputs.push_back(Output::FetchPiece(fetch, connection, content, piece, bytes));
    }

    /// A piece came: whoever else was asked for it need not send it.
    fn cancel_twins(&mut self, content: ContentId, piece: PieceIndex) {
        let (now, wanted) = (self.now.monotonic, Fetched::Piece(piece));
        let twins = self.fetches.iter().filter(|(_, fetch)| fetch.content == content && fetch.what == wanted);
        let twins: Vec<FetchId> = twins.map(|(number, _)| *number).collect();
        for twin in twins {
            let Some(fetch) = self.end_fetch(twin) else { continue };
            self.outputs.push_back(Output::CancelFetch(twin));
            let transfer = self.transfers.get_mut(&content);
            if let Some(peer) = transfer.and_then(|transfer| transfer.peers.get_mut(&fetch.node)) {
                peer.outstanding = peer.outstanding.saturating_sub(1);
                peer.outstanding_bytes = peer.outstanding_bytes.saturating_sub(fetch.bytes);
                let unknown = peer.pace.bytes_per_second(now).is_none() && !peer.has_said_why(now);
                if unknown || peer.is_silent(now) {
                    peer.gave_no_answer(now);
                }
                peer.pace.came(0, peer.outstanding > 0, now);
            }
        }
    }

    /// Something came in, so there is room: transfers that stopped for want of it go on.
    fn schedule_starved(&mut self) {
        let starved = self.transfers.iter_mut().filter(|(_, transfer)| transfer.starved);
        let starved: Vec<ContentId> = starved
            .map(|(content, transfer)| {
                transfer.starved = false;
                *content
            })
            .collect();
        starved.into_iter().for_each(|content| self.schedule(content));
    }
}
