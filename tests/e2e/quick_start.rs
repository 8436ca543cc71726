//! The first minutes with the product, as a person types them and as a script does.

use p2p_tests::World;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::world::PASSWORD;

use crate::{MIB, NAME, entry, text};

#[test]
fn a_file_is_shared_with_a_group_and_downloaded() {
    let world = World::new();
    let file = random_file(world.folder(), NAME, 3 * MIB + 1);
    let copy = world.path("copy.jpg");

    let mut alice = world.daemon("alice");
    assert!(alice.said(&["create_user", "alice", PASSWORD]).contains("alice"));
    assert!(alice.said(&["login", "alice", PASSWORD]).contains("alice"));
    assert!(alice.said(&["create_group", "photos", "--policy", "public"]).contains("photos"));
    assert!(alice.said(&["upload_file", text(&file), "photos"]).contains(NAME));

    let mut bob = world.daemon("bob");
    bob.run(&["create_user", "bob", PASSWORD]);
    bob.run(&["login", "bob", PASSWORD]);
    let groups = bob.run(&["list_groups"]);
    assert_eq!(words(&groups, 0), ["GROUP", "OWNER", "POLICY", "MEMBERS", "FILES", "YOU"], "{groups}");
    assert_eq!(words(&groups, 1)[..5], ["photos", "alice", "public", "1", "1"], "{groups}");
    let files = bob.run(&["list_files", "photos"]);
    assert_eq!(words(&files, 0), ["NAME", "SIZE", "SEEDERS", "PARTIAL", "HERE", "OWNER", "ADDED"], "{files}");
    assert_eq!(words(&files, 1)[..5], [NAME, "3.0", "MiB", "1", "0"], "{files}");
    let done = bob.said(&["download_file", "photos", NAME, text(&copy)]);
    assert!(done.contains("7 pieces") && done.contains(text(&copy)), "{done}");
    assert_equal(&file, &copy);

    assert!(bob.said(&["show_downloads"]).contains(NAME));
    assert!(bob.said(&["status"]).contains("bob"));
    alice.run(&["stop_share", "photos", NAME]);
    bob.run(&["stop_share", "photos", NAME]);
    alice.run(&["logout"]);
    bob.run(&["logout"]);
    for daemon in [&mut alice, &mut bob] {
        daemon.run(&["shutdown"]);
        daemon.wait_for_end();
    }
}

#[test]
fn every_step_is_a_document_for_scripts() {
    let world = World::new();
    let file = random_file(world.folder(), NAME, 3 * MIB + 1);
    let copy = world.path("copy.jpg");

    let mut alice = world.daemon("alice");
    let created = alice.json(&["create_user", "alice", PASSWORD]);
    assert_eq!((&created["type"], &created["user"]), (&"user_created".into(), &"alice".into()));
    let login = alice.json(&["login", "alice", PASSWORD]);
    assert_eq!((&login["type"], &login["user"]), (&"logged_in".into(), &"alice".into()));
    assert_eq!(login["node"].as_str().map(str::len), Some(64), "ids are whole: {login}");
    let group = alice.json(&["create_group", "photos", "--policy", "public"]);
    assert_eq!((&group["type"], &group["policy"]), (&"group_created".into(), &"public".into()));
    let uploaded = alice.json(&["upload_file", text(&file), "photos"]);
    assert_eq!((&uploaded["type"], &uploaded["name"]), (&"uploaded".into(), &NAME.into()));
    assert_eq!((&uploaded["length"], &uploaded["pieces"]), (&(3 * MIB + 1).into(), &7.into()));
    assert_eq!(uploaded["hash"], "blake3");

    let bob = world.daemon("bob");
    bob.json(&["create_user", "bob", PASSWORD]);
    bob.json(&["login", "bob", PASSWORD]);
    let groups = bob.json(&["list_groups"]);
    let photos = entry(&groups["groups"], "group", "photos");
    assert_eq!((&photos["owner"], &photos["files"]), (&"alice".into(), &1.into()));
    let files = bob.json(&["list_files", "photos"]);
    let listing = entry(&files["files"], "name", NAME);
    assert_eq!((&listing["seeders"], &listing["here_bytes"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(listing["content"], uploaded["content"]);

    let documents = bob.ctl().documents(&["download_file", "photos", NAME, text(&copy)]);
    let kinds: Vec<_> = documents.iter().map(|document| document["type"].as_str().expect("a type")).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"started"), Some(&"result")), "{kinds:?}");
    assert!(kinds[1..kinds.len() - 1].iter().all(|kind| *kind == "progress"), "{kinds:?}");
    let result = documents.last().expect("a result");
    assert_eq!((&result["pieces"], &result["destination"]), (&7.into(), &text(&copy).into()));
    assert_equal(&file, &copy);

    let downloads = bob.json(&["show_downloads"]);
    assert_eq!(entry(&downloads["downloads"], "name", NAME)["state"], "seeding");
    let status = bob.json(&["status"]);
    assert_eq!((&status["type"], &status["user"]), (&"status".into(), &"bob".into()));
    assert_eq!(status["key_exchange"], "X25519MLKEM768");
    assert_eq!(alice.json(&["stop_share", "photos", NAME])["type"], "share_stopped");
    assert_eq!(alice.json(&["list"])["shares"], serde_json::json!([]));
    assert_eq!(alice.json(&["logout"])["type"], "logged_out");
    let process_id = alice.process().id();
    assert_eq!(alice.json(&["shutdown"])["process_id"], process_id);
    alice.wait_for_end();
}

/// The words of a line, numbered from 0.
fn words(table: &str, line: usize) -> Vec<&str> {
    table.lines().nth(line).unwrap_or_default().split_whitespace().collect()
}
