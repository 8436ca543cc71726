//! Accounts: an enrolment lasts until logout, here or from another device, and no tracker holds a password.

use p2p_tests::file::files_under;
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};
use serde_json::Value;

#[test]
fn an_enrolment_outlives_restarts_of_daemon_and_tracker() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    alice.stop();
    alice.restart();
    eventually("alice is logged in after a restart of her daemon", || is_logged_in(&alice).then_some(()));
    world.tracker.stop();
    world.tracker.restart();
    eventually("alice is logged in after a restart of the tracker", || is_logged_in(&alice).then_some(()));
    alice.kill();
    world.tracker.kill();
    world.tracker.restart();
    alice.restart();
    eventually("alice is logged in after both were killed", || is_logged_in(&alice).then_some(()));
    alice.run(&["create_group", "photos"]);
}

/// Whether the tracker still takes this node for alice's: a list of her own groups needs no password.
fn is_logged_in(alice: &Daemon) -> bool {
    let asked = alice.ctl().output(&["list_my_groups"]);
    asked.status.success() && alice.json(&["status"])["user"] == "alice"
}

#[test]
fn logout_ends_the_enrolment_over_restarts() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    assert_eq!(alice.json(&["logout"])["user"], "alice");
    assert_eq!(alice.refusal(&["create_group", "photos"]).code, "login_needed");
    assert_eq!(alice.json(&["status"])["user"], Value::Null);
    alice.kill();
    world.tracker.kill();
    world.tracker.restart();
    alice.restart();
    let refusal = eventually("the tracker answers again", || {
        let refusal = alice.refusal(&["list_my_groups"]);
        (refusal.exit_code != 8).then_some(refusal)
    });
    assert_eq!(refusal.code, "login_needed");
    alice.run(&["login", "alice", PASSWORD]);
    alice.run(&["create_group", "photos"]);
}

#[test]
fn a_password_may_come_from_a_file_or_standard_input() {
    let world = World::new();
    let alice = world.daemon("alice");
    let file = world.path("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("writes");
    alice.run(&["create_user", "alice", "--password-file", file.to_str().expect("text")]);
    let stdin = std::fs::File::open(&file).expect("opens");
    alice.ctl().with(|command| _ = command.stdin(stdin)).run(&["login", "alice", "--password-file", "-"]);
    assert_eq!(alice.json(&["status"])["user"], "alice");
}

#[test]
fn no_stored_or_logged_byte_tells_a_password() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    alice.refusal(&["login", "alice", "a wrong password that is long"]);
    alice.run(&["create_group", "photos"]);
    alice.stop();
    world.tracker.stop();
    for file in files_under(world.folder()) {
        let bytes = std::fs::read(&file).expect("reads");
        for password in [PASSWORD, "a wrong password that is long"] {
            let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
            assert!(!found, "{} holds a password", file.display());
        }
    }
}

/// Another device of alice.
fn device(world: &World, name: &str, password: &str) -> Daemon {
    let device = world.daemon(name);
    device.run(&["login", "alice", password]);
    device
}

/// A file with lines, for an option or for standard input.
fn lines(world: &World, name: &str, lines: &[&str]) -> String {
    let path = world.path(name);
    std::fs::write(&path, lines.join("\n") + "\n").expect("writes");
    path.to_str().expect("text").to_owned()
}

/// The id of a daemon's node, as its status tells it.
fn node(daemon: &Daemon) -> String {
    daemon.json(&["status"])["node"].as_str().expect("an id").to_owned()
}

/// The nodes that a daemon shows as its user's, each with whether it is online.
fn devices(daemon: &Daemon) -> Vec<(String, bool)> {
    let status = daemon.json(&["status"]);
    let devices = status["devices"].as_array().expect("a list").iter();
    devices.map(|device| (device["node"].as_str().expect("an id").to_owned(), device["online"] == true)).collect()
}

#[test]
fn a_changed_password_is_the_only_one_that_logs_in() {
    const NEW: &str = "another one that is long";
    let mut world = World::new();
    let alice = world.user("alice");
    let phone = device(&world, "phone", PASSWORD);
    let (old, new, wrong) =
        (lines(&world, "old", &[PASSWORD]), lines(&world, "new", &[NEW]), lines(&world, "wrong", &["wrong"]));
    let refusal = alice.refusal(&["change_password", "--old-password-file", &wrong, "--password-file", &new]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (4, "login_refused"));
    assert_eq!(refusal.message, "the old password is wrong");
    assert_eq!(
        world.daemon("stranger").refusal(&["passwd", "--old-password-file", &old, "--password-file", &new]).code,
        "login_needed"
    );

    let change = ["change_password", "--old-password-file", &old, "--password-file", &new];
    let changed = alice.json(&change);
    assert_eq!((&changed["user"], &changed["logged_out_everywhere"]), (&"alice".into(), &false.into()));
    assert!(is_logged_in(&alice) && is_logged_in(&phone), "devices stay logged in");
    world.tracker.kill();
    world.tracker.restart();
    let tablet = world.daemon("tablet");
    let refusal = eventually("the tracker answers again", || {
        let refusal = tablet.refusal(&["login", "alice", PASSWORD]);
        (refusal.exit_code != 8).then_some(refusal)
    });
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (4, "login_refused"));
    tablet.run(&["login", "alice", NEW]);

    // Both on standard input, a line each.
    let both = std::fs::File::open(lines(&world, "both", &[NEW, "the third"])).expect("opens");
    let ctl = tablet.ctl().with(|command| _ = command.stdin(both));
    ctl.run(&["passwd", "--old-password-file", "-", "--password-file", "-"]);
    device(&world, "laptop", "the third");
}

#[test]
fn log_out_everywhere_reaches_devices_that_are_online_and_those_that_are_not() {
    let world = World::new();
    let alice = world.user("alice");
    let phone = device(&world, "phone", PASSWORD);
    let mut tablet = device(&world, "tablet", PASSWORD);
    tablet.kill();
    let both = std::fs::File::open(lines(&world, "both", &[PASSWORD, "new"])).expect("opens");
    let change = ["change_password", "--log-out-everywhere", "--old-password-file", "-", "--password-file", "-"];
    let said = alice.ctl().with(|command| _ = command.stdin(both)).said(&change);
    assert!(said.contains("logged out everywhere but here"), "{said}");
    assert!(is_logged_in(&alice));
    eventually("the phone knows that it is logged out", || is_logged_out(&phone).then_some(()));
    tablet.restart();
    eventually("the tablet learns it when it is back", || is_logged_out(&tablet).then_some(()));
    assert_eq!(devices(&alice), [(node(&alice), true)]);
    phone.run(&["login", "alice", "new"]);
}

/// Whether a daemon says that nobody is logged in, to people as well.
fn is_logged_out(daemon: &Daemon) -> bool {
    let known = daemon.json(&["status"])["user"] == Value::Null;
    assert!(!known || daemon.run(&["status"]).starts_with("not logged in"));
    known && daemon.refusal(&["list_my_groups"]).code == "login_needed"
}

#[test]
fn a_lost_device_is_seen_in_status_and_logged_out_from_another() {
    let world = World::new();
    let alice = world.user("alice");
    assert!(!alice.run(&["status"]).contains("Devices"), "one device is nothing to tell");
    let phone = device(&world, "phone", PASSWORD);
    let mut tablet = device(&world, "tablet", PASSWORD);
    let ids = [&alice, &phone, &tablet].map(node);
    let mut expected: Vec<_> = ids.iter().map(|id| (id.clone(), true)).collect();
    expected.sort();
    eventually("all three are shown", || (devices(&alice) == expected).then_some(()));
    tablet.stop();
    expected.iter_mut().filter(|(id, _)| *id == ids[2]).for_each(|(_, online)| *online = false);
    let text = eventually("the tablet is shown to be offline", || {
        (devices(&phone) == expected).then(|| phone.run(&["status"]))
    });
    let line = text.lines().find(|line| line.starts_with("Devices   3: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&format!("{} (this one)", &ids[1][..8])), "{line}");
    assert!(line.contains(&format!("{} since ", &ids[2][..8])) && line.contains(", offline"), "{line}");

    let bob = world.user("bob");
    for (daemon, prefix, code, exit_code) in [
        (&bob, &ids[1][..8], "node_not_found", 3),
        (&alice, &ids[1].replace(char::is_numeric, "f"), "node_not_found", 3),
    ] {
        let refusal = daemon.refusal(&["logout", "--node", prefix]);
        assert_eq!((refusal.code.as_str(), refusal.exit_code), (code, exit_code), "{refusal:?}");
    }
    assert_eq!(alice.refusal(&["logout", "--node", "phone"]).exit_code, 2);

    let gone = alice.json(&["logout", "--node", &ids[1][..8]]);
    assert_eq!((&gone["node"], &gone["user"]), (&ids[1].as_str().into(), &"alice".into()));
    eventually("the phone knows that it is logged out", || is_logged_out(&phone).then_some(()));
    alice.run(&["logout", "--node", &ids[2]]);
    assert_eq!(alice.refusal(&["logout", "--node", &ids[2]]).code, "node_not_found");
    tablet.restart();
    eventually("the tablet learns it when it is back", || is_logged_out(&tablet).then_some(()));
    assert_eq!(devices(&alice), [(ids[0].clone(), true)]);
    assert_eq!(alice.json(&["logout", "--node", &ids[0]])["user"], "alice", "its own is a logout");
    assert_eq!(alice.json(&["status"])["devices"], Value::Array(Vec::new()));
}

#[test]
fn too_many_wrong_passwords_are_told_how_long_to_wait() {
    let world = World::new();
    world.user("alice");
    let thief = world.daemon("thief");
    let refusal = eventually("the tracker has had enough", || {
        let refusal = thief.ctl().json_refusal(&["login", "alice", "wrong"]);
        (refusal.code != "login_refused").then_some(refusal)
    });
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (1, "busy"));
    let hint = refusal.hint.expect("what to do");
    assert!(hint.starts_with("try again in ") && hint.ends_with(" s"), "{hint}");
}
