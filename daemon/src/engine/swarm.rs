//! The swarm as a downloader sees it: providers looked up, connected to, and asked what they have.

use std::time::Duration;

use p2p_proto::control::TrackerState;
use p2p_proto::geometry::Geometry;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::GroupName;
use p2p_proto::peer::{FromProvider, Interest, close_code};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Provider, Providers, Request};

use super::input::{FetchError, FetchId, InterestId, Opened};
use super::picker::Picker;
use super::record::Shape;
use super::scheduler::{Fetch, Fetched};
use super::steps::Step;
use super::transfer::{Phase, Pieces};
use super::{Engine, Output, Timer};

/// Providers are looked up this often while nobody is there to ask: a tracker's event is quicker, this is the net below.
const LOOKUP_LONELY_MS: u64 = 5_000;

/// And this often while somebody is.
const LOOKUP_MS: u64 = 30_000;

/// Lookups of many contents follow each other at this distance: two hundred a second are little to a tracker, and far
/// fewer than may be asked of it at once are ever open.
const LOOKUP_SPACING_MS: u64 = 5;

/// A transfer is looked over this often while it runs.
const REVIEW_MS: u64 = 500;

/// A peer that refused, or whose stream broke, is left alone this long.
pub(super) const REST_MS: u64 = 1_000;

/// So long a piece is not asked for again where it was corrupt.
const DOUBT_MS: u64 = 30_000;

/// Peers of one transfer.
const SWARM_PEERS_MAX: usize = 50;

impl Engine {
    /// Asks a tracker who is online with a content.
    pub(super) fn look_up(&mut self, content: ContentId) {
        let Some(transfer) = self.transfers.get(&content) else { return };
        if transfer.phase == Phase::Finishing {
            return;
        }
        let lonely = transfer.is_lonely();
        let group = transfer.group.clone();
        let pause = Duration::from_millis(if lonely { LOOKUP_LONELY_MS } else { LOOKUP_MS });
        let at = self.after(pause);
        self.timers.set(Timer::Lookup(content), at);
        self.ask_now(Step::LookedUp(content), Request::Lookup { group, content });
    }

    /// Looks up again now what nobody offers.
    pub(super) fn look_up_where_lonely(&mut self) {
        let lonely = self.transfers.iter().filter(|(_, transfer)| transfer.is_lonely());
        let lonely: Vec<ContentId> = lonely.map(|(content, _)| *content).collect();
        self.look_up_in_turn(lonely);
    }

    /// Looks up again now what a node was to bring.
    pub(super) fn look_up_for(&mut self, node: NodeId) {
        let with_peer = self.transfers.iter().filter(|(_, transfer)| transfer.peers.contains_key(&node));
        let contents: Vec<ContentId> = with_peer.map(|(content, _)| *content).collect();
        self.look_up_in_turn(contents);
    }

    /// Looks contents up one after the other, so that hundreds of them do not ask the tracker at one moment.
    fn look_up_in_turn(&mut self, contents: Vec<ContentId>) {
        let mut at = self.now.monotonic;
        for content in contents {
            self.timers.set(Timer::Lookup(content), at);
            at += Duration::from_millis(LOOKUP_SPACING_MS);
        }
    }

    pub(super) fn looked_up(&mut self, content: ContentId, result: Result<Providers, Reject>) {
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        match result {
            Ok(found) => {
                transfer.last_seeder = found.last_seeder;
                transfer.unlisted = false;
                for provider in found.providers {
                    self.add_provider(content, provider);
                }
            }
            Err(reject) if matches!(reject.code, ErrorCode::NOT_MEMBER | ErrorCode::GROUP_NOT_FOUND) => {
                let group = transfer.group.clone();
                self.group_lost(&group, &reject);
            }
            // Withdrawn, or replaced by another: it may still come from those who serve it.
            Err(reject) if reject.code == ErrorCode::FILE_NOT_FOUND => transfer.unlisted = true,
            // A tracker that is away is asked again at the next turn.
            Err(_) => (),
        }
    }

    /// A tracker tells of somebody who came online.
    pub(super) fn provider_found(&mut self, group: &GroupName, content: ContentId, provider: Provider) {
        if self.transfers.get(&content).is_some_and(|transfer| transfer.group == *group) {
            self.add_provider(content, provider);
        }
    }

    /// A node that is connected already downloads the same content: it may have what is missing here.
    pub(super) fn add_connected(&mut self, content: ContentId, node: NodeId) {
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        if transfer.peers.len() < SWARM_PEERS_MAX {
            transfer.peers.entry(node).or_default();
            self.open_interest(content, node);
            self.review_later(content);
        }
    }

    /// Looks every transfer over now.
    pub(super) fn review_all(&mut self) {
        let contents: Vec<ContentId> = self.transfers.keys().copied().collect();
        self.look_up_in_turn(contents.clone());
        contents.into_iter().for_each(|content| self.review(content));
    }

    /// Looks a group's transfers over now.
    pub(super) fn review_group(&mut self, group: &GroupName) {
        let of_group = self.transfers.iter().filter(|(_, transfer)| transfer.group == *group);
        let contents: Vec<ContentId> = of_group.map(|(content, _)| *content).collect();
        contents.into_iter().for_each(|content| self.review(content));
    }

    /// Looks the transfers over that a peer belongs to.
    pub(super) fn review_peer(&mut self, node: NodeId) {
        let with_peer = self.transfers.iter().filter(|(_, transfer)| transfer.peers.contains_key(&node));
        let contents: Vec<ContentId> = with_peer.map(|(content, _)| *content).collect();
        for content in contents {
            self.open_interest(content, node);
        }
    }

    /// Connects and opens interests where there are none, asks for what is missing, and comes back.
    pub(super) fn review(&mut self, content: ContentId) {
        let Some(transfer) = self.transfers.get(&content) else { return };
        if transfer.phase == Phase::Finishing {
            return;
        }
        // One that sent a corrupt piece once is asked again what it has, some time later: it may have been mended.
        let now = self.now.monotonic;
        let doubted = transfer.peers.values().filter(|peer| !peer.is_banned() && peer.outstanding == 0);
        let doubted = doubted.filter(|peer| peer.lied_at.is_some_and(|at| now >= at + Duration::from_millis(DOUBT_MS)));
        let doubted: Vec<InterestId> = doubted.filter_map(|peer| peer.interest).collect();
        for interest in doubted {
            self.outputs.push_back(Output::CloseInterest(interest));
            self.interest_closed(interest, None);
        }
        let Some(transfer) = self.transfers.get(&content) else { return };
        let idle = transfer.peers.iter().filter(|(_, peer)| peer.interest.is_none() && !peer.is_banned());
        let idle: Vec<NodeId> = idle.map(|(node, _)| *node).collect();
        for node in idle {
            self.open_interest(content, node);
        }
        if let Some(transfer) = self.transfers.get_mut(&content) {
            transfer.weigh_offers(now);
        }
        self.fetch_manifest(content);
        self.schedule(content);
        self.review_later(content);
    }

    /// Looks a transfer over again in a while, if there is anything to look at.
    fn review_later(&mut self, content: ContentId) {
        if self.transfers.get(&content).is_some_and(|transfer| !transfer.peers.is_empty()) {
            let at = self.after(Duration::from_millis(REVIEW_MS));
            self.timers.set_if_unset(Timer::Review(content), at);
        }
    }

    pub(super) fn offered(&mut self, interest: InterestId, message: FromProvider) {
        let now = self.now.monotonic;
        let Some((content, node)) = self.interests.get(&interest).copied() else { return };
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        // A peer that had something to bring before is asked when there is room, not because it has more.
        let mut of_use =
            transfer.peers.get(&node).is_none_or(|peer| peer.have.is_none() || peer.dry || peer.useful == 0);
        let fits = match message {
            FromProvider::HaveMap(map) => transfer.take_have_map(node, map),
            FromProvider::Have(pieces) => transfer.take_have(node, &pieces),
            FromProvider::Load(load) => transfer.peers.get_mut(&node).map(|peer| {
                of_use |= peer.load.queued_requests > load.queued_requests;
                peer.load = load;
            }),
            FromProvider::Queue(hint) => transfer.peers.get_mut(&node).map(|peer| peer.queue.take(hint, now)),
            FromProvider::Refused(reject) => {
                self.interest_closed(interest, Some(reject));
                return;
            }
        };
        if fits.is_none() {
            // A have-map that does not fit its content is no honest mistake.
            if let Some(connection) = self.peers.get(&node).and_then(super::peers::Peer::connection) {
                self.outputs.push_back(Output::Close(connection, close_code::PROTOCOL));
            }
            return;
        }
        if of_use {
            self.fetch_manifest(content);
            self.schedule(content);
        }
    }

    pub(super) fn interest_closed(&mut self, interest: InterestId, reason: Option<Reject>) {
        let Some((content, node)) = self.interests.remove(&interest) else { return };
        let not_before = self.after(Duration::from_millis(REST_MS));
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        transfer.forget_offer(node);
        if let Some(peer) = transfer.peers.get_mut(&node) {
            peer.not_before = not_before;
        }
        match reason.map(|reject| reject.code) {
            Some(ErrorCode::GRANT_REFUSED | ErrorCode::NOT_MEMBER) => {
                let group = transfer.group.clone();
                self.grant_disbelieved(&group);
            }
            // Empty-handed: left alone until a tracker names it again. One that has lied is remembered.
            Some(ErrorCode::CONTENT_NOT_FOUND) => {
                transfer.peers.retain(|peer, entry| *peer != node || entry.corrupt_pieces > 0);
            }
            _ => (),
        }
    }

    /// A node does not answer at all: no transfer waits for it.
    pub(super) fn give_up(&mut self, node: NodeId) {
        for transfer in self.transfers.values_mut() {
            if transfer.peers.get(&node).is_some_and(|peer| peer.interest.is_none() && peer.corrupt_pieces == 0) {
                transfer.peers.remove(&node);
            }
        }
    }

    /// A node's connection was replaced by another, through no fault of its own: it is asked at once.
    pub(super) fn forgive(&mut self, node: NodeId) {
        for transfer in self.transfers.values_mut() {
            if let Some(peer) = transfer.peers.get_mut(&node) {
                peer.not_before = Duration::ZERO;
            }
        }
    }

    /// A connection is gone: so are the interests on it.
    pub(super) fn drop_interests_of(&mut self, node: NodeId) {
        let gone = self.interests.iter().filter(|(_, (_, peer))| *peer == node);
        let gone: Vec<InterestId> = gone.map(|(interest, _)| *interest).collect();
        gone.into_iter().for_each(|interest| self.interest_closed(interest, None));
    }

    pub(super) fn manifest_fetched(&mut self, fetch: FetchId, result: Result<Shape, FetchError>) {
        let Some(fetch) = self.end_fetch(fetch) else { return };
        let Some(transfer) = self.transfers.get_mut(&fetch.content) else { return };
        transfer.phase = Phase::Manifest(None);
        let listed = self.downloads.get(transfer.download).map(|download| download.record.clone());
        match (result, listed) {
            (Ok(shape), Some(record)) if shape.length == record.length => {
                transfer.phase = Phase::Opening;
                self.open_part(record.id);
            }
            (Ok(_), _) => {
                let message = "the listing and the manifest do not agree on the file's length";
                let reject = Reject::new(ErrorCode::INTEGRITY, message).hint("ask the publisher to upload it again");
                self.fail_transfer(fetch.content, reject);
            }
            (Err(FetchError::Store(reject)), _) => self.fail_transfer(fetch.content, reject),
            (Err(error), _) => {
                self.blame(fetch.content, fetch.node, &error);
                self.fetch_manifest(fetch.content);
            }
        }
    }

    /// What is here of a content is known: pieces can be asked for.
    pub(super) fn pieces_known(&mut self, content: ContentId, opened: Opened) {
        let seed = self.random.u64(..);
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let Some(download) = self.downloads.get_mut(transfer.download) else { return };
        let fits = |geometry: &Geometry| geometry.piece_count() == opened.have.piece_count();
        let Some(geometry) = opened.shape.geometry().ok().filter(fits) else {
            let reject = Reject::new(ErrorCode::INTEGRITY, "what is here of the file does not fit its manifest");
            self.fail_transfer(content, reject);
            return;
        };
        download.record.shape = Some(opened.shape);
        let (id, streamed, wanted) = (transfer.download, download.streamed, opened.wanted.as_ref());
        download.record.wanted_bytes = wanted
            .map(|wanted| wanted.iter().map(|piece| geometry.piece_bytes(piece)).sum())
            .or(download.record.wanted_bytes);
        download.record.wanted_pieces = wanted.map(|wanted| wanted.len()).or(download.record.wanted_pieces);
        transfer.take_pieces(Pieces { geometry, picker: Picker::new(opened.have, wanted, seed, streamed) });
        let have_bytes = transfer.have_bytes();
        // What was verified before a crash was received, even if the count of it was lost.
        download.record.fetched_bytes = download.record.fetched_bytes.max(have_bytes);
        self.tell_have_map(content);
        self.finish_if_complete(content);
        self.move_window(id);
        self.stream_pieces_of(content);
        self.review(content);
    }

    /// Adds a provider that a tracker named, and connects to it.
    fn add_provider(&mut self, content: ContentId, provider: Provider) {
        if !self.learn_peer(provider.node, provider.addresses) {
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        if transfer.peers.len() >= SWARM_PEERS_MAX && !transfer.peers.contains_key(&provider.node) {
            let unused = transfer.peers.iter().find(|(_, peer)| peer.interest.is_none() && peer.corrupt_pieces == 0);
            let unused = unused.map(|(node, _)| *node);
            let Some(unused) = unused else { return };
            transfer.peers.remove(&unused);
        }
        transfer.peers.entry(provider.node).or_default().user = Some(provider.user);
        self.open_interest(content, provider.node);
        self.review_later(content);
    }

    /// Opens an interest with a peer of a transfer, connecting first, where there is none and it is not too soon.
    fn open_interest(&mut self, content: ContentId, node: NodeId) {
        let now = self.now.monotonic;
        let Some(transfer) = self.transfers.get(&content) else { return };
        let Some(peer) = transfer.peers.get(&node) else { return };
        if peer.interest.is_some() || peer.is_banned() || peer.not_before > now || transfer.phase == Phase::Finishing {
            return;
        }
        let (group, born) = (transfer.group.clone(), transfer.born);
        let Some(connection) = self.peers.get(&node).and_then(super::peers::Peer::connection) else {
            self.connect_in_time(node);
            return;
        };
        let Some(grant) = self.grant_for(&group, born) else { return };
        let interest = InterestId(self.number());
        self.interests.insert(interest, (content, node));
        if let Some(peer) = self.transfers.get_mut(&content).and_then(|transfer| transfer.peers.get_mut(&node)) {
            peer.interest = Some(interest);
        }
        self.outputs.push_back(Output::OpenInterest(interest, connection, Interest { content, group, grant }));
    }

    /// Asks some provider for the manifest, where it is missing and not asked for.
    fn fetch_manifest(&mut self, content: ContentId) {
        let now = self.now.monotonic;
        let Some(transfer) = self.transfers.get(&content) else { return };
        if transfer.phase != Phase::Manifest(None) {
            return;
        }
        let ready = transfer.peers.iter().filter(|(_, peer)| {
            peer.interest.is_some() && peer.offer.is_some() && !peer.is_banned() && peer.not_before <= now
        });
        let mut ready: Vec<NodeId> = ready.map(|(node, _)| *node).collect();
        self.random.shuffle(&mut ready);
        let connected = ready.into_iter().find_map(|node| Some((node, self.peers.get(&node)?.connection()?)));
        let Some((node, connection)) = connected else { return };
        let fetch = FetchId(self.number());
        self.fetches.insert(
            fetch,
            Fetch { content, node, connection, what: Fetched::Manifest, bytes: 0, started: self.now.monotonic },
        );
        if let Some(transfer) = self.transfers.get_mut(&content) {
            transfer.phase = Phase::Manifest(Some(fetch));
        }
        self.outputs.push_back(Output::FetchManifest(fetch, connection, content));
    }

    /// Whether any tracker answers.
    pub(super) fn tracker_ok(&self) -> bool {
        self.trackers.iter().any(|tracker| tracker.state == TrackerState::Ok)
    }
}
