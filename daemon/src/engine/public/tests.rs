//! One engine with two trackers, driven step by step: whom it asks what, in which order, and what it leaves behind.

use std::time::Duration;

use p2p_proto::control::{Frame, Request as Command};
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Answer as TrackerAnswer, Group, HelloAck, JoinPolicy, Provider, Providers, Standing};

use super::super::input::{Imported, Now};
use super::super::record::{Change, Restored, Shape, SourceStamp};
use super::super::{Config, Input, Limits};
use super::*;

const CONTENT: ContentId = ContentId([7; 32]);
const COMMAND: CommandId = CommandId(1);

fn name<T: std::str::FromStr<Err = p2p_proto::name::NameError>>(text: &str) -> T {
    text.parse().expect("a good name")
}

/// An engine under test, and what it has asked for.
struct Bench {
    engine: Engine,
    now: Duration,
}

impl Bench {
    /// Two trackers that answer, alice logged in at both.
    fn new() -> Bench {
        Bench::with_shares(Vec::new())
    }

    fn with_shares(shares: Vec<ShareRecord>) -> Bench {
        let config = Config {
            node: NodeId([1; 32]),
            software: "p2pd test".to_owned(),
            trackers: vec!["192.0.2.1:9000".to_owned(), "192.0.2.2:9000".to_owned(), "192.0.2.3:9000".to_owned()],
            seed: 1,
            process_id: 1,
            streams_folder: "/streams".into(),
            uploads_folder: "/uploads".into(),
            limits: Limits::default(),
        };
        let now = Duration::from_secs(1);
        let restored = Restored { shares, ..Restored::default() };
        let mut bench = Bench { engine: Engine::new(config, restored, at(now)), now };
        for tracker in [0, 1] {
            bench.connect(tracker);
        }
        // What it announces at first is taken.
        while let Some(output) = bench.engine.poll_output() {
            if let Output::AskTracker(ask, ..) = output {
                bench.answer(ask, TrackerAnswer::Done);
            }
        }
        bench
    }

    fn connect(&mut self, tracker: u64) {
        let ack = HelloAck {
            version: 1,
            software: "tracker test".to_owned(),
            cluster: ClusterKey([9; 32]),
            time: at(self.now).wall,
            observed: "192.0.2.9:4433".parse().expect("an address"),
            user: Some(name("alice")),
            leader: true,
            current: true,
            place: 0,
        };
        let (node, round_trip) = (NodeId([0xe0 + tracker as u8; 32]), Duration::from_millis(1));
        let key_exchange = "none".to_owned();
        self.tell(Input::TrackerConnected { tracker: TrackerId(tracker), node, ack, round_trip, key_exchange });
    }

    fn lose(&mut self, tracker: u64) {
        let reason = Reject::new(ErrorCode::NO_TRACKER, "gone");
        self.tell(Input::TrackerLost { tracker: TrackerId(tracker), state: TrackerState::Unreachable, reason });
    }

    fn tell(&mut self, input: Input) {
        self.engine.handle(at(self.now), input);
        self.engine.invariant().expect("holds");
    }

    fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    /// The next question of the command to a tracker, passing over what the daemon asks for its own sake.
    fn question(&mut self) -> (AskId, u64, Request) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::AskTracker(_, _, envelope) if matches!(envelope.request, Request::Announce(_)) => (),
                Output::AskTracker(ask, tracker, envelope) => return (ask, tracker.0, envelope.request),
                Output::Tell(_, frame) => panic!("told instead: {frame:?}"),
                _ => (),
            }
        }
        panic!("no question")
    }

    fn answer(&mut self, ask: AskId, answer: TrackerAnswer) {
        self.tell(Input::answered(ask, Ok(answer)));
    }

    fn refuse(&mut self, ask: AskId, code: ErrorCode) {
        self.tell(Input::answered(ask, Err(Reject::new(code, "refused"))));
    }

    /// How the command has ended, with a tracker that takes every announcement.
    fn result_once_announced(&mut self) -> Result<Answer, Reject> {
        loop {
            let mut announced = Vec::new();
            for output in self.drain() {
                match output {
                    Output::AskTracker(ask, ..) => announced.push(ask),
                    Output::Tell(COMMAND, Frame::Result(result)) => return result,
                    _ => (),
                }
            }
            assert!(!announced.is_empty(), "no result");
            announced.into_iter().for_each(|ask| self.answer(ask, TrackerAnswer::Done));
        }
    }

    /// How the command has ended.
    fn result(&mut self) -> Result<Answer, Reject> {
        for output in self.drain() {
            match output {
                Output::Tell(COMMAND, Frame::Result(result)) => return result,
                Output::Remember(..) => panic!("something was remembered before the command had its result"),
                _ => (),
            }
        }
        panic!("no result")
    }

    /// Begins `get` with a `.mtorrent` that names these trackers.
    fn get(&mut self, trackers: [&str; 2]) {
        let (mtorrent, destination) = (LocalPath("/m".into()), LocalPath("/d".into()));
        self.tell(Input::Command(COMMAND, Command::Get { mtorrent, destination, force: false, detach: false }));
        self.read(trackers);
    }

    fn read(&mut self, trackers: [&str; 2]) {
        let ask = self.drain().into_iter().find_map(|output| match output {
            Output::ReadMtorrent(ask, path) if path.as_os_str() == "/m" => Some(ask),
            _ => None,
        });
        let trackers = trackers.map(|tracker| tracker.parse().expect("an address"));
        let read = MtorrentRead { name: name("f"), content: CONTENT, length: 10, trackers };
        self.tell(Input::MtorrentRead(ask.expect("the .mtorrent is read"), Ok(read)));
    }

    /// The file is about to be downloaded: said by where it goes being looked at.
    fn assert_fetched(&mut self, owner: &str) {
        let outputs = self.drain();
        let found = outputs.iter().any(|output| matches!(output, Output::ResolveDestination { length: 10, .. }));
        assert!(found, "{outputs:?}");
        let resolved = self.engine.steps.values().find_map(|step| match step {
            Step::Resolved(_, wanted, listing) => Some((wanted.group.clone(), listing.content, listing.owner.clone())),
            _ => None,
        });
        assert_eq!(resolved, Some((GroupName::public(), CONTENT, name(owner))));
    }
}

fn at(now: Duration) -> Now {
    Now { monotonic: now, wall: UnixMillis(1_795_217_000_000 + now.as_millis() as u64) }
}

fn listing(owner: &str, content: ContentId) -> TrackerAnswer {
    let (name, added) = (name("f"), UnixMillis(1));
    TrackerAnswer::Files(vec![Listing {
        name,
        owner: self::name(owner),
        content,
        length: 10,
        added,
        seeders: 0,
        partial: 0,
        born: BUILT_IN_BORN,
        files: None,
    }])
}

fn nobody() -> TrackerAnswer {
    TrackerAnswer::Providers(Providers { providers: Vec::new(), last_seeder: None })
}

fn somebody() -> TrackerAnswer {
    let addresses = vec!["192.0.2.7:4433".parse().expect("an address")];
    let provider = Provider { node: NodeId([5; 32]), user: name("bob"), addresses, complete: true };
    TrackerAnswer::Providers(Providers { providers: vec![provider], last_seeder: None })
}

fn public_group(owner: &str, members: u32) -> TrackerAnswer {
    let (group, policy, standing, born) = (GroupName::public(), JoinPolicy::Public, Standing::None, BUILT_IN_BORN);
    TrackerAnswer::Groups(vec![Group { group, owner: name(owner), policy, members, files: 0, standing, born }])
}

fn share() -> ShareRecord {
    let shape = Shape { length: 10, piece_length: 512 * 1024, hash: HashAlgorithm::Sha1 };
    ShareRecord {
        resting: false,
        user: name("alice"),
        group: GroupName::public(),
        name: name("renamed"),
        content: CONTENT,
        shape,
        path: "/f".into(),
        stamp: SourceStamp { length: 10, modified_ns: 1, device: 1, inode: 1 },
        added: UnixMillis(1),
        born: Some(BUILT_IN_BORN),
    }
}

#[test]
fn the_trackers_that_the_mtorrent_names_are_asked_first_and_the_others_after_them() {
    let mut bench = Bench::new();
    bench.get(["198.51.100.1:9000", "192.0.2.2:9000"]);
    let (ask, tracker, request) = bench.question();
    assert_eq!(
        (tracker, &request),
        (1, &Request::FindFile { group: GroupName::public(), name: name("f"), owner: None })
    );
    bench.refuse(ask, ErrorCode::FILE_NOT_FOUND);
    let (ask, tracker, request) = bench.question();
    assert_eq!((tracker, &request), (1, &Request::Lookup { group: GroupName::public(), content: CONTENT }));
    bench.answer(ask, nobody());
    let (ask, tracker, _) = bench.question();
    assert_eq!(tracker, 0, "the second one is asked where the first knows nobody");
    bench.answer(ask, listing("bob", CONTENT));
    bench.assert_fetched("bob");
}

#[test]
fn a_tracker_is_known_by_its_key_too() {
    let mut bench = Bench::new();
    let key = NodeId([0xe1; 32]);
    bench.get([&format!("tracker.example:1#{key}"), "198.51.100.1:9000"]);
    assert_eq!(bench.question().1, 1);
}

#[test]
fn a_named_tracker_that_does_not_answer_is_passed_over() {
    let mut bench = Bench::new();
    bench.lose(1);
    bench.get(["192.0.2.2:9000", "192.0.2.1:9000"]);
    let (ask, tracker, _) = bench.question();
    assert_eq!(tracker, 0);
    bench.answer(ask, listing("bob", CONTENT));
    bench.assert_fetched("bob");
}

#[test]
fn another_listing_of_that_name_is_not_taken_for_it() {
    let mut bench = Bench::new();
    bench.get(["192.0.2.1:9000", "192.0.2.1:9000"]);
    let (ask, ..) = bench.question();
    bench.answer(ask, listing("eve", ContentId([8; 32])));
    let (ask, tracker, request) = bench.question();
    assert!(tracker == 0 && matches!(request, Request::Lookup { content: CONTENT, .. }));
    bench.answer(ask, somebody());
    bench.assert_fetched("public");
}

#[test]
fn a_tracker_without_this_account_is_no_help_and_no_harm() {
    let mut bench = Bench::new();
    bench.get(["192.0.2.2:9000", "192.0.2.2:9000"]);
    let (ask, tracker, _) = bench.question();
    assert_eq!(tracker, 1);
    bench.refuse(ask, ErrorCode::LOGIN_NEEDED);
    let (ask, tracker, _) = bench.question();
    assert_eq!(tracker, 0);
    bench.refuse(ask, ErrorCode::LOGIN_NEEDED);
    // Nobody has said that nobody has it, so that is not what is told.
    while let Some(output) = bench.engine.poll_output() {
        match output {
            Output::AskTracker(ask, ..) => bench.refuse(ask, ErrorCode::LOGIN_NEEDED),
            Output::Tell(_, Frame::Result(result)) => {
                assert_eq!(result.expect_err("refused").code, ErrorCode::LOGIN_NEEDED);
                return;
            }
            _ => (),
        }
    }
    panic!("no result");
}

#[test]
fn where_every_tracker_is_lost_the_command_waits_for_one() {
    let mut bench = Bench::new();
    bench.get(["192.0.2.1:9000", "192.0.2.2:9000"]);
    for expected in [0, 1] {
        let (ask, tracker, _) = bench.question();
        assert_eq!(tracker, expected);
        bench.lose(tracker);
        bench.refuse(ask, ErrorCode::NO_TRACKER);
    }
    assert!(!bench.drain().iter().any(|output| matches!(output, Output::Tell(..))), "it waits");
    bench.connect(1);
    let (ask, tracker, _) = bench.question();
    assert_eq!(tracker, 1);
    bench.answer(ask, listing("bob", CONTENT));
    bench.assert_fetched("bob");

    let mut bench = Bench::new();
    bench.lose(0);
    bench.lose(1);
    bench.get(["192.0.2.1:9000", "192.0.2.2:9000"]);
    bench.drain();
    bench.now += Duration::from_secs(60);
    bench.engine.tick(at(bench.now));
    assert_eq!(bench.result().expect_err("nobody answers").code, ErrorCode::NO_TRACKER);
}

#[test]
fn what_nobody_has_is_not_waited_for_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench.get(["198.51.100.1:9000", "198.51.100.2:9000"]);
    for _ in 0..2 {
        let (ask, ..) = bench.question();
        bench.refuse(ask, ErrorCode::FILE_NOT_FOUND);
        let (ask, ..) = bench.question();
        bench.answer(ask, nobody());
    }
    let reject = bench.result().expect_err("nobody has it");
    assert_eq!(reject.code, ErrorCode::NO_SEEDER);
    assert!(reject.hint.contains("p2pd --tracker 198.51.100.1:9000 --tracker 198.51.100.2:9000"), "{}", reject.hint);
    assert!(
        bench.engine.downloads.values().next().is_none()
            && bench.engine.steps.values().all(|step| !matches!(step, Step::Public(..)))
    );
}

#[test]
fn what_is_shared_from_here_is_copied_without_a_question() {
    let mut bench = Bench::with_shares(vec![share()]);
    bench.get(["192.0.2.1:9000", "192.0.2.1:9000"]);
    bench.assert_fetched("public");
}

fn begin_share(bench: &mut Bench) -> AskId {
    let (path, mtorrent) = (LocalPath("/a/f".into()), LocalPath("/m".into()));
    bench.tell(Input::Command(COMMAND, Command::Share { path, given: "a/f".to_owned(), mtorrent }));
    let ask = bench.drain().into_iter().find_map(|output| match output {
        Output::ResolveDestination { ask, name, .. } if name.as_str() == "f.mtorrent" => Some(ask),
        Output::Import { .. } => panic!("hashed before it is clear where the .mtorrent goes"),
        _ => None,
    });
    ask.expect("where the .mtorrent goes is looked at")
}

/// `share` up to the moment where the `.mtorrent` is to be written.
fn share_up_to_writing(bench: &mut Bench) -> (AskId, MtorrentToWrite) {
    let ask = begin_share(bench);
    bench.tell(Input::DestinationResolved(ask, Ok("/real/m".into())));
    let (ask, _, request) = bench.question();
    assert_eq!(request, Request::GroupInfo { group: GroupName::public() });
    bench.answer(ask, public_group("public", 0));
    let import = bench.drain().into_iter().find_map(|output| match output {
        Output::Import { ask, hash: HashAlgorithm::Sha1, whole_digest: false, .. } => Some(ask),
        _ => None,
    });
    let ShareRecord { shape, stamp, .. } = share();
    let imported =
        Imported { content: CONTENT, shape, stamp, whole_sha256: None, elapsed: Duration::ZERO, folder: None };
    bench.tell(Input::Imported(import.expect("hashed"), Ok(imported)));
    let (ask, _, request) = bench.question();
    assert_eq!(
        request,
        Request::Publish {
            group: GroupName::public(),
            name: name("f"),
            content: CONTENT,
            length: 10,
            replace: false,
            born: Some(BUILT_IN_BORN)
        }
    );
    bench.answer(ask, TrackerAnswer::Done);
    let kept = bench.drain().into_iter().find_map(|output| match output {
        Output::Remember(ask, changes) if matches!(changes[..], [Change::PutShare(_)]) => Some(ask),
        _ => None,
    });
    bench.tell(Input::Remembered(kept.expect("the share is kept"), Ok(())));
    let written = bench.drain().into_iter().find_map(|output| match output {
        Output::WriteMtorrent(ask, written) => Some((ask, written)),
        _ => None,
    });
    written.expect("the .mtorrent is written last")
}

#[test]
fn share_writes_its_first_two_trackers_with_their_keys() {
    let mut bench = Bench::new();
    let (ask, written) = share_up_to_writing(&mut bench);
    let trackers = written.trackers.each_ref().map(ToString::to_string);
    let key = |byte: u8| NodeId([byte; 32]);
    assert_eq!(trackers, [format!("192.0.2.1:9000#{}", key(0xe0)), format!("192.0.2.2:9000#{}", key(0xe1))]);
    assert_eq!(
        (written.place.as_os_str(), written.given.as_str(), written.content),
        ("/real/m".as_ref(), "a/f", CONTENT)
    );
    bench.tell(Input::MtorrentWritten(ask, Ok(())));
    // It is told once the trackers have heard of the share.
    while let Some(output) = bench.engine.poll_output() {
        match output {
            Output::AskTracker(ask, ..) => bench.answer(ask, TrackerAnswer::Done),
            Output::Tell(COMMAND, Frame::Result(result)) => {
                assert!(matches!(result, Ok(Answer::Shared(_))), "{result:?}");
                return;
            }
            _ => (),
        }
    }
    panic!("no result");
}

#[test]
fn a_mtorrent_that_cannot_be_written_in_the_end_is_told_with_what_stands() {
    let mut bench = Bench::new();
    let (ask, _) = share_up_to_writing(&mut bench);
    bench.tell(Input::MtorrentWritten(ask, Err(Reject::new(ErrorCode::DISK_FULL, "no room"))));
    let reject = bench.result().expect_err("not written");
    assert_eq!(reject.code, ErrorCode::DISK_FULL);
    assert!(reject.message.contains("is in the group `public` now") && reject.message.contains("no room"), "{reject}");
    assert_eq!(bench.engine.shares.active().count(), 1);
}

#[test]
fn a_mtorrent_that_has_no_place_ends_share_before_anything() {
    let mut bench = Bench::new();
    let ask = begin_share(&mut bench);
    bench.tell(Input::DestinationResolved(ask, Err(Reject::new(ErrorCode::DESTINATION_EXISTS, "/m exists"))));
    let reject = bench.result().expect_err("exists");
    assert_eq!(reject.code, ErrorCode::DESTINATION_EXISTS);
    assert!(!reject.hint.contains("--force"), "share has no such option: {}", reject.hint);
}

#[test]
fn nothing_is_shared_in_a_group_of_that_name_that_is_somebodys() {
    let mut bench = Bench::new();
    let ask = begin_share(&mut bench);
    bench.tell(Input::DestinationResolved(ask, Ok("/real/m".into())));
    let (ask, ..) = bench.question();
    bench.answer(ask, public_group("eve", 1));
    assert_eq!(bench.result().expect_err("not the built-in one").code, ErrorCode::NOT_ALLOWED);
}

#[test]
fn remove_withdraws_the_listing_and_then_the_share_under_its_own_name() {
    let mut bench = Bench::with_shares(vec![share()]);
    bench.tell(Input::Command(COMMAND, Command::Remove { mtorrent: LocalPath("/m".into()) }));
    bench.read(["192.0.2.1:9000", "192.0.2.1:9000"]);
    let (ask, _, request) = bench.question();
    let owner = Some(name("alice"));
    assert_eq!(request, Request::FindFile { group: GroupName::public(), name: name("renamed"), owner });
    bench.answer(ask, listing("alice", CONTENT));
    let (ask, _, request) = bench.question();
    assert_eq!(request, Request::Unpublish { group: GroupName::public(), name: name("renamed"), owner: None });
    bench.answer(ask, TrackerAnswer::Done);
    let kept = bench.drain().into_iter().find_map(|output| match output {
        Output::Remember(ask, changes) if matches!(changes[..], [Change::DeleteShare(..)]) => Some(ask),
        _ => None,
    });
    bench.tell(Input::Remembered(kept.expect("the share's end is kept"), Ok(())));
    match bench.result_once_announced() {
        Ok(Answer::FileRemoved(removed)) => assert!(removed.unshared && removed.name.as_str() == "renamed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.engine.shares.of_user().count(), 0);
}

#[test]
fn remove_leaves_another_content_of_that_name_alone() {
    let mut bench = Bench::new();
    bench.tell(Input::Command(COMMAND, Command::Remove { mtorrent: LocalPath("/m".into()) }));
    bench.read(["192.0.2.1:9000", "192.0.2.1:9000"]);
    let (ask, ..) = bench.question();
    bench.answer(ask, listing("alice", ContentId([8; 32])));
    assert_eq!(bench.result().expect_err("another file").code, ErrorCode::FILE_NOT_FOUND);
}
