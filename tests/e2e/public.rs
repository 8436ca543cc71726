//! The public side: `share`, `get`, `remove`, `download` and `list`, and `.mtorrent` files, tampered ones among them.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use p2p_tests::file::{assert_equal, files_under, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};
use serde_json::json;
use sha1::{Digest as _, Sha1};

use crate::{MIB, NAME, column, entry, number, only_download, text};

const PIECE: usize = 512 * 1024;

/// The `.mtorrent` of alice's file.
const MTORRENT: &str = "beach.jpg.mtorrent";

/// Alice has shared a file with everybody; bob is logged in.
struct Public {
    alice: Daemon,
    bob: Daemon,
    file: PathBuf,
    mtorrent: PathBuf,
    world: World,
}

impl Public {
    fn new(length: u64) -> Public {
        let world = World::new();
        let (alice, bob) = (world.user("alice"), world.user("bob"));
        let file = random_file(world.folder(), NAME, length);
        alice.run(&["share", NAME]);
        let mtorrent = world.path(MTORRENT);
        Public { alice, bob, file, mtorrent, world }
    }

    /// A `.mtorrent` with one line, from 1, in the place of alice's.
    fn with_line(&self, line: usize, put: &str) -> PathBuf {
        let whole = fs::read_to_string(&self.mtorrent).expect("reads");
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[line - 1] = put;
        self.write(&(lines.join("\n") + "\n"))
    }

    fn write(&self, whole: &str) -> PathBuf {
        let path = self.world.path("tampered.mtorrent");
        fs::write(&path, whole).expect("writes");
        path
    }
}

/// What `share` has to write, from nothing but the description of the layout.
fn expected_text(tracker: &str, given: &str, file: &Path) -> String {
    let bytes = fs::read(file).expect("reads");
    let digests: Vec<String> = bytes.chunks(PIECE).map(|piece| hex(&Sha1::digest(piece))).collect();
    let last = hex(&Sha1::digest(digests.concat()));
    let mut lines = vec![tracker.to_owned(), tracker.to_owned(), given.to_owned(), bytes.len().to_string()];
    lines.extend(digests);
    lines.push(last);
    lines.join("\n") + "\n"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names_of(daemon: &Daemon, group: &str) -> Vec<String> {
    column(&daemon.json(&["list_files", group])["files"], "name").into_iter().map(str::to_owned).collect()
}

#[test]
fn a_file_is_shared_with_everybody_and_taken_back() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let groups = alice.json(&["list_groups"]);
    let public = entry(&groups["groups"], "group", "public");
    assert_eq!(
        (&public["owner"], &public["policy"], &public["members"]),
        (&"public".into(), &"public".into(), &0.into())
    );
    assert_eq!(alice.json(&["list_my_groups"])["groups"], json!([]));

    let file = random_file(world.folder(), NAME, 3 * MIB + 1);
    let said = alice.said(&["share", NAME]);
    let mtorrent = world.path(MTORRENT);
    assert!(said.contains("beach.jpg is shared with public") && said.contains("p2pctl get "), "{said}");
    let tracker = format!("{}#{}", world.tracker.address, world.tracker.id);
    assert_eq!(fs::read_to_string(&mtorrent).expect("written"), expected_text(&tracker, NAME, &file));
    let shares = alice.json(&["list"]);
    let share = entry(&shares["shares"], "name", NAME);
    assert_eq!((&share["group"], &share["seeding"]), (&"public".into(), &true.into()));

    let (got, downloaded) = (world.path("got"), world.path("downloaded"));
    let done = bob.json(&["get", text(&mtorrent), text(&got)]);
    assert_eq!((&done["type"], &done["pieces"], &done["group"]), (&"result".into(), &7.into(), &"public".into()));
    assert_equal(&file, &got);
    bob.run(&["download", "alice:beach.jpg", text(&downloaded)]);
    assert_equal(&file, &downloaded);
    assert_eq!(column(&bob.json(&["list"])["shares"], "name"), [NAME], "who has it shares it");

    let removed = alice.json(&["remove", text(&mtorrent)]);
    assert_eq!((&removed["type"], &removed["unshared"]), (&"file_removed".into(), &true.into()));
    assert_eq!((&removed["name"], &removed["owner"]), (&NAME.into(), &"alice".into()));
    assert_eq!(names_of(&bob, "public"), [""; 0]);
    assert_eq!(alice.json(&["list"])["shares"], json!([]));
    assert!(file.exists() && mtorrent.exists(), "only the sharing ends");
    let again = alice.refusal(&["remove", text(&mtorrent)]);
    assert_eq!((again.exit_code, again.code.as_str()), (3, "file_not_found"));
}

#[test]
fn the_mtorrent_goes_where_it_is_told_and_names_the_path_as_typed() {
    let world = World::new();
    let alice = world.user("alice");
    fs::create_dir_all(world.path("a folder/deeper")).expect("a folder");
    let file = random_file(&world.path("a folder"), "naïve café 2.bin", PIECE as u64);
    let given = "./a folder/deeper/../naïve café 2.bin";
    let shared = alice.json(&["share", given, "a folder/holiday.mtorrent"]);
    assert_eq!(shared["type"], "shared");
    assert_eq!(shared["uploaded"]["hash"], "sha1");
    let mtorrent = world.path("a folder/holiday.mtorrent");
    assert_eq!(
        fs::canonicalize(shared["mtorrent"].as_str().expect("a path")).expect("there"),
        fs::canonicalize(&mtorrent).expect("there")
    );
    let tracker = format!("{}#{}", world.tracker.address, world.tracker.id);
    assert_eq!(fs::read_to_string(&mtorrent).expect("written"), expected_text(&tracker, given, &file));
    assert_eq!(names_of(&alice, "public"), ["naïve café 2.bin"]);
    // A folder means a file in it; the same file again is no other listing.
    alice.run(&["share", given, text(world.folder())]);
    assert!(world.path("naïve café 2.bin.mtorrent").exists());
    assert_eq!(names_of(&alice, "public").len(), 1);
    let left = files_under(&world.path("a folder"));
    assert!(left.iter().all(|path| !path.to_string_lossy().contains(".part")), "{left:?}");
}

#[test]
fn lengths_around_nothing_and_around_a_piece_are_shared_and_got() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let folder = world.path("got");
    fs::create_dir(&folder).expect("a folder");
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1] {
        let name = format!("{length} bytes");
        let file = random_file(world.folder(), &name, length as u64);
        alice.run(&["share", &name]);
        let mtorrent = world.path(&format!("{name}.mtorrent"));
        let tracker = format!("{}#{}", world.tracker.address, world.tracker.id);
        assert_eq!(fs::read_to_string(&mtorrent).expect("written"), expected_text(&tracker, &name, &file));
        bob.run(&["get", text(&mtorrent), text(&folder)]);
        assert_equal(&file, &folder.join(&name));
    }
}

#[test]
fn a_third_user_gets_it_when_the_publishers_daemon_is_gone() {
    let Public { mut alice, bob, file, mtorrent, world } = Public::new(3 * MIB);
    bob.run(&["get", text(&mtorrent), text(&world.path("bob's"))]);
    alice.kill();
    let carol = world.user("carol");
    carol.run(&["get", text(&mtorrent), text(&world.path("carol's"))]);
    assert_equal(&file, &world.path("carol's"));
}

#[test]
fn a_third_user_gets_it_when_the_publisher_has_removed_it() {
    let Public { mut alice, bob, file, mtorrent, world } = Public::new(3 * MIB);
    bob.run(&["get", text(&mtorrent), text(&world.path("bob's"))]);
    alice.run(&["remove", text(&mtorrent)]);
    alice.stop();
    let carol = world.user("carol");
    assert_eq!(names_of(&carol, "public"), [""; 0]);
    let by_name = carol.refusal(&["download", NAME, text(&world.path("by name"))]);
    assert_eq!((by_name.exit_code, by_name.code.as_str()), (3, "file_not_found"));
    carol.run(&["get", text(&mtorrent), text(&world.path("carol's"))]);
    assert_equal(&file, &world.path("carol's"));
}

#[test]
fn a_seeder_of_what_is_not_listed_is_found_again_after_every_restart() {
    let Public { mut alice, mut bob, file, mtorrent, mut world } = Public::new(MIB);
    bob.run(&["get", text(&mtorrent), text(&world.path("bob's"))]);
    alice.run(&["remove", text(&mtorrent)]);
    alice.kill();
    bob.kill();
    world.tracker.kill();
    world.tracker.restart();
    bob.restart();
    let carol = world.user("carol");
    let copy = world.path("carol's");
    // The tracker forgets presence: until bob has told it again, nobody has the file.
    eventually("bob is found", || {
        carol.ctl().output(&["get", text(&mtorrent), text(&copy)]).status.success().then_some(())
    });
    assert_equal(&file, &copy);
}

#[test]
fn a_get_waits_for_a_publisher_who_is_listed_and_goes_on_by_itself() {
    let Public { mut alice, mut bob, file, mtorrent, world } = Public::new(2 * MIB);
    alice.kill();
    let copy = world.path("copy");
    let started = bob.json(&["get", text(&mtorrent), text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id").to_owned();
    fs::remove_file(&mtorrent).expect("ours");
    bob.kill();
    bob.restart();
    assert_eq!(only_download(&bob)["id"], id.as_str());
    alice.restart();
    bob.run(&["wait", &id]);
    assert_equal(&file, &copy);
}

#[test]
fn what_nobody_has_is_11_and_says_which_trackers_may_know() {
    let public = Public::new(PIECE as u64);
    let never_shared = random_file(public.world.folder(), "never shared", 10);
    let whole = expected_text("192.0.2.7:9000", "never shared", &never_shared);
    let refusal = public.bob.refusal(&["get", text(&public.write(&whole)), text(&public.world.path("copy"))]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (11, "no_seeder"), "{refusal:?}");
    assert!(refusal.message.contains("192.0.2.7:9000"), "{refusal:?}");
    assert!(refusal.hint.expect("a hint").contains("p2pd --tracker 192.0.2.7:9000"));
    let ours = expected_text(&public.world.tracker.address.to_string(), "never shared", &never_shared);
    let refusal = public.bob.refusal(&["get", text(&public.write(&ours)), text(&public.world.path("copy"))]);
    assert_eq!(refusal.exit_code, 11, "{refusal:?}");
    assert!(!refusal.hint.expect("a hint").contains("p2pd"));
    assert_eq!(public.bob.json(&["show_downloads"])["downloads"], json!([]));
}

#[test]
fn the_second_tracker_is_asked_where_the_first_does_not_answer() {
    let world = World::new();
    let alice = world.user("alice");
    let file = random_file(world.folder(), NAME, MIB);
    alice.run(&["share", NAME]);
    // Nothing listens there: the port is taken, by nobody who speaks QUIC.
    let taken = std::net::UdpSocket::bind((world.tracker.address.ip(), 0)).expect("a port");
    let dead = taken.local_addr().expect("bound").to_string();
    let live = world.tracker.address.to_string();
    let mut bob = world.resting_daemon("bob").with_trackers(vec![dead.clone(), live.clone()]);
    bob.restart();
    bob.run(&["create_user", "bob", PASSWORD]);
    bob.run(&["login", "bob", PASSWORD]);
    let whole = fs::read_to_string(world.path(MTORRENT)).expect("reads");
    let rest: String = whole.lines().skip(2).map(|line| format!("{line}\n")).collect();
    for (number, (first, second)) in [(&dead, &live), (&live, &dead), (&dead, &dead)].into_iter().enumerate() {
        let mtorrent = world.path("two.mtorrent");
        fs::write(&mtorrent, format!("{first}\n{second}\n{rest}")).expect("writes");
        let copy = world.path(&format!("copy {number}"));
        bob.run(&["get", text(&mtorrent), text(&copy)]);
        assert_equal(&file, &copy);
    }
    // What this daemon shares names both of its trackers, the silent one without an id.
    let other = random_file(world.folder(), "other", 10);
    bob.run(&["share", text(&other)]);
    let written = fs::read_to_string(world.path("other.mtorrent")).expect("written");
    let lines: Vec<&str> = written.lines().take(2).collect();
    assert_eq!(lines, [dead, format!("{live}#{}", world.tracker.id)]);
}

#[test]
fn a_get_that_is_repeated_and_one_onto_what_exists() {
    let Public { bob, file, mtorrent, world, .. } = &Public::new(MIB);
    let (copy, another) = (world.path("copy"), world.path("another"));
    bob.run(&["get", text(mtorrent), text(&copy)]);
    let refusal = bob.refusal(&["get", text(mtorrent), text(&copy)]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "destination_exists"));
    bob.run(&["get", text(mtorrent), text(&another)]);
    assert_equal(file, &another);
    fs::write(&another, "mine").expect("writes");
    bob.run(&["get", text(mtorrent), text(&another), "--force"]);
    assert_equal(file, &another);
    let refusal = bob.refusal(&["get", text(mtorrent), text(&world.path("ghost/copy"))]);
    assert_eq!(refusal.exit_code, 9, "{refusal:?}");
    assert_eq!(bob.refusal(&["get", text(mtorrent), "-"]).exit_code, 2);
}

#[test]
fn a_tampered_mtorrent_is_refused_and_changes_nothing() {
    let public = Public::new(PIECE as u64 + 10);
    let Public { bob, world, .. } = &public;
    let whole = fs::read_to_string(&public.mtorrent).expect("reads");
    let folder = world.path("downloads");
    fs::create_dir(&folder).expect("a folder");
    let other = "ab".repeat(20);
    let cut = |lines: usize| whole.lines().take(lines).map(|line| format!("{line}\n")).collect::<String>();
    let more = format!("{whole}{other}\n");
    let refused = |path: PathBuf, exit_code: i32, code: &str| {
        let shown = fs::read_to_string(&path).unwrap_or_default();
        for verb in [&["get", text(&path), text(&folder)][..], &["remove", text(&path)]] {
            // A change that leaves a `.mtorrent` of some content is no fault of the file: nobody has that content.
            if code == "no_seeder" && verb[0] == "remove" {
                continue;
            }
            let refusal = bob.refusal(verb);
            assert_eq!((refusal.exit_code, refusal.code.as_str()), (exit_code, code), "{verb:?}: {refusal:?}: {shown}");
        }
        assert_eq!(bob.json(&["show_downloads"])["downloads"], json!([]));
        assert!(files_under(&folder).is_empty());
        assert_eq!(names_of(bob, "public"), [NAME]);
    };
    for (line, put) in [(1, "not an address"), (2, "host:0"), (2, ""), (4, "-1"), (4, "1e3"), (4, ""), (5, "abc")] {
        refused(public.with_line(line, put), 1, "malformed");
    }
    for put in ["", ".", "..", "a/..", "a/", "a\\b", "a\u{1b}[31mb"] {
        refused(public.with_line(3, put), 2, "bad_name");
    }
    // Another number of pieces than there are digests; a claim of an exbibyte; fewer and more lines.
    for size in ["0", "10", "1048577", "1152921504606846976", "18446744073709551615", "18446744073709551616"] {
        refused(public.with_line(4, size), 1, "malformed");
    }
    for lines in 0..whole.lines().count() {
        refused(public.write(&cut(lines)), 1, "malformed");
    }
    refused(public.write(&more), 1, "malformed");
    for line in [5, 6, 7] {
        refused(public.with_line(line, &other), 10, "integrity");
    }
    // As many pieces, other bytes: another content, which nobody has.
    refused(public.with_line(4, &(PIECE + 11).to_string()), 11, "no_seeder");
}

#[test]
fn what_is_no_file_is_9_and_keeps_nobody_waiting() {
    let Public { bob, world, .. } = &Public::new(10);
    let fifo = world.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("runs").success());
    let socket = world.path("socket");
    let _listener = UnixListener::bind(&socket).expect("binds");
    let dangling = world.path("dangling");
    std::os::unix::fs::symlink(world.path("ghost"), &dangling).expect("a link");
    for (path, code) in [
        (fifo.as_path(), "not_a_file"),
        (&socket, "not_a_file"),
        (world.folder(), "not_a_file"),
        (Path::new("/dev/zero"), "not_a_file"),
        (&world.path("ghost"), "file_missing"),
        (&dangling, "file_missing"),
    ] {
        for verb in [&["get", text(path), "copy"][..], &["remove", text(path)]] {
            let refusal = bob.refusal(verb);
            assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, code), "{verb:?}: {refusal:?}");
        }
    }
    // A terabyte without a word of sense is not read to its end.
    let giant = world.path("giant");
    let file = fs::File::create(&giant).expect("makes");
    file.set_len(1 << 40).expect("a sparse file");
    let refusal = bob.refusal(&["get", text(&giant), "copy"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (1, "malformed"));
}

#[test]
fn a_path_in_a_mtorrent_leads_nowhere() {
    let public = Public::new(10);
    let folder = public.world.path("downloads");
    fs::create_dir(&folder).expect("a folder");
    for (path, name) in [("/etc/passwd", "passwd"), ("../../../evil", "evil"), ("a/../b c", "b c")] {
        let mtorrent = public.with_line(3, path);
        public.bob.run(&["get", text(&mtorrent), text(&folder)]);
        assert_equal(&public.file, &folder.join(name));
    }
    assert_eq!(files_under(&folder).len(), 3);
}

#[test]
fn what_cannot_be_shared_leaves_no_listing_and_no_mtorrent() {
    let Public { alice, mtorrent, world, .. } = &Public::new(10);
    let refused = |words: &[&str], exit_code: i32, code: &str| {
        let refusal = alice.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (exit_code, code), "{words:?}: {refusal:?}");
        assert_eq!(names_of(alice, "public"), [NAME], "{words:?}");
        assert_eq!(column(&alice.json(&["list"])["shares"], "name"), [NAME], "{words:?}");
        refusal
    };
    let before = fs::read(mtorrent).expect("reads");
    let refusal = refused(&["share", NAME], 6, "destination_exists");
    assert!(refusal.hint.expect("a hint").contains("share FILE MTORRENT"));
    assert_eq!(fs::read(mtorrent).expect("reads"), before, "what exists is left alone");
    refused(&["share", "ghost"], 9, "file_missing");
    refused(&["share", text(world.folder())], 9, "not_a_file");
    refused(&["share", NAME, "ghost/x.mtorrent"], 9, "not_writable");
    // Another file under the same name.
    fs::create_dir(world.path("other")).expect("a folder");
    random_file(&world.path("other"), NAME, 20);
    refused(&["share", "other/beach.jpg", "other.mtorrent"], 6, "file_exists");
    assert!(!world.path("other.mtorrent").exists());
    // Names that cannot stand in a line.
    for name in ["a\nb", "a\u{1b}b"] {
        random_file(world.folder(), name, 10);
        refused(&["share", name], 2, "bad_name");
    }
    let left = files_under(world.folder());
    let strays: Vec<_> = left.iter().filter(|path| path.to_string_lossy().contains(".part")).collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn the_public_verbs_need_a_login_and_a_tracker() {
    let Public { mut alice, bob, mtorrent, mut world, .. } = Public::new(10);
    bob.run(&["logout"]);
    for words in [
        &["share", NAME, "x"][..],
        &["get", text(&mtorrent), "copy"],
        &["remove", text(&mtorrent)],
        &["download", NAME, "copy"],
    ] {
        let refusal = bob.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (4, "login_needed"), "{words:?}");
    }
    world.tracker.kill();
    random_file(world.folder(), "late", 10);
    for words in [&["share", "late"][..], &["remove", text(&mtorrent)]] {
        let refusal = alice.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (8, "no_tracker"), "{words:?}");
    }
    assert!(!world.path("late.mtorrent").exists());
    alice.stop();
}

#[test]
fn the_built_in_group_cannot_be_joined_left_or_taken() {
    let Public { alice, bob, world, .. } = &Public::new(10);
    for words in [
        &["join_group", "public"][..],
        &["leave_group", "public", "--force"],
        &["delete_group", "Public"],
        &["transfer_group", "public", "bob"],
        &["remove_member", "public", "alice"],
        &["accept_request", "public", "alice"],
        &["list_requests", "public"],
    ] {
        let refusal = bob.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (5, "not_allowed"), "{words:?}: {refusal:?}");
    }
    let refusal = bob.refusal(&["create_group", "PUBLIC"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "group_exists"));
    let refusal = bob.refusal(&["create_user", "Public", PASSWORD]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (2, "bad_name"));
    // Everybody publishes in it by the other verbs too, each under their own name.
    let file = random_file(world.folder(), "bob's", 20);
    bob.run(&["upload_file", text(&file), "public", "--name", NAME]);
    let files = alice.json(&["list_files", "public"]);
    assert_eq!(column(&files["files"], "owner"), ["alice", "bob"]);
    let ambiguous = alice.refusal(&["download", NAME, text(&world.path("copy"))]);
    assert_eq!((ambiguous.exit_code, ambiguous.code.as_str()), (6, "ambiguous_name"));
    alice.run(&["download", "bob:beach.jpg", text(&world.path("copy"))]);
    assert_equal(&file, &world.path("copy"));
    let public = alice.json(&["list_groups"]);
    assert_eq!(number(entry(&public["groups"], "group", "public"), "files"), 2);
}
