//! The simulated network: connections between nodes, and pieces that take their time on an uplink.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::peer::{FromProvider, PieceRequest};
use p2p_proto::reject::Reject;
use p2pd::engine::input::{ConnectionId, FetchError, FetchId, InterestId, ServedId, UploadId};
use p2pd::engine::{Input, Output};

use super::{Event, LATENCY, SYNC_DELAY, World};

/// How long a node takes to notice that a peer was killed.
const DEATH_NOTICED: Duration = Duration::from_millis(300);

/// A node and one of its numbers.
type At<T> = (usize, T);

/// A request that a node was sent.
struct Request {
    from: usize,
    fetch: FetchId,
    connection: ConnectionId,
    /// `None` for the manifest.
    piece: Option<PieceIndex>,
}

/// What a fetch ends with.
pub(super) struct Arrival {
    pub to: usize,
    /// The life of the node that asked.
    pub life: u32,
    pub fetch: FetchId,
    pub piece: Option<PieceIndex>,
    pub result: Result<(ContentId, u64), FetchError>,
}

/// All that is connected.
#[derive(Default)]
pub(super) struct Network {
    next_number: u64,
    /// Each end's number of a connection to the other end.
    connections: BTreeMap<At<ConnectionId>, At<ConnectionId>>,
    /// Interests from who downloads to who serves, and back.
    shown: BTreeMap<At<InterestId>, (At<ServedId>, ConnectionId)>,
    served: BTreeMap<At<ServedId>, At<InterestId>>,
    requests: BTreeMap<At<UploadId>, Request>,
    cancelled: BTreeSet<At<FetchId>>,
    /// Pieces that were given to an uplink, also those that have arrived.
    sending: BTreeMap<At<UploadId>, Sending>,
}

/// A piece on an uplink.
struct Sending {
    /// Who is sent it.
    to: usize,
    fetch: FetchId,
    piece: Option<PieceIndex>,
    bytes: u64,
    /// The events of its being sent, and of its coming in.
    sent: u64,
    arrives: u64,
}

impl World {
    /// Performs an output of the network's.
    pub(super) fn perform_network(&mut self, place: usize, output: Output) {
        match output {
            Output::Dial(node, _) => match self.place(node).filter(|other| self.nodes[*other].engine.is_some()) {
                Some(other) => self.connect(place, other),
                None => {
                    let failed = Input::DialFailed { node, reason: "nobody there".to_owned(), busy: false };
                    self.tell(place, Duration::from_secs(3), failed);
                }
            },
            Output::Close(connection, _) => self.disconnect((place, connection), LATENCY),
            Output::OpenInterest(interest, connection, shown) => {
                let Some((other, remote)) = self.network.connections.get(&(place, connection)).copied() else {
                    return self.tell(place, LATENCY, Input::InterestClosed(interest, None));
                };
                let served = ServedId(self.number());
                self.network.shown.insert((place, interest), ((other, served), connection));
                self.network.served.insert((other, served), (place, interest));
                self.tell(other, LATENCY, Input::InterestOpened { served, connection: remote, interest: shown });
            }
            Output::RenewInterest(interest, grant) => {
                if let Some(((other, served), _)) = self.network.shown.get(&(place, interest)).copied() {
                    self.tell(other, LATENCY, Input::InterestRenewed(served, grant));
                }
            }
            Output::CloseInterest(interest) => {
                if let Some(((other, served), _)) = self.network.shown.remove(&(place, interest)) {
                    self.network.served.remove(&(other, served));
                    self.tell(other, LATENCY, Input::ServedClosed(served));
                }
            }
            // There is room for everybody.
            Output::Admitted(..) => {}
            Output::Provide(served, message) => self.provide(place, served, message),
            Output::RefuseUpload(upload, reject) => {
                self.answer(place, upload, LATENCY, Err(FetchError::Refused(reject)))
            }
            Output::StopUpload(upload, reject) => self.stop_upload(place, upload, reject),
            Output::LimitUploads(rate) => self.nodes[place].up_limit = rate,
            Output::FetchManifest(fetch, connection, content) => {
                self.request(place, fetch, connection, content, None);
            }
            Output::FetchPiece(fetch, connection, content, piece, _) => {
                self.request(place, fetch, connection, content, Some(piece));
            }
            Output::CancelFetch(fetch) => drop(self.network.cancelled.insert((place, fetch))),
            Output::ServePiece(upload, content, piece, bytes) => self.serve_piece(place, upload, content, piece, bytes),
            Output::ServeManifest(upload, content, _) => self.serve_manifest(place, upload, content),
            other => panic!("not the network's: {other:?}"),
        }
    }

    /// Whether any piece is on its way to a node.
    pub fn is_being_sent_to(&self, place: usize) -> bool {
        let mut on_the_way = self.network.sending.values().filter(|piece| self.events.contains_key(&piece.sent));
        on_the_way.any(|piece| piece.to == place)
    }

    /// A node was killed: its connections end, as the others notice.
    pub(super) fn cut_connections(&mut self, place: usize) {
        let ends: Vec<_> = self.network.connections.keys().filter(|(node, _)| *node == place).copied().collect();
        ends.into_iter().for_each(|end| self.disconnect(end, DEATH_NOTICED));
    }

    fn connect(&mut self, place: usize, other: usize) {
        let (own, remote) = (ConnectionId(self.number()), ConnectionId(self.number()));
        self.network.connections.insert((place, own), (other, remote));
        self.network.connections.insert((other, remote), (place, own));
        let connected = |connection, node, dialled, life: u32| Input::PeerConnected {
            connection,
            node,
            dialled,
            instance: u64::from(life),
        };
        let (here, there) = (&self.nodes[place], &self.nodes[other]);
        let to_dialler = connected(own, there.id, true, there.life);
        let to_other = connected(remote, here.id, false, here.life);
        self.tell(other, LATENCY, to_other);
        self.tell(place, 2 * LATENCY, to_dialler);
    }

    /// Ends a connection: what is on it ends at both sides, then both are told.
    fn disconnect(&mut self, end: At<ConnectionId>, delay: Duration) {
        let Some(other_end) = self.network.connections.remove(&end) else { return };
        self.network.connections.remove(&other_end);
        for (place, connection) in [end, other_end] {
            let on_it = |(_, (_, used)): &(&At<InterestId>, &(At<ServedId>, ConnectionId))| *used == connection;
            let shown = self.network.shown.iter().filter(|(at, _)| at.0 == place).filter(on_it);
            let shown: Vec<_> = shown.map(|(at, (served, _))| (*at, *served)).collect();
            for (at, served) in shown {
                self.network.shown.remove(&at);
                self.network.served.remove(&served);
                self.tell(at.0, delay, Input::InterestClosed(at.1, None));
                self.tell(served.0, delay, Input::ServedClosed(served.1));
            }
            let requests = self.network.requests.iter();
            let lost = requests.filter(|(_, request)| request.from == place && request.connection == connection);
            let lost: Vec<_> = lost.map(|(at, _)| *at).collect();
            for (server, upload) in lost {
                self.answer(server, upload, delay, Err(FetchError::Lost));
            }
            self.tell(place, delay, Input::PeerLost(connection));
        }
    }

    fn provide(&mut self, place: usize, served: ServedId, message: FromProvider) {
        let Some((other, interest)) = self.network.served.get(&(place, served)).copied() else { return };
        if let FromProvider::Refused(reject) = message {
            self.network.served.remove(&(place, served));
            self.network.shown.remove(&(other, interest));
            self.tell(other, LATENCY, Input::InterestClosed(interest, Some(reject)));
            self.tell(place, LATENCY, Input::ServedClosed(served));
        } else {
            self.tell(other, LATENCY, Input::Offered(interest, message));
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
        let Some((other, remote)) = self.network.connections.get(&(place, connection)).copied() else {
            return self.arrive(place, LATENCY, fetch, piece, Err(FetchError::Lost));
        };
        let upload = UploadId(self.number());
        self.network.requests.insert((other, upload), Request { from: place, fetch, connection, piece });
        if self.nodes[other].silent && piece.is_some() {
            return;
        }
        self.tell(
            other,
            LATENCY,
            match piece {
                Some(piece) => Input::PieceRequested(upload, remote, PieceRequest { content, piece }),
                None => Input::ManifestRequested(upload, remote, content),
            },
        );
    }

    fn serve_manifest(&mut self, place: usize, upload: UploadId, content: ContentId) {
        let Some(request) = self.network.requests.remove(&(place, upload)) else { return };
        let manifest = self.nodes[place].disk.manifest(content).expect("an engine serves only manifests that are kept");
        let shape = self.nodes[request.from].disk.keep_manifest(manifest);
        self.tell(request.from, LATENCY, Input::ManifestFetched(request.fetch, Ok(shape)));
        self.tell(place, LATENCY, Input::UploadEnded(upload, 0));
    }

    /// Sends a piece: it waits for the uplink, takes its time on it, and arrives.
    fn serve_piece(&mut self, place: usize, upload: UploadId, content: ContentId, piece: PieceIndex, bytes: u64) {
        assert!(self.nodes[place].disk.has_piece(content, piece), "a piece that is not here is served");
        let wanted = self.network.requests.get(&(place, upload)).map(|request| (request.from, request.fetch));
        if wanted.is_none_or(|fetch| self.network.cancelled.contains(&fetch)) {
            self.network.requests.remove(&(place, upload));
            return self.tell(place, Duration::ZERO, Input::UploadEnded(upload, 0));
        }
        let node = &mut self.nodes[place];
        let start = node.up_free_at.max(self.now);
        node.up_free_at = start + Duration::from_nanos(bytes * 1_000_000_000 / node.rate_now());
        node.served_bytes += bytes;
        let (sent_in, corrupt) = (node.up_free_at - self.now, node.liar);
        let result = if corrupt { Err(FetchError::Corrupt) } else { Ok((content, bytes)) };
        let sent = self.next_event;
        self.tell(place, sent_in, Input::UploadEnded(upload, bytes));
        if let Some(Request { from: to, fetch, piece, .. }) = self.network.requests.remove(&(place, upload)) {
            let arrives = self.next_event;
            self.arrive(to, sent_in + LATENCY, fetch, piece, result);
            self.network.sending.insert((place, upload), Sending { to, fetch, piece, bytes, sent, arrives });
        }
    }

    /// Stops what is being sent; it counts for nothing, however much of it was.
    fn stop_upload(&mut self, place: usize, upload: UploadId, reject: Reject) {
        match self.network.sending.remove(&(place, upload)) {
            Some(Sending { to, fetch, piece, bytes, sent, arrives }) if self.events.remove(&sent).is_some() => {
                self.events.remove(&arrives);
                self.nodes[place].served_bytes -= bytes;
                self.tell(place, Duration::ZERO, Input::UploadEnded(upload, 0));
                self.arrive(to, LATENCY, fetch, piece, Err(FetchError::Lost));
            }
            _ => self.answer(place, upload, LATENCY, Err(FetchError::Refused(reject))),
        }
    }

    /// Answers a request, once.
    fn answer(
        &mut self,
        place: usize,
        upload: UploadId,
        delay: Duration,
        result: Result<(ContentId, u64), FetchError>,
    ) {
        if let Some(Request { from, fetch, piece, .. }) = self.network.requests.remove(&(place, upload)) {
            self.arrive(from, delay, fetch, piece, result);
        }
    }

    fn arrive(
        &mut self,
        to: usize,
        delay: Duration,
        fetch: FetchId,
        piece: Option<PieceIndex>,
        result: Result<(ContentId, u64), FetchError>,
    ) {
        let life = self.nodes[to].life;
        self.put(self.now + delay, Event::Arrive(Arrival { to, life, fetch, piece, result }));
    }

    /// A fetch ends: a good piece is written, and synced a little later.
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        let Arrival { to, life, fetch, piece, result } = arrival;
        if self.nodes[to].life != life || self.nodes[to].engine.is_none() {
            return;
        }
        let Some(piece) = piece else {
            let result = Err(result.err().unwrap_or(FetchError::Lost));
            return self.tell(to, Duration::ZERO, Input::ManifestFetched(fetch, result));
        };
        let cancelled = self.network.cancelled.remove(&(to, fetch));
        let result = if cancelled { Err(FetchError::Cancelled) } else { result };
        let received_bytes = result.as_ref().map_or(0, |(_, bytes)| *bytes);
        if let Ok((content, _)) = result {
            self.nodes[to].disk.write(content, piece);
            // The word that a piece is durable takes another way than the word that it came, and may overtake it.
            let sync_delay = SYNC_DELAY.mul_f64(self.random.f64());
            self.put(self.now + sync_delay, Event::Sync(to, life, content, piece));
        }
        let told_after = SYNC_DELAY.mul_f64(self.random.f64() / 20.0);
        let result = result.map(drop);
        self.tell(to, told_after, Input::PieceFetched { fetch, received_bytes, round_trip: 2 * LATENCY, result });
    }

    fn number(&mut self) -> u64 {
        self.network.next_number += 1;
        self.network.next_number
    }
}
