//! Joining, being let in or turned away, leaving: who may see what in between.

use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World, file};
use serde_json::Value;

use crate::{MIB, NAME, column, entry, made_groups, text};

#[test]
fn an_owner_lets_in_and_turns_away() {
    let world = World::new();
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.run(&["create_group", "genomics"]);
    assert_eq!(policy_and_standing(&bob.json(&["list_groups"])), ("approval".into(), "none".into()));

    let asked = bob.json(&["join_group", "genomics"]);
    assert_eq!((&asked["member"], &asked["waiting_for"]), (&false.into(), &"alice".into()));
    carol.run(&["join_group", "genomics"]);
    assert_eq!(policy_and_standing(&bob.json(&["list_groups"])).1, "requested");
    assert_eq!(bob.json(&["list_my_groups"])["groups"], Value::Array(vec![]));
    let requests = alice.json(&["list_requests", "genomics"]);
    assert_eq!(column(&requests["requests"], "user"), ["bob", "carol"]);

    assert_eq!(alice.json(&["accept_request", "genomics", "bob"])["type"], "request_accepted");
    assert_eq!(alice.json(&["reject_request", "genomics", "carol"])["type"], "request_rejected");
    assert_eq!(alice.json(&["list_requests", "genomics"])["requests"], Value::Array(vec![]));
    let members = bob.json(&["list_members", "genomics"]);
    assert_eq!(column(&members["members"], "user"), ["alice", "bob"]);
    assert_eq!(entry(&members["members"], "user", "alice")["owner"], true);
    assert_eq!(column(&bob.json(&["list_my_groups"])["groups"], "group"), ["genomics"]);
    assert_eq!(carol.json(&["list_my_groups"])["groups"], Value::Array(vec![]));
    assert_eq!(carol.refusal(&["list_members", "genomics"]).exit_code, 5);

    assert_eq!(bob.json(&["leave_group", "genomics"])["type"], "group_left");
    assert_eq!(column(&alice.json(&["list_members", "genomics"])["members"], "user"), ["alice"]);
    assert_eq!(bob.json(&["list_my_groups"])["groups"], Value::Array(vec![]));
}

#[test]
fn a_member_who_was_let_in_downloads() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let file = file::random_file(world.folder(), NAME, MIB);
    let copy = world.path("copy");
    alice.run(&["create_group", "genomics"]);
    alice.run(&["upload_file", text(&file), "genomics"]);
    bob.run(&["join_group", "genomics"]);
    assert_eq!(bob.refusal(&["download_file", "genomics", NAME, text(&copy)]).code, "not_member");
    alice.run(&["accept_request", "genomics", "bob"]);
    bob.run(&["download_file", "genomics", NAME, text(&copy)]);
    file::assert_equal(&file, &copy);
}

#[test]
fn an_open_group_is_joined_at_once() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.run(&["create_group", "fleet", "--policy", "open"]);
    let joined = bob.json(&["join_group", "fleet"]);
    assert_eq!((&joined["member"], &joined["waiting_for"]), (&true.into(), &Value::Null));
    assert_eq!(column(&alice.json(&["list_members", "fleet"])["members"], "user"), ["alice", "bob"]);
}

#[test]
fn a_group_is_handed_on_before_its_owner_leaves() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.run(&["create_group", "fleet", "--policy", "open"]);
    bob.run(&["join_group", "fleet"]);
    assert_eq!(alice.refusal(&["leave_group", "fleet"]).code, "owner_must_hand_over");
    assert_eq!(alice.json(&["transfer_group", "fleet", "bob"])["type"], "group_transferred");
    alice.run(&["leave_group", "fleet"]);
    assert_eq!(bob.refusal(&["leave_group", "fleet"]).exit_code, 6, "the last member ends the group, with --force");
    bob.run(&["leave_group", "fleet", "--force"]);
    assert!(made_groups(&alice).is_empty());
}

#[test]
fn a_removed_member_downloads_no_more() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let file = file::random_file(world.folder(), NAME, MIB);
    alice.run(&["create_group", "fleet", "--policy", "open"]);
    alice.run(&["upload_file", text(&file), "fleet"]);
    bob.run(&["join_group", "fleet"]);
    bob.run(&["list_files", "fleet"]);
    assert_eq!(alice.json(&["remove_member", "fleet", "bob"])["type"], "member_removed");
    assert_eq!(bob.refusal(&["download_file", "fleet", NAME, text(&world.path("copy"))]).code, "not_member");
    assert!(!world.path("copy").exists());
    alice.run(&["delete_group", "fleet"]);
    eventually("the group is gone for everybody", || {
        (bob.refusal(&["list_files", "fleet"]).exit_code == 3).then_some(())
    });
}

fn policy_and_standing(groups: &Value) -> (String, String) {
    let group = entry(&groups["groups"], "group", "genomics");
    let text = |field: &str| group[field].as_str().expect("a text").to_owned();
    (text("policy"), text("standing"))
}

/// Waits until a daemon says of its one share that it is not shared, with this in the reason; the reason.
fn not_shared(daemon: &Daemon, why: &str) -> String {
    eventually(&format!("the share is not shared: {why}"), || {
        let list = daemon.json(&["list"]);
        let share = &list["shares"][0];
        let reason = share["reason"].as_str()?.to_owned();
        (share["seeding"] == false && reason.contains(why)).then_some(reason)
    })
}

#[test]
fn what_was_shared_with_a_group_that_has_ended_says_so_and_how_to_take_it_out() {
    let world = World::new();
    let mut alice = world.user("alice");
    let shared = file::random_file(world.folder(), NAME, MIB);
    alice.run(&["create_group", "genomics"]);
    alice.run(&["upload_file", text(&shared), "genomics"]);
    assert_eq!(alice.json(&["status"])["shares_seeding"], 1);
    alice.run(&["delete_group", "genomics"]);
    let ended = |alice: &Daemon| {
        let reason = not_shared(alice, "group genomics has ended");
        assert!(reason.contains(&format!("`p2pctl stop_share genomics {NAME}`")), "{reason}");
        let status = alice.json(&["status"]);
        assert_eq!((&status["shares_seeding"], &status["shares_stopped"]), (&0.into(), &1.into()), "{status}");
        let problem = status["problems"][0].as_str().expect("a problem");
        assert!(problem.starts_with("group genomics has ended"), "{status}");
    };
    ended(&alice);
    // A daemon that starts asks a tracker.
    alice.stop();
    alice.restart();
    ended(&alice);
    alice.run(&["stop_share", "genomics", NAME]);
    assert_eq!(alice.json(&["list"])["shares"], Value::Array(vec![]));
    assert_eq!(alice.json(&["status"])["problems"], Value::Array(vec![]));
    // A new group of the name is another matter.
    alice.run(&["create_group", "genomics"]);
    alice.run(&["upload_file", text(&shared), "genomics"]);
    eventually("it is shared", || (alice.json(&["list"])["shares"][0]["seeding"] == true).then_some(()));
}

#[test]
fn what_was_shared_with_a_group_that_one_was_taken_out_of_says_so_until_one_is_back() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let shared = file::random_file(world.folder(), NAME, MIB);
    alice.run(&["create_group", "genomics", "--policy", "open"]);
    bob.run(&["join_group", "genomics"]);
    bob.run(&["upload_file", text(&shared), "genomics"]);
    alice.run(&["remove_member", "genomics", "bob"]);
    not_shared(&bob, "no longer a member of genomics");
    bob.run(&["join_group", "genomics"]);
    eventually("it is shared again", || (bob.json(&["list"])["shares"][0]["seeding"] == true).then_some(()));
    assert_eq!(bob.json(&["status"])["problems"], Value::Array(vec![]));
}
