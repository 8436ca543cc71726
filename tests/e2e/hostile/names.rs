//! Names and words from others: never a path, never a terminal's master, never more than is asked for.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use p2p_proto::frame;
use p2p_proto::id::ContentId;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, Event, JoinPolicy, Request};
use p2p_tests::file::{assert_equal, files_under, random_file};
use p2p_tests::hostile::client::{envelope, named};
use p2p_tests::hostile::tracker::{listing, replied};
use p2p_tests::hostile::{Client, Key, runtime};
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;

use super::{Staged, node, stranger};
use crate::{MIB, NAME, Shared, column, text};

/// What no name may be: a path, a folder, something that cannot be shown.
const WRONG_NAMES: [&str; 13] =
    ["../x", "/x", "a/../b", ".", "..", "", "a\0b", "a\\b", "\u{1b}]0;x\u{7}", "a\nb", "a\rb", "a\u{85}b", "\u{7f}"];

/// Every wrong name, and one that is too long by a byte.
fn wrong_names() -> Vec<String> {
    WRONG_NAMES.iter().map(|name| (*name).to_owned()).chain(["x".repeat(256)]).collect()
}

/// A frame that holds a name which its type would refuse, made from one that holds a stand-in of the same length.
fn with_name<T: serde::Serialize>(message: impl Fn(&str) -> T, name: &str) -> Vec<u8> {
    // One byte longer than is allowed cannot be stood in for: its length goes into the bytes too.
    let stand_in = "~".repeat(name.len().clamp(1, 255));
    let honest = frame::encode(&message(&stand_in));
    let (length, rest) = honest.split_at(frame::PREFIX_BYTES);
    assert_eq!(length.len(), 4);
    let varint =
        |length: usize| if length < 0x80 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    let old = [varint(stand_in.len()), stand_in.into_bytes()].concat();
    let new = [varint(name.len()), name.as_bytes().to_vec()].concat();
    let mut body = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(&old) {
            body.extend_from_slice(&new);
            at += old.len();
        } else {
            body.push(rest[at]);
            at += 1;
        }
    }
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

#[test]
fn a_frame_with_a_right_name_is_what_forgers_begin_with() {
    let publish = |name: &str| Request::Publish {
        group: named("g"),
        name: named(name),
        content: ContentId([1; 32]),
        length: 5,
        replace: false,
        born: None,
    };
    for name in ["a", "a name", &"y".repeat(255)] {
        assert_eq!(with_name(publish, name), frame::encode(&publish(name)));
    }
}

#[test]
fn a_tracker_takes_no_wrong_name() {
    let shared = Shared::new(10);
    let content = ContentId([1; 32]);
    runtime().block_on(async {
        let client = Client::enter(stranger(), shared.world.tracker.address, &Key::new(), "mallory", PASSWORD).await;
        client.ask(Request::CreateGroup { group: named("mine"), policy: JoinPolicy::Public }).await.expect("a group");
        let envelope =
            |request| p2p_proto::tracker::Envelope { id: p2p_tests::hostile::client::random_id(), seen: 0, request };
        for name in wrong_names() {
            let publish = |name: &str| {
                envelope(Request::Publish {
                    group: named("mine"),
                    name: named(name),
                    content,
                    length: 5,
                    replace: false,
                    born: None,
                })
            };
            let create = |name: &str| envelope(Request::CreateGroup { group: named(name), policy: JoinPolicy::Open });
            let find =
                |name: &str| envelope(Request::FindFile { group: named("mine"), name: named(name), owner: None });
            for bytes in [with_name(publish, &name), with_name(create, &name), with_name(find, &name)] {
                let refused = client.ask_bytes(&bytes).await.expect_err(&name);
                assert_eq!(refused.code, ErrorCode::MALFORMED, "{name:?}: {refused}");
            }
        }
    });
    let groups = shared.alice.json(&["list_groups"]);
    assert_eq!(column(&groups["groups"], "group"), ["mine", "photos", "public"]);
    assert_eq!(shared.alice.json(&["list_files", "mine"])["files"], serde_json::json!([]));
}

/// Every file under a folder with its bytes, links as such.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_under(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).expect("reads"))).collect()
}

/// A folder with another in it where downloads go, and the files around it that must stay as they are.
fn canary(staged: &Staged) -> (PathBuf, PathBuf) {
    let (around, into) = (staged.path("canary"), staged.path("canary/into"));
    std::fs::create_dir_all(&into).expect("a folder");
    for name in ["x", "b", ".profile"] {
        std::fs::write(around.join(name), "canary").expect("writes");
    }
    (around, into)
}

#[test]
fn a_daemon_takes_no_wrong_name_from_a_tracker() {
    let staged = Staged::new(MIB);
    let (around, into) = canary(&staged);
    let before = tree(&around);
    let (content, owner) = (staged.content, "alice");
    for name in wrong_names() {
        let shown = name.clone();
        staged.tracker.books().instead = Some(Box::new(move |request| match request {
            Request::FindFile { .. } | Request::ListFiles { .. } => {
                let files =
                    |name: &str| replied(Ok(Answer::Files(vec![listing(named(name), named(owner), content, MIB)])));
                Some(with_name(files, &name))
            }
            _ => None,
        }));
        for words in [&["list_files", "photos"][..], &["download_file", "photos", NAME, text(&into)]] {
            let refusal = eventually("the daemon asks the tracker", || {
                // It hangs up on who breaks the protocol, and comes back.
                let refusal = staged.bob.ctl().json_refusal(words);
                (refusal.code != "no_tracker").then_some(refusal)
            });
            assert_eq!(refusal.code, "malformed", "{shown:?}: {refusal:?}");
        }
        staged.tracker.books().instead = None;
    }
    assert_eq!(tree(&around), before);
}

#[test]
fn what_is_asked_for_by_name_gets_no_other() {
    let staged = Staged::new(MIB);
    let (around, into) = canary(&staged);
    let before = tree(&around);
    let content = staged.content;
    // A right name, but not the one that was asked for; an owner that was not asked for.
    let lies: [(&str, &str, &[&str]); 3] = [
        (".profile", "alice", &["photos", NAME]),
        (".profile", "alice", &["--owner", "alice", "photos", NAME]),
        (NAME, "mallory", &["--owner", "alice", "photos", NAME]),
    ];
    for (name, owner, words) in lies {
        staged.tracker.books().instead = Some(Box::new(move |request| match request {
            Request::FindFile { .. } => {
                let listing = listing(named(name), named(owner), content, MIB);
                Some(frame::encode(&replied(Ok(Answer::Files(vec![listing])))))
            }
            _ => None,
        }));
        let refusal = staged.bob.refusal(&[&["download_file"], words, &[text(&into)]].concat());
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (3, "file_not_found"), "{refusal:?}");
    }
    // One's own file, in the place of the one that is to be removed or told about.
    staged.tracker.books().instead = Some(Box::new(move |request| match request {
        Request::FindFile { .. } => {
            let listing = listing(named("kept"), named("bob"), content, MIB);
            Some(frame::encode(&replied(Ok(Answer::Files(vec![listing])))))
        }
        _ => None,
    }));
    for verb in ["remove_file", "file_info"] {
        let refusal = staged.bob.refusal(&[verb, "photos", NAME]);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (3, "file_not_found"), "{verb}: {refusal:?}");
    }
    assert_eq!(tree(&around), before);
}

/// Text that steers no terminal and fakes no line.
fn assert_harmless(what: &str, text: &str) {
    for wrong in ['\u{1b}', '\u{7}', '\u{202e}', '\u{85}', '\r'] {
        assert!(!text.contains(wrong), "{what} has {wrong:?}: {text:?}");
    }
    assert!(!text.lines().any(|line| line.starts_with("FAKE")), "{what}: {text:?}");
}

#[test]
fn what_others_write_is_shown_harmless() {
    const STEERING: &str = "\u{1b}]0;x\u{7}\u{1b}[31m\u{202e}\u{85}\r\nFAKE line";
    let mut staged = Staged::new(MIB);
    // A name that is allowed, and turns what is written behind it around.
    let name = "a\u{202e}gpj.exe";
    let file = random_file(staged.folder.path(), "plain", 10);
    staged.alice.run(&["upload_file", text(&file), "photos", "--name", name]);
    let table = staged.bob.run(&["list_files", "photos"]);
    assert!(table.contains(r"a\u{202e}gpj.exe"), "{table}");
    assert_harmless("a table", &table);
    let copy = staged.path("copy");
    let said = staged.bob.said(&["download_file", "photos", name, text(&copy)]);
    assert_harmless("what a download says", &said);
    assert_eq!(staged.bob.json(&["list_files", "photos"])["files"][1]["name"], name, "scripts get it as it is");

    // A tracker's refusal, its event, its last words.
    staged.tracker.books().instead = Some(Box::new(|request| match request {
        Request::CreateGroup { .. } => {
            let reject = Reject::new(ErrorCode::NOT_ALLOWED, STEERING).hint(STEERING);
            Some(frame::encode(&replied(Err(reject))))
        }
        _ => None,
    }));
    let refusal = staged.bob.ctl().refusal(&["create_group", "mine"]);
    assert_harmless("a refusal", &refusal.message);
    let bob = node(&staged.bob);
    // No user or group has such a name, whatever a tracker says: an event can bring none.
    assert!("a\u{202e}b".parse::<p2p_proto::name::UserName>().is_err());
    let joined = Event::JoinRequested { group: named("mine"), user: named("carol") };
    staged.runtime.block_on(staged.tracker.tell(bob, &[joined]));
    staged.tracker.hang_up(bob, 5, STEERING.as_bytes());
    eventually("the daemon has heard its tracker's last words", || {
        let status = staged.bob.ctl().output(&["status"]);
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        assert_harmless("status", &said);
        said.contains("FAKE").then_some(())
    });
    let log = staged.bob.process().log_tail();
    assert!(log.contains("FAKE"), "it is logged: {log}");
    assert_harmless("the log", &log);
}

#[test]
fn twins_of_a_name_are_refused_with_the_reason() {
    let Shared { alice, world, .. } = &Shared::new(10);
    for (first, second) in [("A.txt", "a.TXT"), ("caf\u{e9}.txt", "cafe\u{301}.txt")] {
        let (one, other) = (random_file(world.folder(), "one", 11), random_file(world.folder(), "other", 12));
        alice.run(&["upload_file", text(&one), "photos", "--name", first]);
        let refusal = alice.refusal(&["upload_file", text(&other), "photos", "--name", second]);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "file_exists"), "{second}: {refusal:?}");
        assert!(refusal.message.contains(first) || refusal.message.contains(second), "says which: {refusal:?}");
    }
}

#[test]
fn a_folder_that_turns_into_a_link_leads_nowhere_else() {
    let mut staged = Staged::new(16 * MIB);
    let (outside, parent) = (staged.path("outside"), staged.path("parent"));
    let into = parent.join("into");
    std::fs::create_dir_all(&outside).expect("a folder");
    std::fs::write(outside.join("canary"), "canary").expect("writes");
    std::fs::create_dir_all(&into).expect("a folder");
    let alice = std::mem::take(&mut staged.tracker.books().providers);
    let bob = node(&staged.bob);
    // All of them wait for a seeder with their folder known, and begin while it is swapped.
    for copy in 0..8 {
        let name = format!("copy {copy}");
        let file = random_file(staged.folder.path(), &name, MIB + copy);
        staged.alice.run(&["upload_file", text(&file), "photos"]);
        let destination = into.join(&name);
        let started = staged.bob.json(&["download_file", "photos", &name, text(&destination), "--detach"]);
        assert_eq!(started["destination"], text(&destination));
    }
    let over = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let (aside, mut swaps) = (parent.join("aside"), 0);
            while !over.load(Ordering::Relaxed) {
                // A folder, then a link to somewhere else under the same name, then the folder again.
                std::fs::rename(&into, &aside).expect("renames");
                symlink(&outside, &into).expect("links");
                std::thread::yield_now();
                std::fs::remove_file(&into).expect("was there");
                std::fs::rename(&aside, &into).expect("renames");
                swaps += 1;
            }
            swaps
        });
        staged.tracker.books().providers.clone_from(&alice);
        let downloads = staged.bob.json(&["show_downloads"])["downloads"].clone();
        for download in downloads.as_array().expect("a list") {
            let content = download["content"].as_str().expect("an id").parse().expect("an id");
            let event = Event::Provider { group: named("photos"), content, provider: alice[0].clone() };
            staged.runtime.block_on(staged.tracker.tell(bob, &[event]));
        }
        for download in downloads.as_array().expect("a list") {
            // Stopped with a reason, or brought into the folder: both are right.
            staged.bob.ctl().output(&["wait", download["id"].as_str().expect("an id")]);
        }
        over.store(true, Ordering::Relaxed);
        swapping.join().expect("does not panic")
    });
    assert!(swaps > 10, "only {swaps} swaps");
    let touched = files_under(&outside);
    assert_eq!(touched, [outside.join("canary")]);
    for copy in files_under(&into).iter().filter(|path| path.extension().is_none()) {
        assert_equal(&staged.path(copy.file_name().and_then(|name| name.to_str()).expect("a name")), copy);
    }
    assert!(staged.bob.process().is_running());
}

#[test]
fn a_giant_that_fits_no_disk_is_refused_before_a_file_exists() {
    let Shared { alice: _alice, bob, world, .. } = &Shared::new(10);
    let into = world.path("into");
    std::fs::create_dir_all(&into).expect("a folder");
    runtime().block_on(async {
        let client = Client::enter(stranger(), world.tracker.address, &Key::new(), "mallory", PASSWORD).await;
        client.ask(Request::JoinGroup { group: named("photos") }).await.expect("a public group");
        for (name, length) in [("exbibyte", 1 << 60), ("everything", u64::MAX)] {
            let publish = Request::Publish {
                group: named("photos"),
                name: named(name),
                content: ContentId([8; 32]),
                length,
                replace: false,
                born: None,
            };
            // A tracker may find that too much as well.
            if client.ask_bytes(&envelope(publish)).await.is_err() {
                continue;
            }
            // Others are shown it all the same.
            for words in [&["list_files", "photos"][..], &["file_info", "photos", name]] {
                bob.run(words);
                bob.json(words);
            }
            let refusal = bob.refusal(&["download_file", "photos", name, text(&into)]);
            assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, "disk_full"), "{refusal:?}");
        }
    });
    assert_eq!(files_under(&into), Vec::<PathBuf>::new());
    assert_eq!(bob.json(&["show_downloads"])["downloads"], serde_json::json!([]));
}
