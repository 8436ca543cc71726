//! Taking over and giving way, on disk: what goes on, what is given out, and what no other epoch can be taken for.

use std::collections::BTreeMap;

use openraft::{CommittedLeaderId, EntryPayload, Membership};

use super::super::types::{Batch, LogEntry, LogId};
use super::*;

/// The key of the other tracker.
const OTHER: NodeId = NodeId([4; 32]);

/// What the first of two has written: who belongs to it, and these users.
fn written(users: std::ops::Range<u64>) -> Vec<LogEntry> {
    let log_id = |index| LogId::new(CommittedLeaderId::new(1, 1), index);
    let member = |key| Member { key: Some(key) };
    let members = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member(OTHER)), (2, member(KEY))]));
    let begin = LogEntry { log_id: log_id(0), payload: EntryPayload::Membership(members) };
    let change = |number| {
        let payload = EntryPayload::Normal(Batch(vec![entry(number)].into()));
        LogEntry { log_id: log_id(number), payload }
    };
    std::iter::once(begin).chain(users.map(change)).collect()
}

/// A disk with a log of tracker `id`.
fn disk_of(id: TrackerId, entries: &[LogEntry]) -> TestDisk {
    let disk = TestDisk::default();
    let store = Store::with_backend(disk.clone()).expect("opens");
    store.become_tracker(Some(id)).expect("written");
    store.append(entries).expect("written");
    disk
}

fn open(disk: &TestDisk) -> Store {
    Store::with_backend(disk.clone()).expect("opens")
}

#[tokio::test]
async fn who_takes_over_goes_on_with_all_that_its_log_holds() {
    // Nothing of it is known to be agreed on.
    let disk = disk_of(2, &written(1..4));
    let store = open(&disk);
    store.save_turn(&Turn::TakeOver).expect("written");
    assert_eq!(decided(&store).expect("readable"), Some(Turn::TakeOver));
    let epoch = take_over(&store, KEY).expect("whole");
    assert_eq!((epoch.takeovers(), epoch.begun_by()), (1, Some(2)));
    assert_eq!(decided(&store).expect("readable"), None, "once");
    assert_eq!(store.left().expect("readable"), [4], "the first may have more from there on");
    assert_eq!(store.keys().expect("readable"), [(1, OTHER)], "it is known when it is back");
    store.check().expect("whole");
    drop(store);
    let log = start(&disk).await.expect("starts");
    assert!((1..4).all(|number| has(&log, number)));
    assert!(log.query(State::epoch) >= epoch.first_place(), "what others grant is of before");
    assert_eq!(log.propose(entry(4)).await, Ok(Outcome::Done));
    assert!(log.place() > epoch.first_place() && Epoch::of(log.place()) == epoch);
    assert!(log.standing().members.iter().all(|member| member.tracker == 2), "alone");
    drop(log);
    // And again, later.
    let store = open(&disk);
    assert!(take_over(&store, KEY).expect("whole") > epoch);
    assert_eq!(store.left().expect("readable").len(), 2);
    drop(store);
    let log = start(&disk).await.expect("starts");
    assert!((1..5).all(|number| has(&log, number)));
}

#[tokio::test]
async fn who_gave_way_begins_nothing_new() {
    let disk = disk_of(1, &written(1..6));
    give_way(&open(&disk)).expect("written");
    assert!(matches!(start(&disk).await, Err(LogError::Follows)));
}

#[test]
fn who_gives_way_gives_out_what_it_alone_has_and_keeps_the_others_keys() {
    let store = open(&disk_of(1, &written(1..6)));
    store.save_turn(&Turn::GiveWay { from: 4 }).expect("written");
    let Leaving { tracker, place, state, alone, incomplete } = leaving(&store, 4).expect("whole");
    assert_eq!((tracker, place, incomplete), (1, 6, false));
    let places: Vec<_> = alone.iter().map(|change| (change.place, change.made)).collect();
    assert_eq!(places, [(4, Some(true)), (5, Some(true))]);
    assert_eq!((&alone[0].entry, state.counts()[0]), (&entry(4), 5));
    assert!(leaving(&store, 6).expect("whole").alone.is_empty(), "the other has everything");
    assert_eq!(leaving(&store, 0).expect("whole").alone.len(), 5, "or it is not known what");
    give_way(&store).expect("written");
    store.check().expect("whole");
    assert_eq!((store.last().expect("there"), store.snapshot_meta().expect("there")), (None, None));
    assert_eq!((decided(&store).expect("there"), store.vote().expect("there")), (None, None));
    assert_eq!(store.keys().expect("there"), [(2, KEY)]);
    assert_eq!(store.become_tracker(None).expect("there"), 1, "it is who it was");
}

#[test]
fn what_the_log_does_not_hold_any_more_is_said_to_be_missing() {
    let disk = disk_of(1, &written(1..6));
    let store = open(&disk);
    let mut state = State::default();
    (1..6).for_each(|number| drop(state.apply(&entry(number))));
    let last = store.last().expect("whole");
    let meta = types::SnapshotMeta { last_log_id: last, ..types::SnapshotMeta::default() };
    store.write_snapshot(&meta, &state.encode()).expect("written");
    store.purge(LogId::new(CommittedLeaderId::new(1, 1), 4)).expect("written");
    let leaving_from = |from| leaving(&store, from).expect("whole");
    assert!(leaving_from(4).incomplete && !leaving_from(5).incomplete);
    let Leaving { alone, state: left, .. } = leaving_from(4);
    assert_eq!((alone.len(), alone[0].made, left), (1, None, state), "it is in the state all the same");
}

#[test]
fn the_encoding_of_what_is_decided_stays() {
    for (turn, expected) in [(Turn::TakeOver, vec![0]), (Turn::GiveWay { from: 300 }, vec![1, 0xac, 0x02])] {
        assert_eq!(p2p_proto::codec::encode(&turn), expected);
        assert_eq!(p2p_proto::codec::decode(&expected), Ok(turn));
    }
}
