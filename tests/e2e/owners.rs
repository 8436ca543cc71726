//! What owners and publishers change: policies, listings, and files of one name.

use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use serde_json::Value;

use crate::{MIB, NAME, Shared, column, entry, number, only_download, text};

/// Alice, the owner, bob and carol in the open group `photos`.
struct Members {
    alice: Daemon,
    bob: Daemon,
    carol: Daemon,
    world: World,
}

impl Members {
    fn new() -> Members {
        let world = World::new();
        let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
        alice.run(&["create_group", "photos", "--policy", "open"]);
        bob.run(&["join_group", "photos"]);
        carol.run(&["join_group", "photos"]);
        Members { alice, bob, carol, world }
    }

    /// Publishes a file of so many random bytes as `NAME`.
    fn publish(&self, publisher: &Daemon, length: u64) -> std::path::PathBuf {
        let file = random_file(self.world.folder(), &format!("{length} bytes"), length);
        publisher.run(&["upload_file", text(&file), "photos", "--name", NAME]);
        file
    }
}

/// The owners that a group's list names, in its order.
fn listed(daemon: &Daemon) -> Vec<String> {
    let files = daemon.json(&["list_files", "photos"]);
    column(&files["files"], "owner").into_iter().map(str::to_owned).collect()
}

#[test]
fn who_waits_is_let_in_when_the_group_is_opened() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.run(&["create_group", "fleet"]);
    bob.run(&["join_group", "fleet"]);
    let refusal = bob.refusal(&["set_policy", "fleet", "open"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (5, "not_owner"));
    assert_eq!(alice.refusal(&["set_policy", "ghosts", "open"]).code, "group_not_found");
    assert_eq!(alice.refusal(&["set_policy", "fleet", "secret"]).exit_code, 2);
    let set = alice.json(&["set_policy", "fleet", "open"]);
    assert_eq!((&set["type"], &set["group"], &set["policy"]), (&"policy_set".into(), &"fleet".into(), &"open".into()));
    assert_eq!(column(&bob.json(&["list_members", "fleet"])["members"], "user"), ["alice", "bob"]);
    assert_eq!(entry(&bob.json(&["list_groups"])["groups"], "group", "fleet")["policy"], "open");
    assert_eq!(alice.said(&["set_policy", "fleet", "approval"]).trim(), "group fleet is approval now");
    assert_eq!(column(&bob.json(&["list_my_groups"])["groups"], "group"), ["fleet"], "who is in stays in");
}

#[test]
fn a_reader_is_cut_off_when_the_group_is_no_longer_public() {
    let Shared { alice, bob, world, .. } = &mut Shared::new(64 * MIB);
    let carol = world.user("carol");
    carol.run(&["join_group", "photos"]);
    alice.run(&["transfer_group", "photos", "carol"]);
    // While alice's daemon stands still, bob's download has begun and cannot end.
    bob.run(&["list_files", "photos"]);
    alice.stop();
    let mut follower = bob.follow(&["download_file", "photos", NAME, text(&world.path("copy"))]);
    follower.until(|document| document["type"] == "started");
    carol.run(&["set_policy", "photos", "approval"]);
    let output = follower.finish();
    let error: Value = serde_json::from_slice(&output.stderr).expect("one document");
    assert_eq!((&error["code"], &error["exit_code"]), (&"not_member".into(), &5.into()));
    assert_eq!(only_download(bob)["state"], "error");
    alice.restart();
    assert_eq!(bob.refusal(&["list_files", "photos"]).code, "not_member");
    let id = only_download(bob)["id"].as_str().expect("an id").to_owned();
    let refusal = bob.refusal(&["resume", &id]);
    assert_eq!(
        (refusal.exit_code, refusal.code.as_str()),
        (5, "not_member"),
        "the seeder is back, and it is of no use"
    );
    assert_eq!(only_download(bob)["state"], "error", "as it was");
    assert!(!world.path("copy").exists());
    carol.run(&["set_policy", "photos", "public"]);
    bob.run(&["resume", &id]);
    bob.run(&["wait", &id]);
}

#[test]
fn a_listing_is_withdrawn_by_its_publisher_and_by_the_owner_and_by_nobody_else() {
    let members = Members::new();
    let Members { alice, bob, carol, world } = &members;
    let file = members.publish(bob, 1000);
    carol.run(&["download_file", "photos", NAME, text(&world.path("carol's"))]);
    let refusal = carol.refusal(&["remove_file", "photos", NAME]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (5, "not_owner"));
    assert!(refusal.message.contains("bob") && refusal.message.contains("alice"), "says who may: {refusal:?}");
    assert_eq!(listed(carol), ["bob"]);

    let removed = bob.json(&["remove_file", "photos", NAME]);
    assert_eq!((&removed["type"], &removed["owner"]), (&"file_removed".into(), &"bob".into()));
    assert_eq!(removed["unshared"], true);
    assert_eq!(listed(carol), [""; 0]);
    assert_eq!(bob.json(&["list"])["shares"], Value::Array(vec![]));
    assert!(file.exists());
    assert_eq!(bob.refusal(&["remove_file", "photos", NAME]).code, "file_not_found");
    assert_eq!(alice.refusal(&["download_file", "photos", NAME, text(&world.path("late"))]).code, "file_not_found");

    bob.run(&["upload_file", text(&file), "photos", "--name", NAME]);
    assert_eq!(
        alice.said(&["remove_file", "photos", NAME]).trim(),
        format!("{NAME} of bob is no longer listed in photos")
    );
    assert_eq!(listed(carol), [""; 0]);
}

#[test]
fn an_edited_file_is_published_again_with_force() {
    let members = Members::new();
    let Members { alice, bob, carol, world } = &members;
    let file = members.publish(bob, MIB);
    let copy = world.path("copy");
    carol.run(&["download_file", "photos", NAME, text(&copy)]);
    std::fs::write(&file, "edited").expect("written");
    let refusal = bob.refusal(&["upload_file", text(&file), "photos", "--name", NAME]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "file_exists"));
    assert!(refusal.hint.as_deref().is_some_and(|hint| hint.contains("--force")), "{refusal:?}");
    bob.run(&["upload_file", text(&file), "photos", "--name", NAME, "--force"]);
    let files = alice.json(&["list_files", "photos"]);
    assert_eq!(number(entry(&files["files"], "owner", "bob"), "length"), 6);
    let shares = bob.json(&["list"]);
    assert_eq!(shares["shares"].as_array().map(Vec::len), Some(1), "{shares}");
    assert_eq!(shares["shares"][0]["seeding"], true, "{shares}");

    // To the same place: the old copy is replaced, on disk and in sharing.
    assert_eq!(carol.refusal(&["download_file", "photos", NAME, text(&copy)]).code, "destination_exists");
    carol.run(&["download_file", "photos", NAME, text(&copy), "--force"]);
    assert_equal(&file, &copy);
    assert_eq!(carol.json(&["list"])["shares"][0]["length"], 6);
    // Nobody else replaces it, and nobody else's is replaced.
    let other = members.publish(alice, 2000);
    alice.run(&["upload_file", text(&other), "photos", "--name", NAME, "--force"]);
    assert_eq!(listed(alice), ["alice", "bob"]);
}

#[test]
fn files_of_one_name_are_one_where_they_are_equal_and_chosen_where_they_are_not() {
    let members = Members::new();
    let Members { alice, bob, carol, world } = &members;
    let file = members.publish(bob, 1000);
    alice.run(&["upload_file", text(&file), "photos", "--name", NAME]);
    assert_eq!(listed(carol), ["alice", "bob"], "both publish it");
    let copy = world.path("either");
    carol.run(&["download_file", "photos", NAME, text(&copy)]);
    assert_equal(&file, &copy);
    assert_eq!(carol.json(&["file_info", "photos", NAME])["file"]["length"], 1000);
    // One's own is meant; the other's keeps it listed, and shared.
    assert_eq!(bob.json(&["remove_file", "photos", NAME])["unshared"], false);
    assert_eq!(
        (listed(carol), bob.json(&["list"])["shares"].as_array().map(Vec::len)),
        (vec!["alice".into()], Some(1))
    );

    let other = random_file(world.folder(), "another", 3000);
    bob.run(&["upload_file", text(&other), "photos", "--name", NAME]);
    for words in [
        &["download_file", "photos", NAME, text(&world.path("which"))][..],
        &["file_info", "photos", NAME],
        &["remove_file", "photos", NAME],
    ] {
        let refusal = carol.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (6, "ambiguous_name"), "{words:?}: {refusal:?}");
        let hint = refusal.hint.expect("a hint");
        for choice in ["alice:beach.jpg", "bob:beach.jpg", &format!("p2pctl {} photos alice:beach.jpg", words[0])] {
            assert!(hint.contains(choice), "{hint}");
        }
    }
    for (owner, file) in [("alice", &file), ("bob", &other)] {
        let copy = world.path(&format!("{owner}'s"));
        let chosen = format!("{owner}:{NAME}");
        assert_eq!(carol.json(&["file_info", "photos", &chosen])["file"]["owner"], owner);
        carol.run(&["download_file", "photos", &chosen, text(&copy)]);
        assert_equal(file, &copy);
    }
    assert_eq!(bob.json(&["remove_file", "photos", NAME])["owner"], "bob", "one's own is meant");
    eventually("only alice's is left", || (listed(carol) == ["alice"]).then_some(()));
}
