//! `on_complete`: a program of the user's own for each download that is complete, once.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use p2p_tests::file::random_file;
use p2p_tests::wait::eventually;
use rustix::process::{Pid, test_kill_process};

use crate::{NAME, Shared, text};

/// A script of these lines, and the settings that name it.
fn on_complete(folder: &Path, lines: &str) -> String {
    let path = folder.join("on-complete");
    std::fs::write(&path, format!("#!/bin/sh\ncd '{}'\n{lines}\n", folder.display())).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("may");
    format!("on_complete = \"{}\"\n", text(&path))
}

#[test]
fn a_program_is_run_once_for_each_download_also_over_restarts() {
    let shared = Shared::new(1_000_000);
    let Shared { alice, mut bob, world, .. } = shared;
    let settings =
        on_complete(world.folder(), "echo \"$P2P_NAME|$P2P_PATH|$P2P_GROUP|$P2P_OWNER|$P2P_SIZE|$P2P_ID\" >> ran");
    bob.write_settings(&settings);
    bob.process().signal(rustix::process::Signal::HUP);
    bob.process().logs(0, "changed=\"on_complete\"");
    let (copy, second) = (world.path("copy of $(id)"), world.path("second"));
    let done = bob.json(&["download_file", "photos", NAME, text(&copy)]);
    let ran = world.path("ran");
    let lines = |number: usize| {
        eventually("the program has run", || {
            let lines = std::fs::read_to_string(&ran).unwrap_or_default();
            (lines.lines().count() >= number).then_some(lines)
        })
    };
    let expected = format!("{NAME}|{}|photos|alice|1000000|{}\n", text(&copy), done["id"].as_str().expect("an id"));
    assert_eq!(lines(1), expected);

    bob.process().logs(0, "on_complete has ended");
    bob.kill();
    bob.restart();
    bob.stop();
    bob.restart();
    let other = random_file(world.folder(), "other", 10);
    alice.run(&["upload_file", text(&other), "photos"]);
    bob.run(&["download_file", "photos", "other", text(&second)]);
    let all = lines(2);
    assert!(all.starts_with(&expected) && all.lines().count() == 2, "once each: {all}");
}

#[test]
fn a_program_that_fails_is_logged_and_one_that_runs_ends_with_the_daemon() {
    let shared = Shared::new(1000);
    let mut bob = shared.bob;
    let folder = shared.world.folder();
    bob.write_settings(&on_complete(
        folder,
        "[ $P2P_SIZE = 1000 ] && { echo no luck >&2; exit 7; }\necho $$ > runs\nexec sleep 1000",
    ));
    bob.stop();
    bob.restart();
    bob.run(&["download_file", "photos", NAME, text(&shared.world.path("first"))]);
    let line = bob.process().logs(0, "on_complete failed");
    assert!(line.contains("exit status: 7") && line.contains("no luck"), "{line}");

    let other = random_file(folder, "other", 10);
    shared.alice.run(&["upload_file", text(&other), "photos"]);
    bob.run(&["download_file", "photos", "other", text(&shared.world.path("second"))]);
    let id = eventually("it runs", || std::fs::read_to_string(folder.join("runs")).ok()?.trim().parse().ok());
    let id = Pid::from_raw(id).expect("a process");
    assert!(test_kill_process(id).is_ok(), "it goes on beside the daemon");
    bob.stop();
    assert!(test_kill_process(id).is_err(), "it is gone");
}
