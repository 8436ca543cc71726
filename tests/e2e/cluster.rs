//! Three trackers: one of them is killed, all of them are, too few are left; and one that grows to three.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use p2p_tests::cluster::Cluster;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::groups::make_group;
use p2p_tests::wait::eventually;

use rustix::process::Signal;

use crate::changes::acknowledged_groups;
use crate::{MIB, made_groups, number, only_download, text};

/// How often a tracker is killed under a stream of changes.
const KILLS: usize = 6;

#[test]
fn the_leader_is_killed_and_nothing_is_lost() {
    let mut cluster = Cluster::new();
    let (alice, bob) = (cluster.user("alice"), cluster.user("bob"));
    let file = random_file(cluster.folder(), "large", 512 * MIB);
    alice.run(&["create_group", "photos", "--policy", "public"]);
    alice.run(&["upload_file", text(&file), "photos"]);
    let copy = cluster.path("copy");
    let mut follower = bob.follow(&["download_file", "photos", "large", text(&copy)]);
    let started = follower.until(|document| document["type"] == "started");
    eventually("the first pieces are here", || (number(&only_download(&bob), "have_bytes") > 0).then_some(()));

    let leader = cluster.leader(&[0, 1, 2]);
    cluster.trackers[leader].kill();
    // What was read a moment ago can be read still, and without the dead one changes go on.
    let groups = eventually("reads go on", || {
        let output = bob.ctl().output(&["list_groups"]);
        output.status.success().then(|| made_groups(&bob))
    });
    assert_eq!(groups, ["photos"]);
    make_group(&alice, "without-one");
    assert_eq!(made_groups(&alice), ["photos", "without-one"], "who made it sees it");
    let result = follower.until(|document| document["type"] == "result");
    assert_eq!(result["id"], started["id"], "one transfer, from its start to its end");
    assert_equal(&file, &copy);

    cluster.trackers[leader].restart();
    make_group(&bob, "with-all");
    let digest = cluster.agreed_digest();

    // All at once, as by a power cut.
    cluster.trackers.iter_mut().for_each(p2p_tests::Tracker::kill);
    cluster.start_all();
    assert_eq!(cluster.agreed_digest(), digest);
    make_group(&alice, "after-all");
    assert_eq!(made_groups(&bob), ["after-all", "photos", "with-all", "without-one"]);
    cluster.agreed_digest();
}

#[test]
fn every_acknowledged_group_is_there_after_kills_of_any_tracker() {
    let mut cluster = Cluster::new();
    let alice = cluster.user("alice");
    let names = acknowledged_groups(&alice, |changes| {
        for kill in 0..KILLS {
            // A different moment each time: in the middle of whatever number of acknowledgements later.
            changes.wait_for(1 + kill % 3);
            // Who leads at the time, every other time: what it had alone must not come back.
            let victim = if kill % 2 == 0 { cluster.leader(&[0, 1, 2]) } else { kill % 3 };
            cluster.trackers[victim].kill();
            // They go on without it.
            changes.wait_for(1);
            cluster.trackers[victim].restart();
        }
    });
    cluster.agreed_digest();
    let there = made_groups(&alice);
    let lost: Vec<_> = names.iter().filter(|name| !there.contains(name)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // Once each: what was retried in between was not made twice, and cannot be made again.
    assert_eq!(alice.refusal(&["create_group", &names[0]]).code, "group_exists");
}

#[test]
fn trackers_are_restarted_one_by_one_and_no_command_fails() {
    let mut cluster = Cluster::new();
    let alice = cluster.user("alice");
    let over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut made = Vec::new();
            let mut longest = [Duration::ZERO; 2];
            while !over.load(Ordering::Relaxed) {
                let name = format!("group-{:04}", made.len());
                let began = Instant::now();
                alice.run(&["create_group", &name]);
                let changed = began.elapsed();
                made.push(name);
                assert_eq!(made_groups(&alice), made, "who made it sees it");
                longest = [longest[0].max(changed), longest[1].max(began.elapsed() - changed)];
            }
            println!("{} changes; the longest took {:?}, the longest list {:?}", made.len(), longest[0], longest[1]);
            made
        });
        for place in 0..3 {
            if stream.is_finished() {
                break;
            }
            cluster.trackers[place].stop();
            cluster.trackers[place].restart();
            // The next one has to wait until two others can agree on what it knows.
            cluster.leader(&[0, 1, 2]);
        }
        over.store(true, Ordering::Relaxed);
        stream.join().expect("no command fails")
    });
    assert!(!made.is_empty());
    cluster.agreed_digest();
}

#[test]
fn sharing_goes_on_when_the_first_tracker_is_dead() {
    let mut cluster = Cluster::new();
    let (alice, bob) = (cluster.user("alice"), cluster.user("bob"));
    let files = ["before", "after"].map(|name| random_file(cluster.folder(), name, MIB));
    let mtorrents = ["before.mtorrent", "after.mtorrent"].map(|name| cluster.path(name));
    alice.run(&["share", text(&files[0]), text(&mtorrents[0])]);
    cluster.trackers[0].kill();
    eventually("share works without the first tracker", || {
        alice.ctl().output(&["share", text(&files[1]), text(&mtorrents[1])]).status.success().then_some(())
    });
    for (file, mtorrent) in files.iter().zip(&mtorrents) {
        let copy = cluster.path("bob's");
        eventually("get works without the first tracker", || {
            bob.ctl().output(&["get", text(mtorrent), text(&copy)]).status.success().then_some(())
        });
        assert_equal(file, &copy);
        std::fs::remove_file(&copy).expect("there");
    }
}

#[test]
fn without_a_majority_reads_go_on_and_changes_are_refused() {
    let mut cluster = Cluster::new();
    let alice = cluster.user("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let leader = cluster.leader(&[0, 1, 2]);
    for place in (0..3).filter(|place| *place != leader) {
        cluster.trackers[place].kill();
    }
    eventually("reads go on", || {
        let output = alice.ctl().output(&["list_groups"]);
        output.status.success().then(|| assert_eq!(made_groups(&alice), ["photos"]))
    });
    // What is read is said to be old, to scripts and to people.
    assert_eq!(alice.json(&["list_groups"])["stale"], true);
    let said = alice.said(&["list_groups"]);
    assert!(said.contains("may be old"), "{said}");
    let status = alice.json(&["status"]);
    assert_eq!(status["trackers"][leader]["stale"], true, "{status}");
    let refusal = alice.refusal(&["create_group", "films"]);
    assert_eq!((refusal.code.as_str(), refusal.exit_code), ("no_majority", 8));
    cluster.trackers.iter_mut().enumerate().filter(|(place, _)| *place != leader).for_each(|(_, it)| it.restart());
    make_group(&alice, "films-again");
    cluster.agreed_digest();
    eventually("nothing is old any more", || {
        let status = alice.json(&["status"]);
        let stale = (0..3).any(|place| status["trackers"][place]["stale"] == true);
        (!stale && alice.json(&["list_groups"])["stale"].is_null()).then_some(())
    });
}

/// For as long as the settings say, which is no time at all here.
#[test]
fn who_has_no_majority_grants_no_longer_and_goes_on_with_one() {
    let mut cluster = Cluster::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| cluster.user(name));
    let file = random_file(cluster.folder(), "file", MIB);
    alice.run(&["create_group", "photos", "--policy", "public"]);
    alice.run(&["upload_file", text(&file), "photos"]);
    let leader = cluster.leader(&[0, 1, 2]);
    for place in (0..3).filter(|place| *place != leader) {
        cluster.trackers[place].kill();
    }
    let copies = ["bob's", "carol's"].map(|name| cluster.path(name));
    bob.run(&["download_file", "photos", "file", text(&copies[0])]);
    assert_equal(&file, &copies[0]);

    cluster.trackers[leader].write_settings("grants_without_majority = 0\n");
    cluster.trackers[leader].process().signal(Signal::HUP);
    cluster.trackers[leader].process().logs(0, "changed=\"grants_without_majority\"");
    let started = carol.json(&["download_file", "photos", "file", text(&copies[1]), "--detach"]);
    let id = started["id"].as_str().expect("an id");
    eventually("it is said why nothing comes", || {
        let why = carol.json(&["why", id]);
        why["reason"].as_str().is_some_and(|reason| reason.contains("to let anybody begin to read")).then_some(())
    });
    cluster.trackers.iter_mut().enumerate().filter(|(place, _)| *place != leader).for_each(|(_, it)| it.restart());
    carol.run(&["wait", id]);
    assert_equal(&file, &copies[1]);
}

#[test]
fn a_tracker_that_was_alone_grows_to_three() {
    let mut cluster = Cluster::resting(3);
    let whole = std::fs::read_to_string(cluster.path("tracker_info.txt")).expect("there");
    let first_line = whole.lines().next().expect("three lines").to_owned();
    std::fs::write(cluster.path("tracker_info.txt"), first_line).expect("written");
    cluster.trackers[0].restart();
    let alice = cluster.user("alice");
    alice.run(&["create_group", "from-before", "--policy", "public"]);
    cluster.trackers[0].stop();
    std::fs::write(cluster.path("tracker_info.txt"), whole).expect("written");
    cluster.start_all();
    eventually("all three vote", || {
        let status = cluster.trackers[2].status();
        let voters =
            status["trackers"].as_array().map(|trackers| trackers.iter().filter(|it| it["votes"] == true).count());
        (voters == Some(3)).then_some(())
    });
    cluster.agreed_digest();
    cluster.trackers[0].kill();
    make_group(&alice, "without-the-first");
    assert_eq!(made_groups(&alice), ["from-before", "without-the-first"]);
}

#[test]
fn a_fourth_takes_the_place_of_one_that_is_lost() {
    let mut cluster = Cluster::resting(4);
    let whole = std::fs::read_to_string(cluster.path("tracker_info.txt")).expect("there");
    let three: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
    std::fs::write(cluster.path("tracker_info.txt"), three).expect("written");
    std::thread::scope(|scope| {
        for tracker in &mut cluster.trackers[..3] {
            scope.spawn(|| tracker.restart());
        }
    });
    let alice = cluster.user("alice");
    make_group(&alice, "of-three");
    // The second is lost; the others get the longer list, one after the other.
    let lost = 1;
    cluster.trackers[lost].kill();
    let leader = cluster.leader(&[0, 2]);
    let refused = cluster.trackers[leader].asked(&["remove", "2"]).expect_err("too few votes");
    assert!(refused.contains("only 2 votes"), "{refused}");
    std::fs::write(cluster.path("tracker_info.txt"), whole).expect("written");
    for place in [0, 2] {
        cluster.trackers[place].kill();
        cluster.trackers[place].restart();
        cluster.leader(&[0, 2]);
    }
    cluster.trackers[3].restart();
    let votes = |cluster: &Cluster, expected: &[u64]| {
        eventually(&format!("{expected:?} vote"), || {
            let status = cluster.trackers[3].status();
            let trackers = status["trackers"].as_array()?;
            let voters = trackers.iter().filter(|it| it["votes"] == true).filter_map(|it| it["tracker"].as_u64());
            (voters.collect::<Vec<_>>() == expected).then_some(())
        });
    };
    votes(&cluster, &[1, 2, 3, 4]);
    let running = [0, 2, 3];
    let leader = cluster.leader(&running);
    let follower = running.into_iter().find(|place| *place != leader).expect("two of them");
    let refused = cluster.trackers[follower].asked(&["remove", "2"]).expect_err("it does not lead");
    assert!(refused.contains(&format!("tracker {} leads", leader + 1)), "{refused}");
    let alive = (follower + 1).to_string();
    let refused = cluster.trackers[leader].asked(&["remove", &alive]).expect_err("it answers");
    assert!(refused.contains("answers"), "{refused}");
    let said = cluster.trackers[leader].asked(&["remove", "2"]).expect("it is lost");
    assert!(said.contains("3 votes"), "{said}");
    votes(&cluster, &[1, 3, 4]);
    // Again any one of them may die.
    cluster.trackers[leader].kill();
    make_group(&alice, "of-two");
    cluster.trackers[leader].restart();
    make_group(&alice, "of-three-again");
    assert_eq!(made_groups(&alice), ["of-three", "of-three-again", "of-two"]);
    votes(&cluster, &[1, 3, 4]);
}
