//! Which tracker is asked, when another one is, and what is said of old answers.

use p2p_proto::control;
use p2p_proto::tracker::{self, EPOCH_PLACES, Envelope};

use super::super::input::CommandId;
use super::super::record::Restored;
use super::super::{Config, Input, Limits, Now};
use super::*;

/// A tracker as the tests name it.
const TRACKERS: [TrackerId; 3] = [TrackerId(0), TrackerId(1), TrackerId(2)];

fn at(milliseconds: u64) -> Now {
    Now { monotonic: Duration::from_millis(milliseconds), wall: UnixMillis(1_000_000 + milliseconds) }
}

fn connect(engine: &mut Engine, now: u64, tracker: TrackerId) {
    let ack = HelloAck {
        version: 1,
        software: "tracker 0".to_owned(),
        cluster: ClusterKey([1; 32]),
        time: UnixMillis(1_000_000),
        observed: "192.0.2.7:4000".parse().expect("an address"),
        user: Some("alice".parse().expect("a good name")),
        leader: tracker == TRACKERS[0],
        current: true,
        place: 0,
    };
    let (round_trip, node, key_exchange) = (Duration::from_millis(1), NodeId([0xee; 32]), "none".to_owned());
    engine.handle(at(now), Input::TrackerConnected { tracker, node, ack, round_trip, key_exchange });
}

/// An engine that three trackers have accepted, of which the first leads; alice is logged in.
fn connected() -> Engine {
    let config = Config {
        node: NodeId([0x11; 32]),
        software: "p2pd 0".to_owned(),
        trackers: TRACKERS.iter().map(|tracker| format!("192.0.2.{}:9000", 10 + tracker.0)).collect(),
        seed: 1,
        process_id: 1,
        streams_folder: "/streams".into(),
        uploads_folder: "/uploads".into(),
        limits: Limits::default(),
    };
    let mut engine = Engine::new(config, Restored::default(), at(0));
    for tracker in TRACKERS {
        connect(&mut engine, 0, tracker);
    }
    outputs(&mut engine);
    engine
}

fn outputs(engine: &mut Engine) -> Vec<Output> {
    std::iter::from_fn(|| engine.poll_output()).collect()
}

/// Who is asked what among the outputs, beside what the daemon asks for its own sake after a login.
fn asked(engine: &mut Engine) -> Vec<(AskId, TrackerId, Envelope)> {
    let asked = outputs(engine).into_iter().filter_map(|output| match output {
        Output::AskTracker(_, _, Envelope { request: Request::ListOwnedRequests { .. }, .. }) => None,
        Output::AskTracker(ask, tracker, envelope) => Some((ask, tracker, envelope)),
        _ => None,
    });
    asked.collect()
}

/// What a command is told, in words.
fn told(engine: &mut Engine) -> Vec<&'static str> {
    let told = outputs(engine).into_iter().filter_map(|output| match output {
        Output::Tell(_, Frame::Stale) => Some("stale"),
        Output::Tell(_, Frame::Result(Ok(_))) => Some("answer"),
        Output::Tell(_, Frame::Result(Err(_))) => Some("refusal"),
        _ => None,
    });
    told.collect()
}

fn list(engine: &mut Engine, now: u64) {
    engine.handle(at(now), Input::Command(CommandId(now), control::Request::ListGroups { mine: true }));
}

fn answer(engine: &mut Engine, now: u64, ask: AskId, tracker: TrackerId, current: bool, place: u64) {
    let (reply, knowledge) = (Ok(tracker::Answer::Groups(Vec::new())), Some(Knowledge { current, place }));
    engine.handle(at(now), Input::TrackerAnswered { ask, tracker, reply, knowledge });
}

fn fail(engine: &mut Engine, now: u64, ask: AskId, tracker: TrackerId, code: ErrorCode) {
    let reply = Err(Reject::new(code, "no answer"));
    engine.handle(at(now), Input::TrackerAnswered { ask, tracker, reply, knowledge: None });
}

fn change(engine: &mut Engine, now: u64) {
    let request = control::Request::DeleteGroup { group: "photos".parse().expect("a good name") };
    engine.handle(at(now), Input::Command(CommandId(now), request));
}

fn is_stale(engine: &Engine) -> [bool; 3] {
    [0, 1, 2].map(|place| engine.trackers[place].is_stale())
}

#[test]
fn who_answers_without_a_majority_is_asked_last_until_it_has_one() {
    let mut engine = connected();
    list(&mut engine, 10);
    let (ask, first, _) = asked(&mut engine).remove(0);
    assert_eq!(first, TRACKERS[0], "the leader");
    answer(&mut engine, 11, ask, first, false, 5);
    let (ask, second, envelope) = asked(&mut engine).remove(0);
    assert_eq!((second, envelope.seen), (TRACKERS[1], 5), "another may know better, and is told what is known");
    assert_eq!(is_stale(&engine), [true, false, false]);
    answer(&mut engine, 12, ask, second, true, 7);
    assert_eq!(told(&mut engine), ["answer"]);
    list(&mut engine, 20);
    assert_eq!(asked(&mut engine)[0].1, TRACKERS[1]);
    // By itself it is asked now and then, so that it is known when it is back.
    engine.tick(at(11 + STALE_MS));
    let again = asked(&mut engine);
    let (ask, tracker, envelope) =
        again.iter().find(|(.., envelope)| envelope.request == Request::ListNodes).expect("asked");
    assert_eq!((*tracker, envelope.seen), (TRACKERS[0], 7));
    answer(&mut engine, 4_000, *ask, TRACKERS[0], true, 7);
    assert_eq!(is_stale(&engine), [false; 3]);
    list(&mut engine, 4_001);
    assert_eq!(asked(&mut engine)[0].1, TRACKERS[0]);
}

#[test]
fn who_is_of_an_earlier_epoch_is_asked_last_whatever_it_says_of_itself() {
    let mut engine = connected();
    list(&mut engine, 10);
    let (ask, first, _) = asked(&mut engine).remove(0);
    answer(&mut engine, 11, ask, first, false, 5);
    let (ask, second, _) = asked(&mut engine).remove(0);
    answer(&mut engine, 12, ask, second, true, 2 * EPOCH_PLACES);
    assert_eq!(is_stale(&engine), [true, false, true], "those from before the takeover");
    engine.tick(at(11 + STALE_MS));
    let (ask, ..) = asked(&mut engine).into_iter().find(|(_, tracker, _)| *tracker == first).expect("asked");
    answer(&mut engine, 4_000, ask, first, true, 1_000);
    assert_eq!(is_stale(&engine), [true, false, true], "though it takes itself for current");
    list(&mut engine, 4_001);
    assert_eq!(asked(&mut engine)[0].1, second);
    // Nor does it log anybody out; who has taken over does.
    for (tracker, logged_in) in [(first, true), (second, false)] {
        engine.handle(at(4_002), Input::TrackerEvent(tracker, Event::Enrolment { user: None }));
        assert_eq!(engine.account.is_some(), logged_in);
    }
}

#[test]
fn what_may_be_old_is_said_to_be() {
    let mut engine = connected();
    list(&mut engine, 10);
    for (moment, tracker) in (11..).zip(TRACKERS) {
        let (ask, asked, _) = asked(&mut engine).remove(0);
        assert_eq!(asked, tracker, "each of them in turn");
        answer(&mut engine, moment, ask, tracker, false, 5);
    }
    assert_eq!(told(&mut engine), ["stale", "answer"]);
    assert_eq!(is_stale(&engine), [true; 3]);
    list(&mut engine, 20);
    let (ask, tracker, _) = asked(&mut engine).remove(0);
    answer(&mut engine, 21, ask, tracker, false, 5);
    assert_eq!(told(&mut engine), ["stale", "answer"], "nobody else knows better");
}

#[test]
fn another_is_asked_as_well_where_one_is_silent() {
    let mut engine = connected();
    list(&mut engine, 10);
    assert_eq!(asked(&mut engine).len(), 1);
    engine.tick(at(10 + ASK_ANOTHER_MS));
    let (ask, second, _) = asked(&mut engine).remove(0);
    assert_eq!(second, TRACKERS[1]);
    engine.tick(at(10 + 2 * ASK_ANOTHER_MS));
    assert_eq!(asked(&mut engine)[0].1, TRACKERS[2], "and the last of them");
    engine.tick(at(10 + 3 * ASK_ANOTHER_MS));
    assert!(asked(&mut engine).is_empty(), "each once");
    answer(&mut engine, 2_000, ask, second, true, 5);
    assert_eq!(told(&mut engine), ["answer"]);
    answer(&mut engine, 2_001, ask, TRACKERS[0], true, 5);
    assert!(told(&mut engine).is_empty(), "the first answer is the answer");

    // The first one is lost: its failure does not count while the other may answer still.
    list(&mut engine, 3_000);
    let (ask, first, _) = asked(&mut engine).remove(0);
    engine.tick(at(3_000 + ASK_ANOTHER_MS));
    assert_eq!(asked(&mut engine).len(), 1);
    fail(&mut engine, 3_500, ask, first, ErrorCode::NO_TRACKER);
    assert!(told(&mut engine).is_empty());
    answer(&mut engine, 3_600, ask, TRACKERS[1], true, 5);
    assert_eq!(told(&mut engine), ["answer"]);
}

#[test]
fn a_change_is_asked_of_one_tracker_at_a_time() {
    let mut engine = connected();
    change(&mut engine, 10);
    assert_eq!(asked(&mut engine).len(), 1);
    engine.tick(at(5_000));
    assert!(asked(&mut engine).iter().all(|(.., envelope)| envelope.request.is_read()));
}

#[test]
fn a_call_that_all_have_failed_waits_for_one_that_connects_again() {
    let mut engine = connected();
    change(&mut engine, 10);
    for tracker in TRACKERS {
        let (ask, asked, _) = asked(&mut engine).remove(0);
        assert_eq!(asked, tracker, "none twice");
        // As it is when all were restarted: the connections are dead, and none is known to be.
        fail(&mut engine, 11, ask, tracker, ErrorCode::NO_TRACKER);
    }
    assert!(told(&mut engine).is_empty(), "it is not lost for that");
    connect(&mut engine, 900, TRACKERS[1]);
    let (ask, again, _) =
        asked(&mut engine).into_iter().find(|(.., envelope)| !envelope.request.is_read()).expect("asked again");
    assert_eq!(again, TRACKERS[1]);
    let (reply, knowledge) = (Ok(tracker::Answer::Done), Some(Knowledge { current: true, place: 9 }));
    engine.handle(at(901), Input::TrackerAnswered { ask, tracker: again, reply, knowledge });
    assert_eq!(told(&mut engine), ["answer"]);

    // And no longer than a person likes to.
    change(&mut engine, 1_000);
    for _ in TRACKERS {
        let (ask, tracker, _) = asked(&mut engine).remove(0);
        fail(&mut engine, 1_001, ask, tracker, ErrorCode::NO_TRACKER);
    }
    engine.tick(at(1_001 + HELD_MS));
    assert_eq!(told(&mut engine), ["refusal"]);
}

#[test]
fn however_late_an_answer_is_lost_another_is_asked() {
    let mut engine = connected();
    change(&mut engine, 10);
    let (ask, first, _) = asked(&mut engine).remove(0);
    fail(&mut engine, 10 + RETRY_MS, ask, first, ErrorCode::NO_TRACKER);
    let (ask, second, _) = asked(&mut engine).remove(0);
    assert_ne!(first, second);
    fail(&mut engine, 11 + RETRY_MS, ask, second, ErrorCode::NO_TRACKER);
    assert_eq!(told(&mut engine), ["refusal"], "it was long enough");
}

#[test]
fn who_knows_no_majority_is_asked_once() {
    let mut engine = connected();
    change(&mut engine, 10);
    for (moment, tracker) in (11..).zip(TRACKERS) {
        let (ask, asked, _) = asked(&mut engine).remove(0);
        assert_eq!(asked, tracker, "each of them in turn");
        fail(&mut engine, moment, ask, tracker, ErrorCode::NO_MAJORITY);
    }
    assert_eq!(told(&mut engine), ["refusal"]);
}

#[test]
fn an_old_answer_is_told_when_nobody_is_left_who_may_know_better() {
    let mut engine = connected();
    list(&mut engine, 10);
    let (ask, first, _) = asked(&mut engine).remove(0);
    engine.tick(at(10 + ASK_ANOTHER_MS));
    let (_, second, _) = asked(&mut engine).remove(0);
    // One is silent. The next one's answer is old, so the last one is asked at once.
    answer(&mut engine, 500, ask, second, false, 5);
    let (_, third, _) = asked(&mut engine).remove(0);
    assert_eq!([first, second, third], TRACKERS);
    answer(&mut engine, 600, ask, third, false, 5);
    assert!(told(&mut engine).is_empty(), "the first may answer still");
    engine.tick(at(10 + OLD_ANSWER_MS));
    assert_eq!(told(&mut engine), ["stale", "answer"]);

    // Where it is known that it will not, nobody waits.
    connect(&mut engine, 3_000, second);
    connect(&mut engine, 3_000, third);
    outputs(&mut engine);
    list(&mut engine, 3_010);
    let (ask, one, _) = asked(&mut engine).remove(0);
    answer(&mut engine, 3_011, ask, one, false, 5);
    let (_, other, _) = asked(&mut engine).remove(0);
    fail(&mut engine, 3_012, ask, other, ErrorCode::NO_TRACKER);
    let (_, last, _) = asked(&mut engine).remove(0);
    fail(&mut engine, 3_013, ask, last, ErrorCode::NO_TRACKER);
    assert_eq!(told(&mut engine), ["stale", "answer"]);
}
