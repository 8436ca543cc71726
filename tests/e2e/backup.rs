//! A copy of a tracker: taken while it runs, put back where it is lost.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use p2p_tests::World;
use p2p_tests::cluster::Cluster;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;

use crate::{MIB, made_groups, text};

#[test]
fn a_tracker_that_is_lost_is_put_back() {
    let mut world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let file = random_file(world.folder(), "large", MIB);
    alice.run(&["create_group", "photos", "--policy", "public"]);
    alice.run(&["upload_file", text(&file), "photos"]);
    let seeders = world.tracker.asked(&["seeders"]).expect("told");
    let row = seeders.lines().find(|line| line.contains("large")).unwrap_or_else(|| panic!("{seeders}"));
    assert!(row.starts_with("photos ") && row.contains(" alice ") && row.ends_with(" seeds"), "{row}");

    let copy = world.path("tracker.copy");
    let said = world.tracker.asked(&["backup", text(&copy)]).expect("copied");
    let digest = world.tracker.status()["digest"].as_str().expect("a digest").to_owned();
    assert!(said.contains(&digest), "{said}");
    assert!(world.tracker.asked(&["backup", text(&copy)]).expect_err("there already").contains("exists already"));
    // Nobody else may read it.
    let mode = std::os::unix::fs::MetadataExt::mode(&copy.metadata().expect("there"));
    assert_eq!(mode & 0o777, 0o600);
    alice.run(&["create_group", "too-late", "--policy", "public"]);
    // Alice hears that what bob was granted is void, which the copy does not know.
    bob.run(&["logout"]);
    bob.run(&["login", "bob", PASSWORD]);

    // A folder that has something is left alone, and so is everything where the copy is damaged.
    let refused = world.tracker.asked(&["restore", text(&copy)]).expect_err("in use");
    assert!(refused.contains("not empty"), "{refused}");
    world.tracker.kill();
    std::fs::remove_dir_all(&world.tracker.home).expect("lost");
    let damaged = world.path("damaged.copy");
    let mut bytes = std::fs::read(&copy).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    assert!(world.tracker.asked(&["restore", text(&damaged)]).expect_err("damaged").contains("damaged"));
    assert!(!world.tracker.home.join("tracker").exists());

    world.tracker.asked(&["restore", text(&copy)]).expect("put back");
    world.tracker.restart();
    assert_ne!(world.tracker.status()["digest"], digest, "what is granted from now on is told from what was before");
    // Nobody has to log in again, and nobody has to trust another key.
    eventually("the daemons are back", || bob.ctl().output(&["list_groups"]).status.success().then_some(()));
    assert_eq!(made_groups(&bob), ["photos"]);
    let target = world.path("copy of large");
    eventually("the file is there", || {
        bob.ctl().output(&["download_file", "photos", "large", text(&target)]).status.success().then_some(())
    });
    assert_equal(&file, &target);
    alice.run(&["create_group", "afterwards", "--policy", "public"]);
}

#[test]
fn a_copy_that_may_be_old_is_said_to_be() {
    let mut cluster = Cluster::new();
    let alice = cluster.user("alice");
    alice.run(&["create_group", "photos"]);
    // Whichever is asked, it comes to what another has acknowledged first.
    let (current, old) = (cluster.path("current.copy"), cluster.path("old.copy"));
    let digest = cluster.trackers[0].status()["digest"].clone();
    for place in 0..3 {
        let said = cluster.trackers[place].said(&["backup", text(&current)]).expect("copied");
        assert!(said.contains(digest.as_str().expect("a digest")) && !said.contains("may be old"), "{said}");
        std::fs::remove_file(&current).expect("there");
    }
    cluster.trackers[1].kill();
    cluster.trackers[2].kill();
    let said = cluster.trackers[0].said(&["backup", text(&old)]).expect("copied");
    assert!(said.contains("may be old"), "{said}");
    assert!(old.exists());
}

#[test]
fn an_operator_who_says_nothing_holds_nobody_up() {
    let world = World::new();
    let mut silent = UnixStream::connect(world.tracker.home.join("tracker").join("admin.sock")).expect("listens");
    assert_eq!(world.tracker.status()["role"], "leader", "answered beside it");
    // And it is hung up on.
    assert_eq!(silent.read(&mut [0]).expect("is closed"), 0);
}
