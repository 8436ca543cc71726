//! `upload_file --wait-copies`: ends when so many other nodes hold all of the file.

use p2p_tests::file::random_file;
use serde_json::json;

use crate::{MIB, NAME, entry, number, text};

#[test]
fn an_upload_ends_when_enough_others_hold_all_of_it() {
    let world = p2p_tests::World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.user(name));
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let file = random_file(world.folder(), NAME, 2 * MIB);
    let mut following = alice.ctl().follow(&["upload_file", text(&file), "photos", "--wait-copies", "2"]);
    let started = following.next_document().expect("it begins");
    assert_eq!((&started["type"], &started["name"]), (&json!("started"), &json!(NAME)), "{started}");
    let none = following.next_document().expect("progress");
    assert_eq!((&none["type"], number(&none, "copies"), number(&none, "wanted")), (&json!("progress"), 0, 2), "{none}");
    bob.run(&["download_file", "photos", NAME, text(&world.path("bob's copy"))]);
    following.until(|document| document["type"] == "progress" && document["copies"] == 1);
    carol.run(&["download_file", "photos", NAME, text(&world.path("carol's copy"))]);
    let result = following.until(|document| document["type"] == "result");
    assert_eq!((number(&result, "copies"), &result["uploaded"]["name"]), (2, &json!(NAME)), "{result}");
    assert!(following.finish().status.success());
}

#[test]
fn who_stops_waiting_for_copies_goes_on_sharing() {
    let world = p2p_tests::World::new();
    let alice = world.user("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let file = random_file(world.folder(), NAME, MIB);
    let mut following = alice.ctl().follow(&["upload_file", text(&file), "photos", "--wait-copies", "1"]);
    following.until(|document| document["type"] == "progress");
    following.interrupt();
    assert_eq!(following.finish().status.code(), Some(130));
    assert_eq!(entry(&alice.json(&["list"])["shares"], "name", NAME)["seeding"], true);
    assert_eq!(alice.refusal(&["upload_file", text(&file), "photos", "--wait-copies", "51"]).exit_code, 2);
}
