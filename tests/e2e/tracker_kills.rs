//! A tracker that is killed loses nothing that it acknowledged, and daemons come back to it by themselves.

use p2p_tests::World;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;

use crate::changes::acknowledged_groups;
use crate::{MIB, NAME, Shared, column, entry, number, text};

/// How often the tracker is killed.
const KILLS: usize = 10;

#[test]
fn every_acknowledged_group_is_there_after_kills() {
    let mut world = World::new();
    let alice = world.user("alice");
    let names = acknowledged_groups(&alice, |changes| {
        for kill in 0..KILLS {
            // A different moment each time: in the middle of whatever number of acknowledgements later.
            changes.wait_for(1 + kill % 3);
            world.tracker.kill();
            world.tracker.restart();
        }
    });
    assert!(names.len() >= KILLS);
    let groups = eventually("the tracker answers", || {
        alice.ctl().output(&["list_groups"]).status.success().then(|| alice.json(&["list_groups"]))
    });
    let there = column(&groups["groups"], "group");
    let lost: Vec<_> = names.iter().filter(|name| !there.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // What was acknowledged cannot be made again, whatever was retried in between.
    assert_eq!(alice.refusal(&["create_group", &names[0]]).code, "group_exists");
}

#[test]
fn daemons_reconnect_and_announce_by_themselves() {
    let Shared { alice: _, bob, file, world } = &mut Shared::new(2 * MIB);
    world.tracker.kill();
    world.tracker.restart();
    eventually("alice seeds again", || {
        let output = bob.ctl().output(&["list_files", "photos", "--json"]);
        let files: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (number(entry(&files["files"], "name", NAME), "seeders") == 1).then_some(())
    });
    let copy = world.path("copy");
    bob.run(&["download_file", "photos", NAME, text(&copy)]);
    assert_equal(file, &copy);
}

#[test]
fn a_transfer_does_not_need_the_tracker() {
    let Shared { alice, bob, world, .. } = &mut Shared::new(1);
    let large = random_file(world.folder(), "large", 512 * MIB);
    alice.run(&["upload_file", text(&large), "photos"]);
    let copy = world.path("copy");
    let mut follower = bob.follow(&["download_file", "photos", "large", text(&copy)]);
    let started = follower.until(|document| document["type"] == "started");
    eventually("the first pieces are here", || {
        let download = crate::only_download(bob);
        (number(&download, "have_bytes") > 0).then_some(())
    });
    world.tracker.kill();
    let result = follower.until(|document| document["type"] == "result");
    assert_eq!(result["id"], started["id"]);
    assert_equal(&large, &copy);
}
