//! What happens, told to those who follow it and shown to the owner who was away.

use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use serde_json::Value;

use crate::{MIB, NAME, Shared, text};

/// Follows a daemon's events, from now on.
fn events(daemon: &Daemon) -> p2p_tests::ctl::Follower {
    let mut follower = daemon.follow(&["events"]);
    assert_eq!(follower.next_document().map(|first| first["type"].clone()), Some("started".into()));
    follower
}

fn is(document: &Value, event: &str) -> bool {
    assert_eq!(document["type"], "event");
    assert!(document["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{document}");
    document["event"] == event
}

#[test]
fn an_owner_hears_who_asks_to_join() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.run(&["create_group", "fleet"]);
    let (mut owner, mut asker) = (events(&alice), events(&bob));
    bob.run(&["join_group", "fleet"]);
    let asked = owner.until(|document| is(document, "join_requested"));
    assert_eq!((&asked["group"], &asked["user"]), (&"fleet".into(), &"bob".into()));
    assert_eq!(asker.until(|document| is(document, "membership"))["standing"], "requested");
    alice.run(&["accept_request", "fleet", "bob"]);
    assert_eq!(asker.until(|document| is(document, "membership"))["standing"], "member");
    alice.run(&["remove_member", "fleet", "bob"]);
    assert_eq!(asker.until(|document| is(document, "membership"))["standing"], "none");
}

#[test]
fn an_owner_who_was_away_sees_who_waits_in_status() {
    let world = World::new();
    let (mut alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.run(&["create_group", "fleet"]);
    let waiting = |alice: &Daemon| {
        let status = alice.json(&["status"]);
        let rows = status["join_requests"].as_array().expect("a list").clone();
        rows.iter().map(|row| (row["group"].clone(), row["user"].clone())).collect::<Vec<_>>()
    };
    let row = |user: &str| (Value::from("fleet"), Value::from(user));
    assert_eq!(waiting(&alice), []);
    alice.stop();
    bob.run(&["join_group", "fleet"]);
    carol.run(&["join_group", "fleet"]);
    alice.restart();
    eventually("both are shown", || (waiting(&alice) == [row("bob"), row("carol")]).then_some(()));
    assert!(alice.run(&["status"]).contains("! bob asks to join fleet: p2pctl accept_request fleet bob"));
    alice.run(&["accept_request", "fleet", "bob"]);
    assert_eq!(waiting(&alice), [row("carol")], "who was let in waits no longer");
    carol.run(&["leave_group", "fleet"]);
    eventually("a request that was taken back is gone", || waiting(&alice).is_empty().then_some(()));
    assert_eq!(bob.json(&["status"])["join_requests"], Value::Array(vec![]));
}

#[test]
fn downloads_and_shares_are_told_as_they_change() {
    let Shared { alice, bob, world, .. } = &Shared::new(4 * MIB);
    let (mut publisher, mut reader) = (events(alice), events(bob));
    bob.run(&["download_file", "photos", NAME, text(&world.path("copy"))]);
    let done = reader.until(|document| is(document, "download") && document["state"] == "seeding");
    assert_eq!((&done["name"], &done["have_bytes"]), (&NAME.into(), &(4 * MIB).into()));
    alice.run(&["stop_share", "photos", NAME]);
    let stopped = publisher.until(|document| is(document, "share_stopped"));
    assert_eq!((&stopped["name"], &stopped["reason"]), (&NAME.into(), &Value::Null));
    alice.run(&["logout"]);
    assert_eq!(publisher.until(|document| is(document, "account"))["user"], Value::Null);
    let id = done["id"].as_str().expect("an id").to_owned();
    bob.run(&["cancel", &id]);
    assert_eq!(reader.until(|document| is(document, "download_gone"))["id"], done["id"]);
}

#[test]
fn a_tracker_that_goes_and_comes_is_told() {
    let mut world = World::new();
    let alice = world.user("alice");
    let mut follower = events(&alice);
    world.tracker.kill();
    let lost = follower.until(|document| is(document, "tracker"));
    assert_eq!((&lost["state"], lost["reason"].is_string()), (&"unreachable".into(), true));
    world.tracker.restart();
    follower.until(|document| is(document, "tracker") && document["state"] == "ok");
}

#[test]
fn following_ends_with_130_for_ctrl_c_and_with_7_for_the_daemon_s_end() {
    let world = World::new();
    let mut alice = world.user("alice");
    let follower = events(&alice);
    follower.interrupt();
    let output = follower.finish();
    assert_eq!(output.status.code(), Some(130));
    let error: Value = serde_json::from_slice(&output.stderr).expect("one document");
    assert_eq!((&error["code"], &error["exit_code"]), (&"interrupted".into(), &130.into()));
    for end in [Daemon::stop, Daemon::kill] {
        let follower = events(&alice);
        end(&mut alice);
        let output = follower.finish();
        assert_eq!(output.status.code(), Some(7));
        let error: Value = serde_json::from_slice(&output.stderr).expect("one document");
        assert_eq!((&error["code"], error["message"].is_string()), (&"no_daemon".into(), true));
        alice.restart();
    }
}
