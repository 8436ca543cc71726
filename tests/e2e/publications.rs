//! Publications that no tracker takes: kept, in sight, and made as soon as one can.

use p2p_tests::Daemon;
use p2p_tests::cluster::Cluster;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;

use crate::{MIB, text};

/// What waits to be published, as `list` has it.
fn waiting(daemon: &Daemon) -> Vec<String> {
    let document = daemon.json(&["list"]);
    let shares = document["shares"].as_array().expect("shares").iter();
    let waits = shares.filter(|share| share["reason"] == "waits for trackers that can publish it");
    waits.filter_map(|share| share["name"].as_str()).map(str::to_owned).collect()
}

/// Waits until a group lists files of these names, and no others.
fn eventually_listed(daemon: &Daemon, names: &[&str]) {
    eventually("the group lists what waited", || {
        let output = daemon.ctl().output(&["list_files", "photos", "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let listed: Vec<&str> = document["files"].as_array()?.iter().filter_map(|file| file["name"].as_str()).collect();
        (listed == names).then_some(())
    });
}

#[test]
fn what_is_uploaded_without_a_tracker_is_published_when_there_is_one() {
    let mut cluster = Cluster::new();
    let (mut alice, bob) = (cluster.user("alice"), cluster.user("bob"));
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let files = ["one", "two"].map(|name| random_file(cluster.folder(), name, MIB));
    cluster.trackers.iter_mut().for_each(p2p_tests::Tracker::kill);
    for file in &files {
        let refusal = alice.refusal(&["upload_file", text(file), "photos"]);
        assert_eq!((refusal.code.as_str(), refusal.exit_code), ("no_tracker", 8));
        assert!(refusal.message.contains("waits to be published in photos"), "{}", refusal.message);
    }
    assert_eq!(waiting(&alice), ["one", "two"]);
    // Nothing of it is forgotten, and what is given up is not made.
    alice.kill();
    alice.restart();
    assert_eq!(waiting(&alice), ["one", "two"]);
    let problems = alice.json(&["status"])["problems"].to_string();
    assert!(problems.contains("one waits to be published in photos"), "{problems}");
    alice.run(&["stop_share", "photos", "two"]);
    assert_eq!(waiting(&alice), ["one"]);
    cluster.start_all();
    eventually_listed(&bob, &["one"]);
    let copy = cluster.path("copy");
    bob.run(&["download_file", "photos", "one", text(&copy)]);
    assert_equal(&files[0], &copy);
    assert!(waiting(&alice).is_empty());
}

#[test]
fn what_is_uploaded_without_a_majority_is_published_once_there_is_one() {
    let mut cluster = Cluster::new();
    let alice = cluster.user("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let files = ["kept", "taken-out"].map(|name| random_file(cluster.folder(), name, MIB));
    let leader = cluster.leader(&[0, 1, 2]);
    for place in (0..3).filter(|place| *place != leader) {
        cluster.trackers[place].kill();
    }
    for file in &files {
        let refusal = alice.refusal(&["upload_file", text(file), "photos"]);
        assert_eq!(refusal.exit_code, 8, "{}", refusal.message);
        assert!(refusal.message.contains("waits to be published in photos"), "{}", refusal.message);
    }
    assert_eq!(waiting(&alice), ["kept", "taken-out"]);
    cluster.trackers.iter_mut().enumerate().filter(|(place, _)| *place != leader).for_each(|(_, it)| it.restart());
    eventually_listed(&alice, &["kept", "taken-out"]);
    // Made once: what is taken out afterwards stays out.
    alice.run(&["remove_file", "photos", "taken-out"]);
    eventually_listed(&alice, &["kept"]);
    assert!(waiting(&alice).is_empty());
    cluster.agreed_digest();
}
