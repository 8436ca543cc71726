//! Folders as one listing: uploaded, downloaded by several members, killed on the way, picked from, refused, forged.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use p2p_proto::id::ContentId;
use p2p_proto::tracker::Request;
use p2p_tests::file::{files_under, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use sha2::{Digest as _, Sha256};

use crate::{MIB, entry, number, only_download, text};

/// Alice's folder `album` in the group `photos`, and two other members.
struct Album {
    alice: Daemon,
    bob: Daemon,
    carol: Daemon,
    folder: PathBuf,
    world: World,
}

impl Album {
    /// With a large file of `length` bytes, a hundred small ones, one that can be run, and one that is empty.
    fn new(length: u64) -> Album {
        let world = World::new();
        let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
        alice.run(&["create_group", "photos", "--policy", "open"]);
        bob.run(&["join_group", "photos"]);
        carol.run(&["join_group", "photos"]);
        let folder = world.path("album");
        for sub in ["raw/2026", "small/a b", "bin", "nothing/at all"] {
            std::fs::create_dir_all(folder.join(sub)).expect("makes");
        }
        random_file(&folder.join("raw/2026"), "large.bin", length);
        for nth in 0..100u64 {
            random_file(&folder.join("small/a b"), &format!("{nth}.jpg"), 1000 * nth + 1);
        }
        std::fs::write(folder.join("bin/run.sh"), "#!/bin/sh\n").expect("writes");
        std::fs::set_permissions(folder.join("bin/run.sh"), std::fs::Permissions::from_mode(0o755)).expect("sets");
        std::fs::write(folder.join("small/empty"), "").expect("writes");
        Album { alice, bob, carol, folder, world }
    }

    fn upload(&self) {
        self.alice.run(&["upload_file", text(&self.folder), "photos"]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn assert_copied(&self, copy: &Path) {
        assert_eq!(tree(copy), tree(&self.folder));
    }
}

/// The files beneath a folder: their digests, and whether they can be run.
fn tree(folder: &Path) -> BTreeMap<PathBuf, ([u8; 32], bool)> {
    let file = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("reads");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        (path.strip_prefix(folder).expect("beneath").to_owned(), (Sha256::digest(bytes).into(), mode & 0o100 != 0))
    };
    files_under(folder).into_iter().map(file).collect()
}

#[test]
fn a_folder_is_one_listing_and_arrives_as_it_is() {
    let album = Album::new(3 * MIB);
    let said = album.alice.said(&["upload_file", &format!("{}/", text(&album.folder)), "photos"]);
    assert!(said.contains("album/ is shared with photos: 103 files"), "{said}");
    assert!(said.contains("left out: 1 empty folder"), "{said}");
    let table = album.bob.run(&["list_files", "photos"]);
    assert!(table.contains("album/") && table.contains(", 103 files"), "{table}");
    let listed = &album.bob.json(&["list_files", "photos"])["files"];
    assert_eq!(entry(listed, "name", "album")["files"], 103);

    let copy = album.path("bob's album");
    album.bob.run(&["download_file", "photos", "album/", text(&copy)]);
    album.assert_copied(&copy);
    assert!(!copy.join("nothing").exists(), "a folder without a file is not kept");
    let verified = album.bob.json(&["verify", only_download(&album.bob)["id"].as_str().expect("an id")]);
    assert_eq!(verified["bad_pieces"], serde_json::json!([]), "{verified}");

    // From bob, and into a folder that exists: with its own name.
    album.alice.run(&["stop_share", "photos", "album"]);
    let into = album.path("carol's");
    std::fs::create_dir(&into).expect("makes");
    album.carol.run(&["download_file", "photos", "album", text(&into)]);
    album.assert_copied(&into.join("album"));
    let refusal = album.carol.refusal(&["download_file", "photos", "album", text(&into)]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "destination_exists"), "{refusal:?}");

    // The same again is no other content.
    let again = album.alice.json(&["upload_file", text(&album.folder), "photos"]);
    assert_eq!(again["content"], listed[0]["content"]);
}

#[test]
fn a_folder_is_put_in_the_place_of_nothing() {
    let album = Album::new(MIB);
    album.upload();
    let copy = album.path("copy");
    std::fs::create_dir_all(copy.join("album")).expect("makes");
    std::fs::write(copy.join("album/mine"), "mine").expect("writes");
    for force in [&[][..], &["--force"]] {
        let words = [&["download_file", "photos", "album", text(&copy)][..], force].concat();
        let refusal = album.bob.refusal(&words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "destination_exists"), "{refusal:?}");
    }
    std::fs::write(album.path("file"), "mine").expect("writes");
    let file = album.path("file");
    let refusal = album.bob.refusal(&["download_file", "photos", "album", text(&file), "--force"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "destination_exists"), "{refusal:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("reads"), "mine");
    assert_eq!(std::fs::read_to_string(copy.join("album/mine")).expect("reads"), "mine");
}

#[test]
fn of_a_folder_some_files_are_fetched() {
    let album = Album::new(24 * MIB);
    album.upload();
    let copy = album.path("some");
    let words = ["download_file", "photos", "album", text(&copy), "--only", "bin", "--only", "*/5?.jpg"];
    let documents = album.bob.ctl().documents(&[&words[..], &["--json"]].concat());
    let result = documents.last().expect("a result");
    let mut expected = tree(&album.folder);
    expected.retain(|path, _| path.starts_with("bin") || (path.starts_with("small") && is_fifty(path)));
    assert_eq!(expected.len(), 11);
    assert_eq!(tree(&copy), expected);
    assert!(!copy.join("raw").exists());
    assert!(number(result, "fetched_bytes") < 8 * MIB, "the large file stays there: {result}");
    assert_eq!(only_download(&album.bob)["state"], "complete", "a part of a folder is not shared");
    assert_eq!(album.bob.json(&["list"])["shares"], serde_json::json!([]));
    // What somebody has put in the place of a file that was not picked is theirs.
    std::fs::write(copy.join("raw"), "bob's own").expect("written");
    let id = only_download(&album.bob)["id"].as_str().expect("an id").to_owned();
    album.bob.run(&["cancel", &id, "--delete-data"]);
    eventually("what was picked is gone", || (tree(&copy).len() == 1).then_some(()));
    assert_eq!(std::fs::read_to_string(copy.join("raw")).expect("there"), "bob's own");

    let other = album.path("other");
    let words = ["download_file", "photos", "album", text(&other), "--only", "*.txt"];
    let refusal = album.bob.ctl().json_refusal(&words);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (3, "file_not_found"), "{refusal:?}");
    let refusal = album.bob.refusal(&["download_file", "photos", "album", text(&other), "--only", "["]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (2, "usage"), "{refusal:?}");
    let file = random_file(album.world.folder(), "file", 10);
    album.alice.run(&["upload_file", text(&file), "photos"]);
    let refusal = album.bob.refusal(&["download_file", "photos", "file", text(&other), "--only", "*"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (2, "usage"), "{refusal:?}");
    assert!(!other.exists());
}

fn is_fifty(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.len() == 6 && name.starts_with('5'))
}

#[test]
fn what_cannot_be_shared_is_refused_by_name() {
    let album = Album::new(1000);
    let upload =
        |words: &[&str]| album.alice.refusal(&[&["upload_file", text(&album.folder), "photos"], words].concat());
    symlink("/etc/hostname", album.folder.join("small/link")).expect("links");
    let refusal = upload(&[]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, "not_a_file"), "{refusal:?}");
    assert!(
        refusal.message.contains("album/small/link")
            && refusal.hint.as_deref().unwrap_or_default().contains("--follow-symlinks"),
        "{refusal:?}"
    );
    let said = album.alice.said(&["upload_file", text(&album.folder), "photos", "--follow-symlinks"]);
    assert!(said.contains("1 symbolic link followed: small/link -> /etc/hostname"), "{said}");
    std::fs::remove_file(album.folder.join("small/link")).expect("removes");

    std::os::unix::net::UnixListener::bind(album.folder.join("bin/socket")).expect("binds");
    assert!(upload(&[]).message.contains("album/bin/socket is a socket"));
    std::fs::remove_file(album.folder.join("bin/socket")).expect("removes");

    std::fs::write(album.folder.join("small/EMPTY"), "").expect("writes");
    let refusal = upload(&["--force"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (2, "bad_name"), "{refusal:?}");
    std::fs::remove_file(album.folder.join("small/EMPTY")).expect("removes");

    let empty = album.folder.join("nothing");
    let refusal = album.alice.refusal(&["upload_file", text(&empty), "photos"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, "not_a_file"), "{refusal:?}");
    let refusal = upload(&["--whole-digest"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (2, "usage"), "{refusal:?}");
    let refusal = album.alice.refusal(&["share", text(&album.folder)]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, "not_a_file"), "{refusal:?}");
    assert!(refusal.hint.as_deref().unwrap_or_default().contains("upload_file"), "{refusal:?}");
}

#[test]
fn a_folder_in_which_a_file_changes_is_taken_out_of_sharing() {
    let album = Album::new(2 * MIB);
    album.upload();
    std::fs::write(album.folder.join("small/a b/7.jpg"), "something else").expect("writes");
    let reason = eventually("the change was seen", || {
        let problems = album.alice.json(&["status"])["problems"].to_string();
        problems.contains("7.jpg").then_some(problems)
    });
    assert!(reason.contains("album/small/a b/7.jpg"), "{reason}");
    let shares = album.alice.json(&["list"]);
    assert_ne!(shares["shares"][0]["state"], "seeding", "{shares}");
}

/// Kills of the downloader.
const KILLS: u32 = 12;

#[test]
fn a_folder_outlives_kills_and_is_never_seen_half() {
    let mut album = Album::new(48 * MIB);
    album.upload();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let copy = album.path("copy");
    let started = album.bob.json(&["download_file", "photos", "album", text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id").to_owned();
    let whole = number(&started, "length");
    let mut before = 0;
    for kill in 0..KILLS {
        let at = before + random.u64(..whole / u64::from(KILLS));
        eventually("some of it is here", || {
            let have = number(&only_download(&album.bob), "have_bytes");
            assert!(have >= before || have == 0, "{have} bytes are here where {before} were");
            (have >= at || copy.exists()).then(|| before = before.max(have.min(whole)))
        });
        album.bob.kill();
        if copy.exists() {
            album.assert_copied(&copy);
        }
        if kill % 4 == 3 {
            album.alice.kill();
            album.alice.restart();
        }
        album.bob.restart();
    }
    album.bob.run(&["wait", &id]);
    album.assert_copied(&copy);
    assert!(!album.path("copy.part").exists());
    // A kill costs at most what was on its way.
    let fetched = number(&only_download(&album.bob), "fetched_bytes");
    println!("{fetched} bytes fetched of {whole}");
}

#[test]
fn cancel_pause_and_resume_know_folders() {
    let album = Album::new(32 * MIB);
    album.upload();
    album.bob.run(&["limit", "--down", "1MB"]);
    let copy = album.path("copy");
    let started = album.bob.json(&["download_file", "photos", "album", text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id");
    let part = album.path("copy.part");
    eventually("it has begun", || (number(&only_download(&album.bob), "have_bytes") > 0).then_some(()));
    assert_eq!(std::fs::metadata(&part).expect("a folder").permissions().mode() & 0o777, 0o700);
    album.bob.run(&["pause", id]);
    album.bob.run(&["why", id]);
    album.bob.run(&["resume", id]);
    album.bob.run(&["cancel", id]);
    eventually("its part is gone", || (!part.exists()).then_some(()));
    assert!(!copy.exists());
    album.bob.run(&["limit", "--down", "0"]);
    let started = album.bob.json(&["download_file", "photos", "album", text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id");
    album.bob.run(&["wait", id]);
    album.bob.run(&["cancel", id, "--delete-data"]);
    assert!(!copy.exists());
}

#[test]
fn a_folder_that_its_group_lists_is_what_its_manifest_says() {
    let album = Album::new(1000);
    album.upload();
    let content: ContentId = album.bob.json(&["list_files", "photos"])["files"][0]["content"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    // Listed as a file by somebody else: the number of files is a word, the manifest decides.
    let runtime = p2p_tests::hostile::runtime();
    runtime.block_on(async {
        use p2p_tests::hostile::client::named;
        let key = p2p_tests::hostile::Key::new();
        let (here, there) = (p2p_tests::world::own_address(), album.world.tracker.address);
        let client = p2p_tests::hostile::Client::enter(here, there, &key, "mallory", "mallory's password").await;
        client.ask(Request::JoinGroup { group: named("photos") }).await.expect("an open group");
        let length = album.alice.json(&["list_files", "photos"])["files"][0]["length"].as_u64().expect("a length");
        let publish = Request::Publish {
            group: named("photos"),
            name: named("plain"),
            content,
            length,
            replace: false,
            born: None,
        };
        client.ask(publish).await.expect("lists it");
    });
    let copy = album.path("plain");
    album.bob.run(&["download_file", "photos", "plain", text(&copy)]);
    album.assert_copied(&copy);
}
