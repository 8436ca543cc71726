//! Tests of the log over a disk that forgets what was not synced, and that can be made to fail.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;

use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::time::UnixMillis;
use proptest::prelude::*;

use super::*;
use crate::state::Command;

/// A disk in memory. Shared, so that it outlives the database on it.
#[derive(Debug, Clone, Default)]
struct TestDisk(Arc<Mutex<TestDiskState>>);

#[derive(Debug, Default)]
struct TestDiskState {
    current: Vec<u8>,
    /// What a power cut leaves.
    synced: Vec<u8>,
    syncs: u64,
    /// Every sync from this one on fails.
    fail_from: Option<u64>,
}

impl TestDisk {
    fn lock(&self) -> std::sync::MutexGuard<'_, TestDiskState> {
        self.0.lock().expect("no test panics with the lock held")
    }

    /// The disk as it is after a power cut now.
    fn after_power_cut(&self) -> TestDisk {
        let synced = self.lock().synced.clone();
        let state = TestDiskState { current: synced.clone(), synced, ..TestDiskState::default() };
        TestDisk(Arc::new(Mutex::new(state)))
    }

    fn syncs(&self) -> u64 {
        self.lock().syncs
    }
}

impl redb::StorageBackend for TestDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.lock();
        let start = offset as usize;
        let bytes = disk.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().current.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.syncs += 1;
        if disk.fail_from.is_some_and(|from| disk.syncs >= from) {
            return Err(io::Error::other("injected"));
        }
        disk.synced = disk.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.lock().current[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn start(disk: &TestDisk) -> Result<Consensus, LogError> {
    Consensus::start(Store::with_backend(disk.clone())?, Box::new(|_, _, _| {}))
}

/// An entry that makes the user `u<number>`.
fn entry(number: u64) -> Entry {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_le_bytes());
    Entry {
        request: RequestId(request),
        actor: NodeId([7; 32]),
        at: UnixMillis(number),
        command: Command::CreateUser {
            user: format!("u{number}").parse().expect("an allowed name"),
            record: vec![9; 192],
        },
    }
}

fn has(log: &Consensus, number: u64) -> bool {
    log.query(|state| state.record(&format!("u{number}").parse().expect("an allowed name")).is_some())
}

#[tokio::test]
async fn what_was_acknowledged_is_found_after_a_clean_stop() {
    let disk = TestDisk::default();
    let log = start(&disk).expect("a new log");
    for number in 0..5 {
        assert_eq!(log.propose(entry(number)).await, Ok(Outcome::Done));
    }
    log.stop().await;
    assert_eq!(log.propose(entry(9)).await.expect_err("stopped").code, ErrorCode::BUSY);
    let before = log.query(State::clone);
    drop(log);
    let recovered = Store::with_backend(disk.clone()).expect("opens").recover().expect("whole");
    assert_eq!((recovered.last, recovered.snapshot), (5, 5), "the snapshot holds everything");
    assert_eq!(recovered.state, before);
    let log = start(&disk).expect("opens");
    assert_eq!(log.propose(entry(5)).await, Ok(Outcome::Done), "and it goes on");
}

#[tokio::test]
async fn what_was_acknowledged_is_found_after_a_power_cut_at_any_moment() {
    let disk = TestDisk::default();
    let log = start(&disk).expect("a new log");
    for number in 0..20 {
        log.propose(entry(number)).await.expect("new");
        let cut = start(&disk.after_power_cut()).expect("whole");
        assert!((0..=number).all(|number| has(&cut, number)), "after {number}");
        if number % 7 == 6 {
            log.stop().await;
            drop(cut);
            return assert!(has(&start(&disk.after_power_cut()).expect("whole"), number));
        }
    }
}

#[tokio::test]
async fn a_folder_is_found_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || Consensus::start(Store::open(folder.path())?, Box::new(|_, _, _| {}));
    open().expect("a new log").propose(entry(1)).await.expect("new");
    assert!(has(&open().expect("opens"), 1));
}

#[tokio::test]
async fn a_retry_is_answered_alike_after_a_restart() {
    let disk = TestDisk::default();
    start(&disk).expect("a new log").propose(entry(1)).await.expect("new");
    let log = start(&disk).expect("opens");
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
    let observer: Observer = Box::new(move |_, _, _| {
        if std::mem::take(&mut first) {
            entered.send(()).expect("the test waits");
            gate.recv().expect("the test opens the gate");
        }
    });
    let log = Arc::new(Consensus::start(store, observer).expect("starts"));
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
        let observer: Observer = Box::new(move |_, entry, _| seen_here.lock().expect("whole").push(entry.at.0));
        let log = Consensus::start(store, observer).expect("starts");
        log.propose(entry(number)).await.expect("new");
    }
    assert_eq!(*seen.lock().expect("whole"), [0, 1, 2]);
}

#[tokio::test]
async fn a_disk_that_fails_acknowledges_nothing_and_ends_the_log() {
    let disk = TestDisk::default();
    let log = start(&disk).expect("a new log");
    log.propose(entry(0)).await.expect("new");
    let syncs = disk.syncs();
    disk.lock().fail_from = Some(syncs + 1);
    assert_eq!(log.propose(entry(1)).await.expect_err("the disk fails").code, ErrorCode::INTERNAL);
    assert!(matches!(*log.failed().await, LogError::Disk(_)));
    assert!(log.propose(entry(2)).await.is_err(), "never tried again");
    assert!(!has(&log, 1), "what is not durable is not shown");
    let log = start(&disk.after_power_cut()).expect("whole");
    assert!(has(&log, 0) && !has(&log, 2));
}

#[tokio::test]
async fn a_log_whose_thread_dies_says_so() {
    let store = Store::with_backend(TestDisk::default()).expect("a new log");
    let log = Consensus::start(store, Box::new(|_, _, _| panic!("injected"))).expect("starts");
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
    let harms: [(&str, Harm); 7] = [
        ("missing in the middle", |store| store.tamper(2, None)),
        ("missing at the start", |store| store.tamper(1, None)),
        ("missing at the end", |store| store.tamper(3, None)),
        ("beyond the last", |store| store.tamper(4, Some(&super::record::encode(&entry(4))))),
        ("garbage", |store| store.tamper(2, Some(b"\x01garbage"))),
        ("a later entry version", |store| store.tamper(2, Some(&[2, 0]))),
        ("a later format", |store| store.tamper_meta("format", 2)),
    ];
    for (harm, act) in harms {
        let disk = TestDisk::default();
        let log = start(&disk).expect("a new log");
        for number in 1..=3 {
            log.propose(entry(number)).await.expect("new");
        }
        drop(log);
        act(&Store::with_backend(disk.clone()).expect("opens"));
        let error = start(&disk).expect_err(harm);
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn the_encoding_of_an_entry_stays() {
    let mut short = entry(1);
    short.command = Command::Publish {
        group: "g".parse().expect("an allowed name"),
        name: "f".parse().expect("an allowed name"),
        content: p2p_proto::id::ContentId([5; 32]),
        length: 300,
    };
    let mut expected = vec![1u8];
    expected.extend_from_slice(&short.request.0);
    expected.extend_from_slice(&[7; 32]);
    expected.extend_from_slice(&[1, 12, 1, b'g', 1, b'f']);
    expected.extend_from_slice(&[5; 32]);
    expected.extend_from_slice(&[0xac, 0x02]);
    assert_eq!(record::encode(&short), expected);
    assert_eq!(record::decode(&expected), Ok(short));
}

#[test]
fn the_encoding_of_what_owners_change_stays() {
    let group: p2p_proto::name::GroupName = "g".parse().expect("an allowed name");
    let name: p2p_proto::name::FileName = "f".parse().expect("an allowed name");
    let owner = "o".parse().expect("an allowed name");
    let content = p2p_proto::id::ContentId([5; 32]);
    let replaced = [&[16, 1, b'g', 1, b'f'][..], &[5; 32], &[0xac, 0x02]].concat();
    let policy = p2p_proto::tracker::JoinPolicy::Open;
    for (command, expected) in [
        (Command::SetPolicy { group: group.clone(), policy }, vec![14, 1, b'g', 1]),
        (Command::RemoveFile { group: group.clone(), name: name.clone(), owner }, vec![15, 1, b'g', 1, b'f', 1, b'o']),
        (Command::Replace { group, name, content, length: 300 }, replaced),
    ] {
        assert_eq!(p2p_proto::codec::encode(&command), expected);
        assert_eq!(p2p_proto::codec::decode(&expected), Ok(command));
    }
}

#[test]
fn the_encoding_of_what_came_later_stays() {
    let user = || "u".parse().expect("an allowed name");
    let (proved, record) = (vec![8], vec![9]);
    for (command, expected) in [
        (Command::Login { user: user(), proved: proved.clone() }, vec![17, 1, b'u', 1, 8]),
        (Command::ChangePassword { proved, record, log_out_everywhere: true }, vec![18, 1, 8, 1, 9, 1]),
        (Command::WithdrawNodeOfUser { node: NodeId([5; 32]) }, [vec![19], vec![5; 32]].concat()),
    ] {
        let entry = Entry { command, ..entry(1) };
        let bytes = record::encode(&entry);
        assert!(bytes.ends_with(&[&[1], &expected[..]].concat()), "{entry:?}");
        assert_eq!(record::decode(&bytes), Ok(entry));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = record::decode(&bytes);
        let _ = State::decode(&bytes);
    }
}
