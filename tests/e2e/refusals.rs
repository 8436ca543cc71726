//! What is refused, with which exit code and word, with `--json` and without it; nothing is changed by it.

use std::process::Command;

use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};
use serde_json::Value;

use crate::{NAME, Shared, made_groups, text};

/// Everything that a refusal could have changed.
fn everything(daemon: &Daemon) -> Vec<Value> {
    let status = daemon.json(&["status"]);
    let mut all = vec![status["user"].clone(), status["node"].clone()];
    for verb in [&["list_groups"][..], &["list_my_groups"], &["show_downloads"], &["list"]] {
        all.push(daemon.json(verb));
    }
    for group in all[2]["groups"].as_array().cloned().unwrap_or_default() {
        let group = group["group"].as_str().expect("a name").to_owned();
        all.push(daemon.json(&["list_files", &group]));
    }
    all
}

/// Each line of words is refused with this exit code and one of these words, and changes nothing.
fn refused(daemon: &Daemon, exit_code: i32, code: &str, lines: &[&[&str]]) {
    let before = everything(daemon);
    for words in lines {
        let refusal = daemon.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (exit_code, code), "{words:?}: {refusal:?}");
    }
    assert_eq!(everything(daemon), before);
}

#[test]
fn a_command_line_that_is_none_is_2() {
    let world = World::new();
    let alice = world.user("alice");
    let lines: [&[&str]; 4] = [&["dance"], &["login"], &["create_group", "g", "--policy", "secret"], &["wait", "xyz"]];
    refused(&alice, 2, "usage", &lines);
}

#[test]
fn a_name_that_is_not_allowed_is_2() {
    let Shared { alice, file, .. } = &Shared::new(10);
    let long = "x".repeat(256);
    for name in ["a/b", "..", ".", "", "a\nb", "a\u{1b}[31mb", "a\\b", long.as_str()] {
        let lines: [&[&str]; 6] = [
            &["create_group", name],
            &["join_group", name],
            &["create_user", name, PASSWORD],
            &["upload_file", text(file), "photos", "--name", name],
            &["download_file", "photos", name, "/nowhere"],
            &["stop_share", "photos", name],
        ];
        let before = everything(alice);
        for words in lines {
            let refusal = alice.refusal(words);
            assert_eq!(refusal.exit_code, 2, "{words:?}: {refusal:?}");
            let shown = alice.ctl().output(words);
            assert!(!shown.stderr.contains(&0x1b), "{words:?} is shown with its escapes");
        }
        assert_eq!(everything(alice), before);
    }
}

#[test]
fn an_unknown_group_is_3() {
    let Shared { alice, file, .. } = &Shared::new(10);
    let lines: [&[&str]; 8] = [
        &["join_group", "ghosts"],
        &["leave_group", "ghosts"],
        &["list_members", "ghosts"],
        &["list_requests", "ghosts"],
        &["list_files", "ghosts"],
        &["delete_group", "ghosts"],
        &["upload_file", text(file), "ghosts"],
        &["download_file", "ghosts", NAME, "/nowhere"],
    ];
    refused(alice, 3, "group_not_found", &lines);
}

#[test]
fn an_unknown_file_is_3() {
    let Shared { alice, bob, .. } = &Shared::new(10);
    let lines: [&[&str]; 3] = [
        &["file_info", "photos", "ghost.jpg"],
        &["download_file", "photos", "ghost.jpg", "/nowhere"],
        &["stop_share", "photos", "ghost.jpg"],
    ];
    refused(alice, 3, "file_not_found", &lines);
    refused(bob, 3, "file_not_found", &[&["file_info", "photos", "carol:beach.jpg"]]);
}

#[test]
fn an_unknown_user_is_3() {
    let Shared { alice, .. } = &Shared::new(10);
    let before = everything(alice);
    for verb in ["accept_request", "reject_request", "remove_member", "transfer_group"] {
        let refusal = alice.refusal(&[verb, "photos", "ghost"]);
        assert_eq!(refusal.exit_code, 3, "{verb}: {refusal:?}");
        assert!(refusal.message.contains("ghost"), "{verb} says who: {refusal:?}");
    }
    assert_eq!(everything(alice), before);
}

#[test]
fn an_unknown_download_is_3() {
    let world = World::new();
    let alice = world.user("alice");
    let lines: [&[&str]; 4] = [&["wait", "a91f"], &["pause", "a91f"], &["resume", "a91f"], &["cancel", "a91f"]];
    refused(&alice, 3, "download_not_found", &lines);
}

#[test]
fn a_wrong_password_is_4_and_tells_no_user_names() {
    let world = World::new();
    let alice = world.user("alice");
    alice.run(&["logout"]);
    let wrong = alice.refusal(&["login", "alice", "wrong"]);
    let unknown = alice.refusal(&["login", "ghost", "wrong"]);
    assert_eq!((wrong.exit_code, wrong.code.as_str()), (4, "login_refused"));
    assert_eq!(unknown.message.replace("ghost", "alice"), wrong.message);
    assert_eq!((unknown.exit_code, unknown.hint, unknown.code), (wrong.exit_code, wrong.hint, wrong.code));
    assert_eq!(alice.json(&["status"])["user"], Value::Null);
}

#[test]
fn without_a_login_it_is_4() {
    let Shared { world, file, .. } = &Shared::new(10);
    let carol = world.daemon("carol");
    let lines: [&[&str]; 8] = [
        &["create_group", "books"],
        &["join_group", "photos"],
        &["list_groups"],
        &["list_my_groups"],
        &["list_files", "photos"],
        &["upload_file", text(file), "photos"],
        &["download_file", "photos", NAME, "/nowhere"],
        &["logout"],
    ];
    for words in lines {
        let refusal = carol.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (4, "login_needed"), "{words:?}: {refusal:?}");
        assert!(refusal.hint.as_deref().is_some_and(|hint| hint.contains("login")), "{words:?}: {refusal:?}");
    }
}

#[test]
fn who_is_not_a_member_gets_5() {
    let Shared { alice, bob, file, .. } = &Shared::new(10);
    alice.run(&["create_group", "secret"]);
    alice.run(&["upload_file", text(file), "secret"]);
    for words in [
        &["list_files", "secret"][..],
        &["list_members", "secret"],
        &["file_info", "secret", NAME],
        &["download_file", "secret", NAME, "/nowhere"],
        &["upload_file", text(file), "secret"],
        &["upload_file", text(file), "photos", "--name", "mine"],
    ] {
        let refusal = bob.refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (5, "not_member"), "{words:?}: {refusal:?}");
    }
    assert_eq!(alice.json(&["list_files", "secret"])["files"].as_array().map(Vec::len), Some(1));
}

#[test]
fn who_is_not_the_owner_gets_5() {
    let Shared { bob, .. } = &Shared::new(10);
    bob.run(&["join_group", "photos"]);
    let lines: [&[&str]; 5] = [
        &["list_requests", "photos"],
        &["accept_request", "photos", "carol"],
        &["remove_member", "photos", "alice"],
        &["transfer_group", "photos", "bob"],
        &["delete_group", "photos"],
    ];
    refused(bob, 5, "not_owner", &lines);
}

#[test]
fn what_exists_already_is_6() {
    let Shared { alice, bob, world, .. } = &Shared::new(10);
    refused(alice, 6, "user_exists", &[&["create_user", "bob", PASSWORD], &["create_user", "BOB", PASSWORD]]);
    refused(alice, 6, "group_exists", &[&["create_group", "photos"], &["create_group", "Photos"]]);
    refused(alice, 6, "already_member", &[&["join_group", "photos"]]);
    let other = p2p_tests::file::random_file(world.folder(), "other", 11);
    refused(alice, 6, "file_exists", &[&["upload_file", text(&other), "photos", "--name", NAME]]);
    alice.run(&["create_group", "secret"]);
    bob.run(&["join_group", "secret"]);
    refused(alice, 6, "already_logged_in", &[&["login", "bob", PASSWORD]]);
    assert_eq!(bob.refusal(&["join_group", "secret"]).code, "already_requested");
}

#[test]
fn without_a_daemon_it_is_7() {
    let world = World::new();
    let alice = world.resting_daemon("alice");
    let refusal = alice.refusal(&["status"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (7, "no_daemon"));
    assert!(refusal.hint.is_some_and(|hint| hint.contains("p2pd")));
    assert!(!alice.home.exists(), "nothing was made");
}

#[test]
fn without_a_tracker_it_is_8() {
    let Shared { alice, world, .. } = &mut Shared::new(10);
    let before = (alice.json(&["list"]), alice.json(&["show_downloads"]));
    world.tracker.kill();
    let lines: [&[&str]; 5] = [
        &["create_group", "books"],
        &["create_user", "dave", PASSWORD],
        &["list_groups"],
        &["list_files", "photos"],
        &["download_file", "photos", NAME, "/nowhere"],
    ];
    // Beside each other: each of them waits for the tracker for a while.
    let (alice, address) = (&*alice, &world.tracker.address.to_string());
    std::thread::scope(|scope| {
        for words in lines {
            scope.spawn(move || {
                let refusal = alice.refusal(words);
                assert_eq!((refusal.exit_code, refusal.code.as_str()), (8, "no_tracker"), "{words:?}: {refusal:?}");
                assert!(refusal.message.contains(address), "says which: {refusal:?}");
            });
        }
    });
    assert_eq!(alice.json(&["status"])["type"], "status", "what needs no tracker works");
    world.tracker.restart();
    p2p_tests::wait::eventually("the tracker is back", || {
        alice.ctl().output(&["list_groups"]).status.success().then_some(())
    });
    assert_eq!((alice.json(&["list"]), alice.json(&["show_downloads"])), before);
    assert_eq!(made_groups(alice).len(), 1);
}

#[test]
fn an_interrupt_is_130_and_the_download_goes_on() {
    let Shared { alice, bob, file, world } = &mut Shared::new(1000);
    alice.stop();
    let copy = world.path("copy");
    let mut follower = bob.follow(&["download_file", "photos", NAME, text(&copy)]);
    follower.until(|document| document["type"] == "started");
    follower.interrupt();
    let output = follower.finish();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let error: Value = serde_json::from_slice(&output.stderr).expect("one document");
    assert_eq!((&error["code"], &error["exit_code"]), (&"interrupted".into(), &130.into()));
    alice.restart();
    let id = crate::only_download(bob)["id"].as_str().expect("an id").to_owned();
    bob.run(&["wait", &id]);
    p2p_tests::file::assert_equal(file, &copy);
}

#[test]
fn colour_and_escapes_stay_out_of_what_is_not_a_terminal() {
    let Shared { alice, .. } = &Shared::new(10);
    for words in [&["status"][..], &["list_groups"], &["list_files", "photos"], &["list_files", "ghosts"]] {
        let output = alice.ctl().with(|command: &mut Command| _ = command.env("TERM", "xterm-256color")).output(words);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{words:?}");
    }
}
