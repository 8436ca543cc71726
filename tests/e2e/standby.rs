//! `stop_share` over restarts, and shares that come back by themselves when they are asked for.

use p2p_tests::Daemon;
use p2p_tests::file::assert_equal;
use p2p_tests::wait::eventually;
use serde_json::Value;

use crate::{MIB, NAME, Shared, entry, number, only_download, text};

/// Number of seeders that a group's list shows.
fn seeders(daemon: &Daemon) -> u64 {
    number(entry(&daemon.json(&["list_files", "photos"])["files"], "name", NAME), "seeders")
}

fn share(daemon: &Daemon) -> Value {
    daemon.json(&["list"])["shares"][0].clone()
}

#[test]
fn a_stopped_share_stays_stopped_over_restarts_until_it_is_uploaded_again() {
    let Shared { alice, bob, file, world } = &mut Shared::new(MIB);
    alice.run(&["stop_share", "photos", NAME]);
    assert_eq!(seeders(bob), 0, "when the command has ended, everybody knows");
    for end in [Daemon::stop, Daemon::kill] {
        end(alice);
        alice.restart();
        assert_eq!(alice.json(&["list"])["shares"], Value::Array(vec![]));
    }
    world.tracker.kill();
    world.tracker.restart();
    for member in [&*alice, &*bob] {
        eventually("the tracker is back", || member.ctl().output(&["list_groups"]).status.success().then_some(()));
    }
    bob.run(&["download_file", "--detach", "photos", NAME, text(&world.path("copy"))]);
    eventually("nobody has it", || (only_download(bob)["state"] == "waiting").then_some(()));
    assert_eq!(seeders(bob), 0);
    alice.run(&["upload_file", text(file), "photos"]);
    let id = only_download(bob)["id"].as_str().expect("an id").to_owned();
    bob.run(&["wait", &id]);
    assert_equal(file, &world.path("copy"));
}

#[test]
fn a_resting_share_comes_back_when_a_member_asks() {
    let Shared { alice, bob, file, world } = &mut Shared::new(MIB);
    let stopped = alice.json(&["stop_share", "photos", NAME, "--until-requested"]);
    assert_eq!((&stopped["type"], &stopped["until_requested"]), (&"share_stopped".into(), &true.into()));
    for end in [Daemon::stop, Daemon::kill] {
        end(alice);
        alice.restart();
    }
    world.tracker.kill();
    world.tracker.restart();
    eventually("the tracker is back", || bob.ctl().output(&["list_groups"]).status.success().then_some(()));
    assert_eq!(seeders(bob), 0);
    bob.run(&["file_info", "photos", NAME]);
    let resting = share(alice);
    assert_eq!(
        (&resting["seeding"], &resting["until_requested"]),
        (&false.into(), &true.into()),
        "who looks wakes nobody"
    );
    assert!(alice.run(&["list"]).contains("rests until requested"));
    bob.run(&["download_file", "photos", NAME, text(&world.path("copy"))]);
    assert_equal(file, &world.path("copy"));
    let woken = share(alice);
    assert_eq!(
        (&woken["seeding"], &woken["until_requested"], &woken["reason"]),
        (&true.into(), &false.into(), &Value::Null)
    );
    alice.stop();
    alice.restart();
    assert_eq!(share(alice)["seeding"], true, "and stays");
}

#[test]
fn a_resting_share_rests_while_somebody_else_has_it() {
    let Shared { alice, bob, file, world } = &Shared::new(MIB);
    bob.run(&["download_file", "photos", NAME, text(&world.path("bob's"))]);
    alice.run(&["stop_share", "photos", NAME, "--until-requested"]);
    let carol = world.user("carol");
    carol.run(&["download_file", "photos", NAME, text(&world.path("carol's"))]);
    assert_equal(file, &world.path("carol's"));
    assert_eq!(share(alice)["until_requested"], true);
    // Plain stop_share ends the resting too.
    alice.run(&["stop_share", "photos", NAME]);
    assert_eq!(alice.json(&["list"])["shares"], Value::Array(vec![]));
}

#[test]
fn a_resting_share_whose_file_has_changed_says_so_when_it_is_asked_for() {
    let Shared { alice, bob, file, world } = &Shared::new(MIB);
    alice.run(&["stop_share", "photos", NAME, "--until-requested"]);
    std::fs::write(file, "something else").expect("written");
    bob.run(&["download_file", "--detach", "photos", NAME, text(&world.path("copy"))]);
    let share = eventually("the change is seen", || {
        let share = share(alice);
        (share["until_requested"] == false && share["seeding"] == false).then_some(share)
    });
    assert!(share["reason"].is_string(), "{share}");
    assert!(!world.path("copy").exists());
}
