//! Accounts: an enrolment lasts until logout, and no tracker holds a password.

use p2p_tests::World;
use p2p_tests::file::files_under;
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
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
fn is_logged_in(alice: &p2p_tests::Daemon) -> bool {
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
