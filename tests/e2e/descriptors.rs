//! Descriptors run out: the daemon is slower, waits without spinning, and goes on when there are some again.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use serde_json::Value;

use crate::{column, only_download, text};

/// What the daemon may have open.
const DESCRIPTORS_MAX: u32 = 64;

/// Files that are shared: more than can be open.
const FILES: usize = 80;

/// What the daemon says each time it cannot accept a command.
const REFUSED: &str = "cannot accept a command";

fn starved_user(world: &World, name: &str) -> Daemon {
    let mut daemon = world.resting_daemon(name).with_descriptors(DESCRIPTORS_MAX);
    daemon.restart();
    daemon.become_known_as(name);
    daemon
}

/// Connects until the daemon has no descriptor left, and gives it time to spin: what it used of a processor meanwhile.
fn take_all(daemon: &mut Daemon) -> (Vec<UnixStream>, f64) {
    let said = daemon.process().log_lines_with(REFUSED);
    let taken: Vec<_> = (0..DESCRIPTORS_MAX).map(|_| UnixStream::connect(daemon.socket()).expect("queued")).collect();
    let process = daemon.process();
    let refused = |process: &mut p2p_tests::process::Process, times: usize| {
        eventually("no descriptor is left", || (process.log_lines_with(REFUSED) >= said + times).then_some(()));
        (Instant::now(), process.processor_time().unwrap_or_default())
    };
    let (start, before) = refused(process, 1);
    let (end, after) = refused(process, 6);
    (taken, (after - before).as_secs_f64() / (end - start).as_secs_f64())
}

#[test]
fn more_files_than_descriptors_are_served() {
    let world = World::new();
    let alice = starved_user(&world, "alice");
    let bob = world.user("bob");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let names: Vec<_> = (0..FILES).map(|nth| format!("file {nth}")).collect();
    let files: Vec<_> =
        (10_000u64..).zip(&names).map(|(length, name)| random_file(world.folder(), name, length)).collect();
    for file in &files {
        alice.run(&["upload_file", text(file), "photos"]);
    }
    std::fs::create_dir(world.path("copies")).expect("a folder");
    for name in &names {
        bob.run(&["download_file", "photos", name, text(&world.path("copies")), "--detach"]);
    }
    let states = || bob.json(&["show_downloads"]);
    eventually("all are here", || {
        let downloads = states();
        column(&downloads["downloads"], "state").iter().all(|state| *state == "seeding").then_some(())
    });
    for (file, name) in files.iter().zip(&names) {
        assert_equal(file, &world.path("copies").join(name));
    }
}

#[test]
fn a_daemon_without_descriptors_waits_and_goes_on() {
    let world = World::new();
    let (mut alice, mut bob) = (starved_user(&world, "alice"), starved_user(&world, "bob"));
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let file = random_file(world.folder(), "file", 3 << 20);
    alice.run(&["upload_file", text(&file), "photos"]);
    // It is asked for while nobody has it, and begins when nothing can be opened.
    alice.kill();
    let copy = world.path("copy");
    bob.run(&["download_file", "photos", "file", text(&copy), "--detach"]);
    assert_ne!(only_download(&bob)["state"], "error");
    let (taken, share) = take_all(&mut bob);
    assert!(share < 0.5, "spins: {share} of a processor while nothing can be opened");
    alice.restart();
    let (taken_of_alice, share) = take_all(&mut alice);
    assert!(share < 0.5, "spins: {share} of a processor while nothing can be opened");
    drop((taken, taken_of_alice));
    let download = eventually("it is here", || {
        let download: Value = only_download(&bob);
        assert_ne!(download["state"], "error", "{download}");
        (download["state"] == "seeding").then_some(download)
    });
    assert_equal(&file, &copy);
    assert_eq!(download["reason"], Value::Null);
    assert!(alice.process().is_running() && bob.process().is_running());
}
