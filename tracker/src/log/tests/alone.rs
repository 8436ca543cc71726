//! A tracker that is alone: what it has acknowledged, and what it does with a disk that fails or was changed.

use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;

use super::*;

#[tokio::test]
async fn what_was_acknowledged_is_found_after_a_clean_stop() {
    let disk = TestDisk::default();
    let log = start(&disk).await.expect("a new log");
    for number in 0..5 {
        assert_eq!(log.propose(entry(number)).await, Ok(Outcome::Done));
    }
    log.stop().await;
    assert_eq!(log.propose(entry(9)).await.expect_err("stopped").code, ErrorCode::BUSY);
    let before = log.query(State::clone);
    drop(log);
    let store = Store::with_backend(disk.clone()).expect("opens");
    let snapshot = store.snapshot_meta().expect("whole").and_then(|meta| meta.last_log_id);
    assert_eq!(snapshot, store.last().expect("whole"), "the snapshot holds everything");
    assert_eq!(State::decode(&store.snapshot_bytes().expect("whole")), Ok(before));
    drop(store);
    let log = start(&disk).await.expect("opens");
    assert_eq!(log.propose(entry(5)).await, Ok(Outcome::Done), "and it goes on");
}

#[tokio::test]
async fn what_was_acknowledged_is_found_after_a_power_cut_at_any_moment() {
    let disk = TestDisk::default();
    let log = start(&disk).await.expect("a new log");
    for number in 0..20 {
        log.propose(entry(number)).await.expect("new");
        let cut = start(&disk.after_power_cut()).await.expect("whole");
        assert!((0..=number).all(|number| has(&cut, number)), "after {number}");
        if number % 7 == 6 {
            log.stop().await;
            drop(cut);
            return assert!(has(&start(&disk.after_power_cut()).await.expect("whole"), number));
        }
    }
}

#[tokio::test]
async fn a_folder_is_found_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = async || Consensus::start(Store::open(folder.path())?, Peers::none(KEY), heard(|_| {})).await;
    open().await.expect("a new log").propose(entry(1)).await.expect("new");
    assert!(has(&open().await.expect("opens"), 1));
}

#[tokio::test]
async fn a_retry_is_answered_alike_after_a_restart() {
    let disk = TestDisk::default();
    start(&disk).await.expect("a new log").propose(entry(1)).await.expect("new");
    let log = start(&disk).await.expect("opens");
    assert_eq!(log.propose(entry(1)).await, Ok(Outcome::Done));
    let other = Entry { request: RequestId([8; 16]), ..entry(1) };
    assert_eq!(log.propose(other).await.expect_err("a new request").code, ErrorCode::USER_EXISTS);
}

#[tokio::test]
async fn proposals_that_wait_share_a_commit() {
    let disk = TestDisk::default();
    let store = Store::with_backend(disk.clone()).expect("a new log");
    let (entered, first_is_applied) = std_mpsc::channel();
    let (go_on, gate) = std_mpsc::channel();
    let mut first = true;
    let observer = heard(move |_| {
        if std::mem::take(&mut first) {
            entered.send(()).expect("the test waits");
            gate.recv().expect("the test opens the gate");
        }
    });
    let log = Arc::new(Consensus::start(store, Peers::none(KEY), observer).await.expect("starts"));
    let propose = |number| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.propose(entry(number)).await })
    };
    let mut waiting = vec![propose(0)];
    tokio::task::yield_now().await;
    first_is_applied.recv().expect("the first is applied");
    let before = disk.syncs();
    waiting.extend((1..=500).map(propose));
    // One turn of this thread polls each of them once, which queues it.
    tokio::task::yield_now().await;
    go_on.send(()).expect("the observer waits");
    for answer in waiting {
        assert_eq!(answer.await.expect("no panic"), Ok(Outcome::Done));
    }
    assert!(disk.syncs() - before <= 10, "{} syncs for 500 entries", disk.syncs() - before);
}

#[tokio::test]
async fn the_observer_sees_every_entry_once_and_none_at_the_start() {
    let disk = TestDisk::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..3 {
        let store = Store::with_backend(disk.clone()).expect("opens");
        let seen_here = Arc::clone(&seen);
        let observer = heard(move |entry| seen_here.lock().expect("whole").push(entry.at.0));
        let log = Consensus::start(store, Peers::none(KEY), observer).await.expect("starts");
        log.propose(entry(number)).await.expect("new");
    }
    assert_eq!(*seen.lock().expect("whole"), [0, 1, 2]);
}

#[tokio::test]
async fn a_disk_that_fails_acknowledges_nothing_and_ends_the_log() {
    let disk = TestDisk::default();
    let log = start(&disk).await.expect("a new log");
    log.propose(entry(0)).await.expect("new");
    let syncs = disk.syncs();
    disk.lock().fail_from = Some(syncs + 1);
    assert_eq!(log.propose(entry(1)).await.expect_err("the disk fails").code, ErrorCode::INTERNAL);
    assert!(matches!(*log.failed().await, LogError::Disk(_)));
    assert!(log.propose(entry(2)).await.is_err(), "never tried again");
    assert!(!has(&log, 1), "what is not durable is not shown");
    let log = start(&disk.after_power_cut()).await.expect("whole");
    assert!(has(&log, 0) && !has(&log, 2));
}

#[tokio::test]
async fn a_log_whose_thread_dies_says_so() {
    let store = Store::with_backend(TestDisk::default()).expect("a new log");
    let log = Consensus::start(store, Peers::none(KEY), heard(|_| panic!("injected"))).await.expect("starts");
    assert_eq!(log.propose(entry(1)).await.expect_err("it dies").code, ErrorCode::INTERNAL);
    assert!(matches!(*log.failed().await, LogError::Died));
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, [7; 100]).expect("writes");
    assert!(matches!(Store::open(folder.path()), Err(LogError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).expect("reads"), [7; 100]);
}

#[tokio::test]
async fn a_log_that_is_not_whole_refuses_to_start() {
    type Harm = fn(&Store);
    let harms: [(&str, Harm); 10] = [
        ("missing in the middle", |store| store.tamper(2, None)),
        ("missing at the start", |store| store.tamper(0, None)),
        ("missing at the end", |store| store.tamper(store.next().expect("there") - 1, None)),
        ("beyond the last", |store| store.tamper(store.next().expect("there"), Some(&store.bytes_at(2)))),
        ("another's bytes", |store| store.tamper(3, Some(&store.bytes_at(2)))),
        ("garbage", |store| store.tamper(2, Some(b"\x02garbage"))),
        ("a later entry version", |store| store.tamper(2, Some(&[3, 0]))),
        ("a later format", |store| store.tamper_meta("format", 3)),
        ("a vote that is none", |store| store.tamper_raft("vote", b"garbage")),
        ("no count", |store| store.tamper_meta("next", 1)),
    ];
    for (harm, act) in harms {
        let disk = TestDisk::default();
        let log = start(&disk).await.expect("a new log");
        for number in 1..=3 {
            log.propose(entry(number)).await.expect("new");
        }
        drop(log);
        act(&Store::with_backend(disk.clone()).expect("opens"));
        let error = start(&disk).await.expect_err(harm);
        assert!(!error.hint().is_empty(), "{harm}");
    }
}

#[tokio::test]
async fn a_log_without_the_snapshot_of_what_was_taken_out_refuses_to_start() {
    let disk = TestDisk::default();
    let log = start(&disk).await.expect("a new log");
    log.propose(entry(1)).await.expect("new");
    drop(log);
    let store = Store::with_backend(disk.clone()).expect("opens");
    store.purge(store.last().expect("whole").expect("some")).expect("the test's disk works");
    drop(store);
    assert!(matches!(start(&disk).await, Err(LogError::OldSnapshot)));
}

#[tokio::test]
async fn a_folder_stays_the_tracker_that_it_is() {
    let disk = TestDisk::default();
    drop(start(&disk).await.expect("a new log"));
    let peers = Peers { asked: Some(2), ..Peers::none(KEY) };
    let store = Store::with_backend(disk.clone()).expect("opens");
    let error = Consensus::start(store, peers, heard(|_| {})).await.expect_err("another tracker's");
    assert!(matches!(error, LogError::OtherTracker { found: 1, asked: 2 }));
}

/// Many changes at once over several snapshots, on as few processors as there are: what is taken out must have been
/// applied, and what is applied must not have been taken out.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_at_once_survive_snapshots_and_a_restart() {
    const CHANGES: u64 = 70_000;
    // As few as go into one batch make so many batches, which are what is taken out: a few hundred of them stay.
    const PROPOSERS: u64 = 20;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || Store::open(folder.path()).expect("opens");
    let start = async || Consensus::start(open(), Peers::none(KEY), heard(|_| {})).await.expect("whole");
    let log = Arc::new(start().await);
    let proposers = (0..PROPOSERS).map(|proposer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in (proposer..CHANGES).step_by(PROPOSERS as usize) {
                assert_eq!(log.propose(entry(number)).await, Ok(Outcome::Done));
            }
        })
    });
    for proposer in proposers.collect::<Vec<_>>() {
        proposer.await.expect("no panic");
    }
    let before = log.query(State::encode);
    drop(log);
    assert!(open().purged().expect("whole").is_some(), "something was taken out");
    let log = start().await;
    assert!(log.query(State::encode) == before, "the state is another");
}
