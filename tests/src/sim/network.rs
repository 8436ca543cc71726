//! The simulated network: connections between nodes, what is said on them, and requests for pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::peer::{FromProvider, PieceRequest};
use p2p_proto::reject::Reject;
use p2pd::engine::input::{ConnectionId, FetchError, FetchId, InterestId, ServedId, UploadId};
use p2pd::engine::{Input, Output};

use super::{DEATH_NOTICED, Event, SYNC_DELAY, World};

/// A dial that nobody answers fails after this time.
const DIAL_DEADLINE: Duration = Duration::from_secs(3);

/// A request of which nothing has come for so long is lost, as it is to `p2pd`.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A node and one of its numbers.
type At<T> = (usize, T);

/// A request that a node was sent.
struct Request {
    from: usize,
    fetch: FetchId,
    /// Its number at the end that asked.
    connection: ConnectionId,
    content: ContentId,
    /// `None` for the manifest.
    piece: Option<PieceIndex>,
    /// Whether the server has begun to send.
    sending: bool,
}

/// One end of a connection.
struct End {
    other: At<ConnectionId>,
    /// When this end hears that it is connected: whatever ends the connection is heard later.
    told_at: Duration,
    /// Interests opened from this end, and their numbers at the other.
    shown: BTreeMap<InterestId, At<ServedId>>,
    /// Requests made from this end, by their number at the other.
    requests: BTreeSet<UploadId>,
}

/// A dial of some node's.
#[derive(Debug, Clone)]
pub struct Dial {
    /// When.
    pub at: Duration,
    /// By whom.
    pub from: usize,
    /// Where to: each is sent a handshake.
    pub addresses: Vec<SocketAddr>,
}

/// All that is connected.
#[derive(Default)]
pub(super) struct Network {
    next_number: u64,
    ends: BTreeMap<At<ConnectionId>, End>,
    /// On which connection an interest was opened.
    shown_on: BTreeMap<At<InterestId>, ConnectionId>,
    /// Who opened an interest, and for what.
    served: BTreeMap<At<ServedId>, (At<InterestId>, ContentId)>,
    requests: BTreeMap<At<UploadId>, Request>,
    /// At whom a fetch waits, by its number there.
    waits_at: BTreeMap<At<FetchId>, At<UploadId>>,
    /// Pieces being sent that were given up, until their servers hear of it: on which connection, of how many bytes.
    unwanted: BTreeMap<At<UploadId>, (ConnectionId, u64)>,
    /// Pairs of nodes that cannot reach each other, the lower place first.
    cuts: BTreeSet<(usize, usize)>,
    dials: Vec<Dial>,
}

impl World {
    /// Performs an output of the network's.
    pub(super) fn perform_network(&mut self, place: usize, output: Output) {
        let delay = self.path.delay;
        match output {
            Output::Dial(node, addresses) => self.dial(place, node, addresses),
            Output::Close(connection, _) => self.disconnect((place, connection), delay),
            Output::OpenInterest(interest, connection, shown) => {
                let number = self.number();
                let Some(end) = self.network.ends.get_mut(&(place, connection)) else {
                    return self.tell(place, delay, Input::InterestClosed(interest, None));
                };
                let ((other, remote), served) = (end.other, ServedId(number));
                end.shown.insert(interest, (other, served));
                self.network.shown_on.insert((place, interest), connection);
                self.network.served.insert((other, served), ((place, interest), shown.content));
                self.tell(other, delay, Input::InterestOpened { served, connection: remote, interest: shown });
            }
            Output::RenewInterest(interest, grant) => {
                if let Some((other, served)) = self.shown(place, interest) {
                    self.tell(other, delay, Input::InterestRenewed(served, grant));
                }
            }
            Output::CloseInterest(interest) => {
                if let Some((other, served)) = self.close_shown(place, interest) {
                    self.tell(other, delay, Input::ServedClosed(served));
                }
            }
            // There is room for everybody.
            Output::Admitted(..) => {}
            Output::Provide(served, message) => self.provide(place, served, message),
            Output::RefuseUpload(upload, reject) => self.answer(place, upload, delay, Err(FetchError::Refused(reject))),
            Output::StopUpload(upload, reject) => self.stop_upload(place, upload, reject),
            Output::LimitUploads(rate) => self.nodes[place].up_limit = rate,
            Output::FetchManifest(fetch, connection, content) => {
                self.request(place, fetch, connection, content, None);
            }
            Output::FetchPiece(fetch, connection, content, piece, _) => {
                self.request(place, fetch, connection, content, Some(piece));
            }
            Output::CancelFetch(fetch) => self.cancel(place, fetch),
            Output::ServePiece(upload, content, piece, bytes) => self.serve_piece(place, upload, content, piece, bytes),
            Output::ServeManifest(upload, _, _) => self.serve_manifest(place, upload),
            other => panic!("not the network's: {other:?}"),
        }
    }

    /// Cuts two nodes off from each other, or (`cut` false) lets them reach each other again.
    pub fn set_cut(&mut self, one: usize, other: usize, cut: bool) {
        let pair = (one.min(other), one.max(other));
        if !cut {
            self.network.cuts.remove(&pair);
            return;
        }
        self.network.cuts.insert(pair);
        let between = self.network.ends.iter().filter(|((place, _), end)| *place == one && end.other.0 == other);
        let between: Vec<_> = between.map(|(at, _)| *at).collect();
        between.into_iter().for_each(|end| self.disconnect(end, DEATH_NOTICED));
    }

    /// Whether any piece is on its way to a node.
    pub fn is_being_sent_to(&self, place: usize) -> bool {
        self.network.requests.values().any(|request| request.from == place && request.sending)
    }

    /// The nodes that this one waits for a piece from, one for each piece.
    pub fn waits_for(&self, place: usize) -> impl Iterator<Item = usize> {
        let of_node = (place, FetchId(0))..=(place, FetchId(u64::MAX));
        self.network.waits_at.range(of_node).map(|(_, (server, _))| *server)
    }

    /// Dials so far.
    pub fn dials(&self) -> &[Dial] {
        &self.network.dials
    }

    /// A node was ended: its connections end, as the others notice.
    pub(super) fn cut_connections(&mut self, place: usize, noticed_after: Duration) {
        let of_node = (place, ConnectionId(0))..=(place, ConnectionId(u64::MAX));
        let ends: Vec<_> = self.network.ends.range(of_node).map(|(at, _)| *at).collect();
        ends.into_iter().for_each(|end| self.disconnect(end, noticed_after));
    }

    /// The content of an interest that a node serves.
    pub(super) fn content_served(&self, place: usize, served: ServedId) -> Option<ContentId> {
        self.network.served.get(&(place, served)).map(|(_, content)| *content)
    }

    fn dial(&mut self, place: usize, node: NodeId, addresses: Vec<SocketAddr>) {
        let other = self.place(node);
        self.network.dials.push(Dial { at: self.now, from: place, addresses });
        let reachable = |other: &usize| {
            let cut = self.network.cuts.contains(&(place.min(*other), place.max(*other)));
            self.nodes[*other].engine.is_some() && !cut
        };
        match other.filter(reachable) {
            Some(other) => self.connect(place, other),
            None => self.tell(
                place,
                DIAL_DEADLINE,
                Input::DialFailed { node, reason: "nobody there".to_owned(), busy: false },
            ),
        }
    }

    fn connect(&mut self, place: usize, other: usize) {
        let (own, remote) = (ConnectionId(self.number()), ConnectionId(self.number()));
        let delay = self.path.delay;
        let end = |other, told_at| End { other, told_at, shown: BTreeMap::new(), requests: BTreeSet::new() };
        self.network.ends.insert((place, own), end((other, remote), self.now + 2 * delay));
        self.network.ends.insert((other, remote), end((place, own), self.now + delay));
        let connected = |connection, node, dialled, life: u32| Input::PeerConnected {
            connection,
            node,
            dialled,
            instance: u64::from(life),
        };
        let (here, there) = (&self.nodes[place], &self.nodes[other]);
        let to_dialler = connected(own, there.id, true, there.life);
        let to_other = connected(remote, here.id, false, here.life);
        self.tell(other, delay, to_other);
        self.tell(place, 2 * delay, to_dialler);
    }

    /// Ends a connection: what is on it ends at both sides, then both are told.
    fn disconnect(&mut self, at: At<ConnectionId>, delay: Duration) {
        let Some(end) = self.network.ends.remove(&at) else { return };
        let Some(other_end) = self.network.ends.remove(&end.other) else { return };
        let other = end.other;
        for ((place, connection), end) in [(at, end), (other, other_end)] {
            for (interest, shown) in end.shown {
                self.network.shown_on.remove(&(place, interest));
                self.network.served.remove(&shown);
                self.tell(place, delay, Input::InterestClosed(interest, None));
                self.tell(shown.0, delay, Input::ServedClosed(shown.1));
            }
            for upload in end.requests {
                let server = end.other.0;
                if let Some(sent_bytes) = self.stop_sending(server, end.other.1, upload) {
                    self.tell(server, delay, Input::UploadEnded(upload, sent_bytes));
                }
                self.answer(server, upload, delay, Err(FetchError::Lost));
            }
            self.tell(
                place,
                delay.max(end.told_at.saturating_sub(self.now)),
                Input::PeerLost { connection, busy: false },
            );
        }
    }

    /// Where an open interest leads.
    fn shown(&self, place: usize, interest: InterestId) -> Option<At<ServedId>> {
        let connection = self.network.shown_on.get(&(place, interest))?;
        self.network.ends.get(&(place, *connection))?.shown.get(&interest).copied()
    }

    /// Takes an interest out; where it led.
    fn close_shown(&mut self, place: usize, interest: InterestId) -> Option<At<ServedId>> {
        let connection = self.network.shown_on.remove(&(place, interest))?;
        let shown = self.network.ends.get_mut(&(place, connection))?.shown.remove(&interest)?;
        self.network.served.remove(&shown);
        Some(shown)
    }

    fn provide(&mut self, place: usize, served: ServedId, message: FromProvider) {
        let Some(((other, interest), _)) = self.network.served.get(&(place, served)).copied() else { return };
        let delay = self.path.delay;
        if let FromProvider::Refused(reject) = message {
            self.close_shown(other, interest);
            self.tell(other, delay, Input::InterestClosed(interest, Some(reject)));
            self.tell(place, delay, Input::ServedClosed(served));
        } else {
            self.tell(other, delay, Input::Offered(interest, message));
        }
    }

    fn request(
        &mut self,
        place: usize,
        fetch: FetchId,
        connection: ConnectionId,
        content: ContentId,
        piece: Option<PieceIndex>,
    ) {
        let (upload, delay) = (UploadId(self.number()), self.path.delay);
        let Some(end) = self.network.ends.get_mut(&(place, connection)) else {
            return self.fetched(place, fetch, piece, delay, Err(FetchError::Lost));
        };
        let (other, remote) = end.other;
        end.requests.insert(upload);
        let request = Request { from: place, fetch, connection, content, piece, sending: false };
        self.network.requests.insert((other, upload), request);
        self.network.waits_at.insert((place, fetch), (other, upload));
        if self.nodes[other].silent && piece.is_some() {
            return self.put(self.now + SILENCE_MAX, Event::Silence(other, upload));
        }
        let asked = match piece {
            Some(piece) => Input::PieceRequested(upload, remote, PieceRequest { content, piece }),
            None => Input::ManifestRequested(upload, remote, content),
        };
        self.tell(other, delay, asked);
    }

    fn serve_manifest(&mut self, place: usize, upload: UploadId) {
        let Some(request) = self.end_request(place, upload) else { return };
        let manifest = self.nodes[place].disk.manifest(request.content);
        let manifest = manifest.expect("an engine serves only manifests that are kept");
        let shape = self.nodes[request.from].disk.keep_manifest(manifest);
        self.tell(request.from, self.path.delay, Input::ManifestFetched(request.fetch, Ok(shape)));
        self.tell(place, self.path.delay, Input::UploadEnded(upload, 0));
    }

    /// Begins to send a piece, if it is still wanted.
    fn serve_piece(&mut self, place: usize, upload: UploadId, content: ContentId, piece: PieceIndex, bytes: u64) {
        assert!(self.nodes[place].disk.has_piece(content, piece), "a piece that is not here is served");
        let Some(request) = self.network.requests.get_mut(&(place, upload)) else {
            return self.tell(place, Duration::ZERO, Input::UploadEnded(upload, 0));
        };
        request.sending = true;
        let (from, connection) = (request.from, request.connection);
        let Some(end) = self.network.ends.get(&(from, connection)) else { return };
        let connection = end.other.1;
        self.send(place, connection, upload, from, bytes);
    }

    /// The last byte of a piece has come: it is checked and written.
    pub(super) fn arrived(&mut self, server: usize, upload: UploadId) {
        let Some(Request { from, fetch, content, piece, .. }) = self.end_request(server, upload) else { return };
        let Some(piece) = piece else { return };
        let bytes = self.nodes[from].disk.piece_bytes(content, piece);
        let result = if self.nodes[server].liar { Err(FetchError::Corrupt) } else { Ok(bytes) };
        if result.is_ok() {
            if self.nodes[from].disk.write(content, piece) {
                *self.nodes[from].received_bytes.entry(server).or_default() += bytes;
            } else {
                self.nodes[server].wasted_bytes += bytes;
                self.nodes[from].fetched_twice += 1;
            }
            // The word that a piece is durable takes another way than the word that it came, and may overtake it.
            let sync_delay = SYNC_DELAY.mul_f64(self.random.f64());
            self.put(self.now + sync_delay, Event::Sync(from, self.nodes[from].life, content, piece));
        }
        let told_after = SYNC_DELAY.mul_f64(self.random.f64() / 20.0);
        self.fetched(from, fetch, Some(piece), told_after, result);
    }

    /// Nothing came of a request for too long.
    pub(super) fn gave_no_answer(&mut self, server: usize, upload: UploadId) {
        self.answer(server, upload, Duration::ZERO, Err(FetchError::Lost));
    }

    /// A node gives a fetch up: the server hears of it, and stops, as soon as a message takes.
    fn cancel(&mut self, place: usize, fetch: FetchId) {
        let Some((server, upload)) = self.network.waits_at.get(&(place, fetch)).copied() else { return };
        let Some(request) = self.network.requests.get(&(server, upload)) else { return };
        let (content, piece, sending) = (request.content, request.piece, request.sending);
        let remote = self.network.ends.get(&(place, request.connection)).map(|end| end.other.1);
        self.end_request(server, upload);
        if let (true, Some(remote), Some(piece)) = (sending, remote, piece) {
            let bytes = self.nodes[place].disk.piece_bytes(content, piece);
            self.network.unwanted.insert((server, upload), (remote, bytes));
            self.put(self.now + self.path.delay, Event::Unwanted(server, upload));
        }
        self.fetched(place, fetch, piece, Duration::ZERO, Err(FetchError::Cancelled));
    }

    /// A server hears that a piece it sends is no longer wanted.
    pub(super) fn unwanted(&mut self, server: usize, upload: UploadId) {
        let Some((connection, bytes)) = self.network.unwanted.remove(&(server, upload)) else { return };
        let stopped = self.stop_sending(server, connection, upload);
        self.nodes[server].wasted_bytes += stopped.unwrap_or(bytes);
        if let Some(sent_bytes) = stopped {
            self.tell(server, Duration::ZERO, Input::UploadEnded(upload, sent_bytes));
        }
    }

    /// A server stops sending a piece, or refuses it if it has not begun to.
    fn stop_upload(&mut self, server: usize, upload: UploadId, reject: Reject) {
        let delay = self.path.delay;
        let Some(request) = self.network.requests.get(&(server, upload)) else { return };
        if !request.sending {
            return self.answer(server, upload, delay, Err(FetchError::Refused(reject)));
        }
        let remote = self.network.ends.get(&(request.from, request.connection)).map(|end| end.other.1);
        // What has left already comes to nothing.
        let stopped = remote.and_then(|connection| self.stop_sending(server, connection, upload));
        if let Some(sent_bytes) = stopped {
            self.tell(server, Duration::ZERO, Input::UploadEnded(upload, sent_bytes));
        }
        self.answer(server, upload, delay, Err(FetchError::Lost));
    }

    /// Answers a request, once.
    fn answer(&mut self, server: usize, upload: UploadId, delay: Duration, result: Result<u64, FetchError>) {
        if let Some(Request { from, fetch, piece, .. }) = self.end_request(server, upload) {
            self.fetched(from, fetch, piece, delay, result);
        }
    }

    /// Takes a request out.
    fn end_request(&mut self, server: usize, upload: UploadId) -> Option<Request> {
        let request = self.network.requests.remove(&(server, upload))?;
        self.network.waits_at.remove(&(request.from, request.fetch));
        if let Some(end) = self.network.ends.get_mut(&(request.from, request.connection)) {
            end.requests.remove(&upload);
        }
        Some(request)
    }

    /// Tells a node how a fetch ended.
    fn fetched(
        &mut self,
        place: usize,
        fetch: FetchId,
        piece: Option<PieceIndex>,
        delay: Duration,
        result: Result<u64, FetchError>,
    ) {
        let received_bytes = *result.as_ref().unwrap_or(&0);
        let input = match (piece, result) {
            (None, result) => Input::ManifestFetched(fetch, Err(result.err().unwrap_or(FetchError::Lost))),
            (Some(_), result) => {
                Input::PieceFetched { fetch, received_bytes, round_trip: 2 * self.path.delay, result: result.map(drop) }
            }
        };
        self.tell(place, delay, input);
    }

    fn number(&mut self) -> u64 {
        self.network.next_number += 1;
        self.network.next_number
    }
}
