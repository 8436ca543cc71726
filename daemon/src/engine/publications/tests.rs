//! What no tracker takes is asked for again under the same id, until it is made or refused for good.

use p2p_proto::grant::ClusterKey;
use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Answer, Group, HelloAck, JoinPolicy, Knowledge, Standing};

use super::super::input::{AskId, Imported, TrackerId};
use super::super::record::{Account, Restored, Shape, SourceStamp};
use super::super::{Config, Input, Limits, Now};
use super::*;

const TRACKER: TrackerId = TrackerId(0);

fn at(milliseconds: u64) -> Now {
    Now { monotonic: Duration::from_millis(milliseconds), wall: UnixMillis(1_000_000 + milliseconds) }
}

/// An engine of alice, who is logged in; its one tracker has not answered yet.
fn engine(restored: Restored) -> Engine {
    let config = Config {
        node: NodeId([0x11; 32]),
        software: "p2pd 0".to_owned(),
        trackers: vec!["192.0.2.10:9000".to_owned()],
        seed: 1,
        process_id: 1,
        limits: Limits::default(),
        streams_folder: "/streams".into(),
        uploads_folder: "/uploads".into(),
    };
    let account = Account { user: "alice".parse().expect("a good name"), cluster: ClusterKey([1; 32]) };
    Engine::new(config, Restored { account: Some(account), ..restored }, at(0))
}

fn connect(engine: &mut Engine, now: u64) {
    let ack = HelloAck {
        version: 1,
        software: "tracker 0".to_owned(),
        cluster: ClusterKey([1; 32]),
        time: UnixMillis(1_000_000),
        observed: "192.0.2.7:4000".parse().expect("an address"),
        user: Some("alice".parse().expect("a good name")),
        leader: true,
        current: true,
        place: 0,
    };
    let (round_trip, node, key_exchange) = (Duration::from_millis(1), NodeId([0xee; 32]), "none".to_owned());
    engine.handle(at(now), Input::TrackerConnected { tracker: TRACKER, node, ack, round_trip, key_exchange });
}

fn upload(engine: &mut Engine, now: u64) {
    let request = control::Request::UploadFile {
        path: LocalPath("/srv/a".into()),
        group: "photos".parse().expect("a good name"),
        name: "a".parse().expect("a good name"),
        hash: HashAlgorithm::Blake3,
        whole_digest: false,
        force: false,
        wait_copies: 0,
        follow_links: false,
    };
    engine.handle(at(now), Input::Command(CommandId(now), request));
}

/// What the engine asks a tracker about the group and its listing, has hashed, keeps, and tells.
#[derive(Debug, Default)]
struct Done {
    asked: Vec<(AskId, RequestId, Request)>,
    hashed: Vec<AskId>,
    kept: Vec<(AskId, Vec<Change>)>,
    told: Vec<Result<control::Answer, Reject>>,
}

fn done(engine: &mut Engine) -> Done {
    let mut done = Done::default();
    while let Some(output) = engine.poll_output() {
        match output {
            Output::AskTracker(ask, _, envelope)
                if matches!(envelope.request, Request::GroupInfo { .. } | Request::Publish { .. }) =>
            {
                done.asked.push((ask, envelope.id, envelope.request));
            }
            Output::Import { ask, .. } => done.hashed.push(ask),
            Output::Remember(ask, changes) => done.kept.push((ask, changes)),
            Output::Tell(_, control::Frame::Result(result)) => done.told.push(result),
            _ => {}
        }
    }
    done
}

fn hashed(engine: &mut Engine, now: u64, ask: AskId) {
    let shape = Shape { length: 1, piece_length: PIECE_BYTES_MIN, hash: HashAlgorithm::Blake3 };
    let stamp = SourceStamp { length: 1, modified_ns: 0, device: 1, inode: 1 };
    let content = ContentId([5; 32]);
    let imported = Imported { content, shape, stamp, whole_sha256: None, elapsed: Duration::ZERO, folder: None };
    engine.handle(at(now), Input::Imported(ask, Ok(imported)));
}

fn answer(engine: &mut Engine, now: u64, ask: AskId, reply: Reply) {
    let knowledge = Some(Knowledge { current: true, place: 1 });
    engine.handle(at(now), Input::TrackerAnswered { ask, tracker: TRACKER, reply, knowledge });
}

fn photos(standing: Standing) -> Reply {
    Ok(Answer::Groups(vec![Group {
        group: "photos".parse().expect("a good name"),
        owner: "alice".parse().expect("a good name"),
        policy: JoinPolicy::Approval,
        members: 1,
        files: 0,
        standing,
        born: UnixMillis(7),
    }]))
}

/// Uploads while no majority answers, until the command is told that it waits; the id under which it was asked for.
fn wait_to_be_published(engine: &mut Engine) -> (RequestId, PublicationRecord) {
    connect(engine, 0);
    upload(engine, 10);
    let ask = done(engine).asked.remove(0).0;
    answer(engine, 11, ask, photos(Standing::Owner));
    let ask = done(engine).hashed.remove(0);
    hashed(engine, 12, ask);
    let (ask, id, _) = done(engine).asked.remove(0);
    answer(engine, 13, ask, Err(Reject::new(ErrorCode::NO_MAJORITY, "too few")));
    let (ask, kept) = done(engine).kept.remove(0);
    let [Change::PutPublication(record)] = kept.as_slice() else { panic!("{kept:?}") };
    let record = record.clone();
    assert!(done(engine).told.is_empty(), "not before it is on disk");
    engine.handle(at(14), Input::Remembered(ask, Ok(())));
    let told = done(engine).told.remove(0).expect_err("it is not published");
    assert_eq!((told.code, told.code.exit_code()), (ErrorCode::NO_MAJORITY, 8));
    assert!(told.message.contains("waits to be published in photos"), "{}", told.message);
    (id, record)
}

#[test]
fn what_waits_is_asked_for_under_one_id_until_it_is_made() {
    let mut engine = engine(Restored::default());
    let (id, record) = wait_to_be_published(&mut engine);
    assert_eq!(engine.publication_rows().count(), 1);
    engine.tick(at(14 + RETRY_MS));
    let (ask, again, request) = done(&mut engine).asked.remove(0);
    assert!(matches!(request, Request::Publish { .. }));
    assert_eq!(again, id, "it may have been made");
    answer(&mut engine, 4_000, ask, Err(Reject::new(ErrorCode::NO_TRACKER, "lost")));

    // Over a restart too.
    let mut engine = self::engine(Restored { publications: vec![record], ..Restored::default() });
    assert!(done(&mut engine).asked.is_empty(), "nobody answers");
    connect(&mut engine, 10);
    let (ask, again, _) = done(&mut engine).asked.into_iter().find(|it| it.1 == id).expect("asked");
    assert_eq!(again, id);
    answer(&mut engine, 11, ask, Ok(Answer::Done));
    let kept = done(&mut engine).kept.remove(0).1;
    assert!(matches!(kept.as_slice(), [Change::PutShare(_), Change::DeletePublication(..)]), "{kept:?}");
    assert_eq!((engine.publication_rows().count(), engine.shares.active().count()), (0, 1));
}

#[test]
fn what_is_refused_for_good_stays_in_sight() {
    let mut engine = engine(Restored::default());
    wait_to_be_published(&mut engine);
    engine.tick(at(14 + RETRY_MS));
    let ask = done(&mut engine).asked.remove(0).0;
    answer(&mut engine, 4_000, ask, Err(Reject::new(ErrorCode::GROUP_NOT_FOUND, "there is no group photos")));
    engine.tick(at(60_000));
    assert!(done(&mut engine).asked.iter().all(|it| !matches!(it.2, Request::Publish { .. })), "asked no more");
    let row = engine.publication_rows().next().expect("in the list");
    assert_eq!(row.reason.as_deref(), Some("not published: there is no group photos"));
    assert!(engine.status(None).problems.iter().any(|problem| problem.contains("a was not published in photos")));
    // Until it is given up.
    let stop = control::Request::StopShare { group: row.group, name: row.name, until_requested: false };
    engine.handle(at(60_001), Input::Command(CommandId(2), stop));
    assert!(matches!(done(&mut engine).kept.remove(0).1.as_slice(), [Change::DeletePublication(..)]));
    assert_eq!(engine.publication_rows().count(), 0);
}

#[test]
fn without_any_tracker_the_group_is_asked_about_when_one_answers() {
    let mut engine = engine(Restored::default());
    upload(&mut engine, 10);
    engine.tick(at(10_000));
    let ask = done(&mut engine).hashed.remove(0);
    hashed(&mut engine, 10_001, ask);
    let (ask, _) = done(&mut engine).kept.remove(0);
    engine.handle(at(10_002), Input::Remembered(ask, Ok(())));
    assert_eq!(done(&mut engine).told.remove(0).expect_err("it waits").code, ErrorCode::NO_TRACKER);
    connect(&mut engine, 20_000);
    let (ask, _, request) = done(&mut engine).asked.remove(0);
    assert!(matches!(request, Request::GroupInfo { .. }));
    answer(&mut engine, 20_001, ask, photos(Standing::Member));
    let (_, _, request) = done(&mut engine).asked.remove(0);
    assert!(matches!(request, Request::Publish { born: Some(UnixMillis(7)), .. }), "{request:?}");
}
