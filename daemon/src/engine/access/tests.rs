//! Which grants hold, and everything that ends with one.

use std::path::PathBuf;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::GrantSigner;
use p2p_proto::id::ContentId;
use p2p_proto::limit::{GRANT_LIFE_SECONDS, PIECE_BYTES_MIN};
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::peer::{Interest, PieceRequest};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{BUILT_IN_BORN, Event};

use super::super::input::{ConnectionId, TrackerId, UploadId};
use super::super::record::{Account, Restored, Shape, ShareRecord, SourceStamp};
use super::super::{Config, Input, Limits, Now};
use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn group(name: &str) -> GroupName {
    name.parse().expect("a good name")
}

fn node(number: u64) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(id)
}

#[test]
fn void_are_grants_of_earlier_epochs_for_that_node_and_group() {
    let mut revoked = Revoked::default();
    revoked.insert(Some(&group("g")), Some(node(1)), 5, NOW);
    let voids = |name: &str, number, epoch| revoked.voids(&group(name), node(number), epoch, NOW);
    assert_eq!([4, 5, 6].map(|epoch| voids("G", 1, epoch)), [true, false, false]);
    assert!(!voids("g", 2, 4) && !voids("h", 1, 4));
    assert!(!revoked.voids(&group("g"), node(1), 4, NOW + KEPT + Duration::from_millis(1)), "it has ended by itself");
}

#[test]
fn void_for_everybody_is_void_for_each() {
    let mut revoked = Revoked::default();
    revoked.insert(Some(&group("g")), Some(node(1)), 5, NOW);
    revoked.insert(Some(&group("g")), None, 3, NOW);
    revoked.insert(Some(&group("g")), Some(node(1)), 2, NOW);
    let voids = |number, epoch| revoked.voids(&group("g"), node(number), epoch, NOW);
    assert_eq!(
        [(1, 4), (1, 5), (2, 2), (2, 3)].map(|(number, epoch)| voids(number, epoch)),
        [true, false, true, false]
    );
}

#[test]
fn too_many_revocations_void_more_and_not_less() {
    let mut revoked = Revoked::default();
    let many = REVOKED_MAX as u64 + 10;
    for number in 0..many {
        revoked.insert(Some(&group("g")), Some(node(number)), number + 1, NOW);
    }
    assert!(revoked.rows.len() <= REVOKED_MAX);
    assert!((0..many).all(|number| revoked.voids(&group("g"), node(number), number, NOW)));
    assert!(!revoked.voids(&group("g"), node(0), many, NOW));
    revoked.insert(Some(&group("g")), Some(node(0)), many, NOW + KEPT + KEPT);
    assert_eq!(revoked.rows.len(), 1, "those that no grant can be older than make room first");
}

#[test]
fn what_was_pushed_out_stays_void_when_older_ones_follow() {
    let mut revoked = Revoked::default();
    let many = REVOKED_MAX as u64;
    // Trackers that are not of one mind: what is heard first was revoked last.
    for number in 0..=many {
        revoked.insert(Some(&group("g")), Some(node(number)), 100, NOW);
    }
    let pushed_out = (0..=many).find(|number| !revoked.rows.contains_key(&(Some(group("g")), Some(node(*number)))));
    let pushed_out = node(pushed_out.expect("one had to make room"));
    assert!(revoked.voids(&group("g"), pushed_out, 99, NOW));
    revoked.insert(Some(&group("h")), None, 1, NOW);
    assert!(!revoked.rows.contains_key(&(Some(group("h")), None)), "the oldest of them makes room");
    assert!(revoked.voids(&group("g"), pushed_out, 99, NOW), "still");
}

#[test]
fn another_cluster_counts_by_itself() {
    let mut revoked = Revoked::default();
    revoked.keep_for(ClusterKey([1; 32]));
    revoked.insert(Some(&group("g")), None, 5, NOW);
    revoked.keep_for(ClusterKey([1; 32]));
    assert!(revoked.voids(&group("g"), node(1), 4, NOW));
    revoked.keep_for(ClusterKey([2; 32]));
    assert!(!revoked.voids(&group("g"), node(1), 4, NOW));
}

/// What a peer is told when its interest ends, and about which requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ended {
    refused: Vec<(u64, ErrorCode)>,
    stopped: Vec<u64>,
    interests: Vec<(u64, ErrorCode)>,
}

/// A daemon with one share in the group `g`, to which the nodes 1 and 2 are connected under these numbers.
struct Bench {
    engine: Engine,
    signer: GrantSigner,
    now: Duration,
    /// Requests that are being served.
    serving: Vec<u64>,
}

const CONTENT: ContentId = ContentId([7; 32]);
const PIECES: u32 = 100;
/// When the group was born.
const BORN: UnixMillis = UnixMillis(5);
const LIFE: Duration = Duration::from_secs(GRANT_LIFE_SECONDS);

impl Bench {
    fn new() -> Bench {
        Bench::with_share(|_| {})
    }

    fn with_share(change: impl FnOnce(&mut ShareRecord)) -> Bench {
        let signer = GrantSigner::from_document(&GrantSigner::generate_document().expect("made")).expect("reads");
        let length = u64::from(PIECES) * PIECE_BYTES_MIN;
        let mut share = ShareRecord {
            resting: false,
            user: "alice".parse().expect("a good name"),
            group: group("g"),
            name: "f".parse().expect("a good name"),
            content: CONTENT,
            shape: Shape { length, piece_length: PIECE_BYTES_MIN, hash: HashAlgorithm::Blake3 },
            path: PathBuf::from("/f"),
            stamp: SourceStamp { length, modified_ns: 0, device: 1, inode: 1 },
            added: UnixMillis(0),
            born: Some(BORN),
        };
        change(&mut share);
        let account = Account { user: share.user.clone(), cluster: signer.public_key() };
        let config = Config {
            node: node(9),
            software: "test".to_owned(),
            trackers: vec!["t:1".to_owned()],
            seed: 1,
            process_id: 1,
            streams_folder: "/streams".into(),
            uploads_folder: "/uploads".into(),
            limits: Limits { uploads_active_max: 2, ..Limits::default() },
        };
        let restored = Restored { account: Some(account), shares: vec![share], ..Restored::default() };
        let engine = Engine::new(config, restored, at(NOW));
        let mut bench = Bench { engine, signer, now: NOW, serving: Vec::new() };
        for number in [1, 2] {
            let connection = ConnectionId(number);
            let connected = Input::PeerConnected { connection, node: node(number), dialled: false, instance: 1 };
            assert_eq!(bench.handle(connected), Ended::default());
        }
        bench
    }

    /// What a node was granted in an epoch, now.
    fn grant(&self, number: u64, epoch: u64) -> Grant {
        self.grant_of(number, epoch, BORN)
    }

    /// The same for the group of that name that was born then.
    fn grant_of(&self, number: u64, epoch: u64, born: UnixMillis) -> Grant {
        let user = format!("user{number}").parse().expect("a good name");
        let cluster = self.signer.public_key();
        self.signer.sign(&GrantBody::new(cluster, node(number), user, group("g"), born, epoch, at(self.now).wall))
    }

    fn handle(&mut self, input: Input) -> Ended {
        self.engine.handle(at(self.now), input);
        self.ended()
    }

    /// Lets time pass, as far as something is due.
    fn wait(&mut self, span: Duration) -> Ended {
        let until = self.now + span;
        let mut ended = Ended::default();
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.engine.tick(at(self.now));
            let more = self.ended();
            ended.refused.extend(more.refused);
            ended.stopped.extend(more.stopped);
            ended.interests.extend(more.interests);
        }
        self.now = until;
        ended
    }

    fn ended(&mut self) -> Ended {
        let mut ended = Ended::default();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::ServePiece(upload, ..) | Output::ServeManifest(upload, ..) => self.serving.push(upload.0),
                Output::RefuseUpload(upload, reject) => ended.refused.push((upload.0, reject.code)),
                Output::StopUpload(upload, _) => ended.stopped.push(upload.0),
                Output::Provide(served, FromProvider::Refused(reject)) => ended.interests.push((served.0, reject.code)),
                _ => {}
            }
        }
        self.engine.invariant().expect("invariant");
        ended
    }

    fn open(&mut self, served: u64, number: u64, grant: Grant) -> Ended {
        let interest = Interest { content: CONTENT, group: group("G"), grant };
        self.handle(Input::InterestOpened { served: ServedId(served), connection: ConnectionId(number), interest })
    }

    fn ask(&mut self, upload: u64, number: u64) -> Ended {
        let request = PieceRequest { content: CONTENT, piece: PieceIndex(upload as u32) };
        self.handle(Input::PieceRequested(UploadId(upload), ConnectionId(number), request))
    }

    fn revoke(&mut self, number: Option<u64>, epoch: u64) -> Ended {
        let event = Event::Revoked { group: group("g"), node: number.map(node), epoch };
        self.handle(Input::TrackerEvent(TrackerId(0), event))
    }
}

fn at(monotonic: Duration) -> Now {
    Now { monotonic, wall: UnixMillis(1_800_000_000_000 + monotonic.as_millis() as u64) }
}

/// A bench on which both nodes read: of node 1 one piece is sent and two wait, of node 2 one is sent and one waits.
fn busy() -> Bench {
    let mut bench = Bench::new();
    for number in [1, 2] {
        let grant = bench.grant(number, 3);
        assert_eq!(bench.open(number, number, grant), Ended::default());
    }
    for (upload, number) in [(10, 1), (20, 2), (11, 1), (21, 2), (12, 1)] {
        assert_eq!(bench.ask(upload, number), Ended::default());
    }
    assert_eq!(bench.serving, [10, 20]);
    bench
}

#[test]
fn a_revocation_ends_everything_that_one_node_is_served_and_nothing_else() {
    let mut bench = busy();
    let not_member = ErrorCode::NOT_MEMBER;
    let ended = Ended {
        refused: vec![(11, not_member), (12, not_member)],
        stopped: vec![10],
        interests: vec![(1, not_member)],
    };
    assert_eq!(bench.revoke(Some(1), 4), ended);
    assert_eq!(bench.ask(13, 1).refused, [(13, ErrorCode::GRANT_REFUSED)]);
    bench.handle(Input::UploadEnded(UploadId(10), 0));
    assert_eq!(bench.serving, [10, 20, 21], "the place is another's");
    // What was granted before is void, what is granted after holds.
    let (old, new) = (bench.grant(1, 3), bench.grant(1, 4));
    assert_eq!(bench.open(3, 1, old.clone()).interests, [(3, ErrorCode::GRANT_REFUSED)]);
    assert_eq!(bench.open(4, 1, new), Ended::default());
    assert_eq!(bench.revoke(Some(1), 4), Ended::default(), "told again, it voids nothing new");
    assert_eq!(bench.handle(Input::InterestRenewed(ServedId(4), old)).interests, [(4, ErrorCode::GRANT_REFUSED)]);
}

#[test]
fn a_node_that_is_logged_out_is_served_in_no_group_any_more() {
    let mut bench = busy();
    let ended = bench.handle(Input::TrackerEvent(TrackerId(0), Event::LoggedOut { nodes: vec![(node(1), 4)] }));
    assert_eq!((ended.interests, ended.stopped), (vec![(1, ErrorCode::NOT_MEMBER)], vec![10]));
    let (old, new) = (bench.grant(1, 3), bench.grant(1, 4));
    assert_eq!(bench.open(3, 1, old).interests, [(3, ErrorCode::GRANT_REFUSED)]);
    assert_eq!(bench.open(4, 1, new), Ended::default(), "who has logged in again");
}

#[test]
fn what_is_void_for_everybody_ends_for_each_who_has_no_newer_grant() {
    let mut bench = busy();
    let renewed = bench.grant(2, 4);
    bench.handle(Input::InterestRenewed(ServedId(2), renewed));
    let ended = bench.revoke(None, 4);
    assert_eq!((ended.stopped, ended.interests), (vec![10], vec![(1, ErrorCode::GRANT_REFUSED)]));
}

#[test]
fn a_grant_that_ends_ends_all_that_is_served_by_it_at_that_moment() {
    let mut bench = busy();
    bench.wait(LIFE / 2);
    let renewed = bench.grant(2, 3);
    bench.handle(Input::InterestRenewed(ServedId(2), renewed));
    assert_eq!(bench.wait(LIFE / 2 - Duration::from_millis(1)), Ended::default());
    let over = ErrorCode::GRANT_REFUSED;
    let ended = Ended { refused: vec![(11, over), (12, over)], stopped: vec![10], interests: vec![(1, over)] };
    assert_eq!(bench.wait(Duration::from_millis(1)), ended);
    assert_eq!(bench.wait(LIFE / 2).interests, [(2, over)], "the renewed one ends by its own time");
}

#[test]
fn a_newer_interest_in_a_content_takes_the_place_of_the_older() {
    let mut bench = busy();
    let grant = bench.grant(1, 3);
    let busy = ErrorCode::BUSY;
    let ended = Ended { refused: vec![(11, busy), (12, busy)], stopped: vec![10], interests: vec![(1, busy)] };
    assert_eq!(bench.open(3, 1, grant), ended);
    // The older one's end, which comes late, ends nothing of the newer.
    bench.ask(13, 1);
    assert_eq!(bench.handle(Input::ServedClosed(ServedId(1))), Ended::default());
    bench.handle(Input::UploadEnded(UploadId(10), 0));
    bench.handle(Input::UploadEnded(UploadId(20), 0));
    assert_eq!(bench.serving[2..], [13, 21]);
}

#[test]
fn an_interest_that_its_peer_ends_leaves_nothing_behind() {
    let mut bench = busy();
    bench.handle(Input::ManifestRequested(UploadId(14), ConnectionId(1), CONTENT));
    let over = ErrorCode::GRANT_REFUSED;
    let ended = Ended { refused: vec![(11, over), (12, over)], stopped: vec![10, 14], interests: vec![] };
    assert_eq!(bench.handle(Input::ServedClosed(ServedId(1))), ended);
    assert_eq!(bench.wait(LIFE).interests, [(2, over)], "and no timer");
}

#[test]
fn a_grant_for_another_group_of_the_name_opens_nothing_and_renews_nothing() {
    let mut bench = busy();
    for born in [UnixMillis(BORN.0 + 1), BUILT_IN_BORN] {
        let another = bench.grant_of(2, 4, born);
        assert_eq!(bench.open(3, 2, another).interests, [(3, ErrorCode::CONTENT_NOT_FOUND)]);
    }
    let another = bench.grant_of(1, 4, UnixMillis(BORN.0 + 1));
    let refused = ErrorCode::GRANT_REFUSED;
    let ended = Ended { refused: vec![(11, refused), (12, refused)], stopped: vec![10], interests: vec![(1, refused)] };
    assert_eq!(bench.handle(Input::InterestRenewed(ServedId(1), another)), ended);
}

#[test]
fn a_share_from_before_is_given_to_a_group_that_is_older_than_it_and_to_no_other() {
    let told = |born| Input::TrackerEvent(TrackerId(0), Event::Born { group: group("g"), born });
    let mut bench = Bench::with_share(|share| (share.born, share.added) = (None, UnixMillis(7)));
    let grant = |bench: &Bench, born| bench.grant_of(1, 3, UnixMillis(born));
    let refused = |served| vec![(served, ErrorCode::CONTENT_NOT_FOUND)];
    let early = grant(&bench, 6);
    assert_eq!(bench.open(1, 1, early).interests, refused(1), "nobody knows of which group it is");
    bench.handle(told(UnixMillis(8)));
    let younger = grant(&bench, 8);
    assert_eq!(bench.open(2, 1, younger).interests, refused(2), "it was not shared with a group that was not there");
    bench.handle(told(UnixMillis(6)));
    let older = grant(&bench, 6);
    assert_eq!(bench.open(3, 1, older), Ended::default());
    bench.handle(told(UnixMillis(5)));
    let another = grant(&bench, 5);
    let others = bench.grant_of(2, 3, UnixMillis(5));
    assert_eq!(bench.open(4, 2, others).interests, refused(4), "given once");
    assert_eq!(bench.handle(Input::InterestRenewed(ServedId(3), another)).interests, [(3, ErrorCode::GRANT_REFUSED)]);
}
