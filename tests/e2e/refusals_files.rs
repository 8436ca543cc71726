//! Local files that cannot be shared and destinations that cannot be written: exit codes 9 and 6, and nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use p2p_tests::file::{files_under, random_file};
use p2p_tests::{Daemon, World};

use crate::{NAME, Shared, text};

/// The user of this machine that owns nothing, whom permissions bind also where the tests run as root.
const NOBODY: u32 = 65534;

fn assert_refused(daemon: &Daemon, exit_code: i32, code: &str, words: &[&str]) {
    let refusal = daemon.refusal(words);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (exit_code, code), "{words:?}: {refusal:?}");
    assert_eq!(daemon.json(&["show_downloads"])["downloads"], serde_json::json!([]));
}

#[test]
fn a_missing_file_is_9() {
    let Shared { alice, world, .. } = &Shared::new(10);
    assert_refused(alice, 9, "file_missing", &["upload_file", text(&world.path("ghost")), "photos"]);
}

#[test]
fn a_folder_or_a_device_as_file_is_9() {
    let Shared { alice, world, .. } = &Shared::new(10);
    assert_refused(alice, 9, "not_a_file", &["upload_file", text(world.folder()), "photos"]);
    assert_refused(alice, 9, "not_a_file", &["upload_file", "/dev/null", "photos"]);
    assert_eq!(alice.json(&["list"])["shares"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_destination_that_exists_is_6_and_is_left_alone() {
    let Shared { bob, world, .. } = &Shared::new(10);
    let taken = world.path("taken");
    fs::write(&taken, "mine").expect("writes");
    assert_refused(bob, 6, "destination_exists", &["download_file", "photos", NAME, text(&taken)]);
    assert_eq!(fs::read(&taken).expect("reads"), b"mine");
    let folder = world.path("folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join(NAME), "mine").expect("writes");
    assert_refused(bob, 6, "destination_exists", &["download_file", "photos", NAME, text(&folder)]);
    assert_eq!(fs::read(folder.join(NAME)).expect("reads"), b"mine");
    assert_eq!(files_under(&folder).len(), 1);
    bob.run(&["download_file", "photos", NAME, text(&taken), "--force"]);
    assert_eq!(fs::metadata(&taken).expect("is there").len(), 10);
}

#[test]
fn a_destination_in_a_missing_folder_is_9() {
    let Shared { bob, world, .. } = &Shared::new(10);
    let refusal = bob.refusal(&["download_file", "photos", NAME, text(&world.path("ghost/copy"))]);
    assert_eq!(refusal.exit_code, 9, "{refusal:?}");
    assert!(!world.path("ghost").exists());
    let refusal = bob.refusal(&["download_file", "photos", NAME, &format!("{}/", text(&world.path("ghost")))]);
    assert_eq!(refusal.exit_code, 9, "a folder is meant: {refusal:?}");
    assert!(!world.path("ghost").exists());
}

#[test]
fn a_destination_below_a_file_is_9() {
    let Shared { bob, file, .. } = &Shared::new(10);
    let refusal = bob.refusal(&["download_file", "photos", NAME, text(&file.join("copy"))]);
    assert_eq!(refusal.exit_code, 9, "{refusal:?}");
}

#[test]
fn what_the_daemons_user_may_not_read_or_write_is_9() {
    let Some((world, carol)) = bound_by_permissions() else { return };
    let alice = world.user("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    carol.run(&["join_group", "photos"]);
    let file = random_file(world.folder(), NAME, 10);
    alice.run(&["upload_file", text(&file), "photos"]);

    let secret = random_file(world.folder(), "secret", 10);
    set_mode(&secret, 0o000);
    assert_refused(&carol, 9, "file_unreadable", &["upload_file", text(&secret), "photos"]);

    let folder = world.path("read-only");
    fs::create_dir(&folder).expect("a folder");
    set_mode(&folder, 0o555);
    assert_refused(&carol, 9, "not_writable", &["download_file", "photos", NAME, text(&folder.join("copy"))]);
    assert_eq!(fs::read_dir(&folder).expect("reads").count(), 0);
    set_mode(&folder, 0o755);
}

#[test]
fn another_user_of_the_machine_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run a command as somebody else");
        return;
    }
    let world = World::new();
    let alice = world.user("alice");
    // Even where the folder's permissions would let them in.
    set_mode(world.folder(), 0o755);
    set_mode(&alice.home, 0o755);
    set_mode(&alice.home.join("run"), 0o755);
    set_mode(&alice.socket(), 0o666);
    let Some(stranger) = as_nobody(&world, "alice") else { return };
    let refusal = stranger.refusal(&["status"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (7, "daemon_refused"), "{refusal:?}");
}

#[test]
fn a_daemon_of_another_user_is_told_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run a daemon as somebody else");
        return;
    }
    let Some((world, _carol)) = bound_by_permissions() else { return };
    // The same home, and so the same socket, but root's command: it might bring a password.
    let refusal = world.resting_daemon("carol").refusal(&["login", "carol", "secret"]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (7, "daemon_refused"), "{refusal:?}");
    assert!(refusal.message.contains(&format!("is run by user {NOBODY}")), "{refusal:?}");
}

/// A world, and carol in it, whose daemon the permissions of files bind.
pub fn bound_by_permissions() -> Option<(World, Daemon)> {
    let world = World::new();
    // As /tmp is: everybody makes files, nobody moves those of others.
    set_mode(world.folder(), 0o1777);
    let mut carol = match rustix::process::geteuid().is_root() {
        true => as_nobody(&world, "carol")?.run_by(NOBODY),
        false => world.resting_daemon("carol"),
    };
    carol.restart();
    carol.become_known_as("carol");
    Some((world, carol))
}

/// A daemon whose commands are run by nobody, if nobody may run the programs where they lie.
fn as_nobody(world: &World, name: &str) -> Option<Daemon> {
    let daemon = world.resting_daemon(name).commands_by(NOBODY);
    let probe = std::panic::catch_unwind(|| daemon.ctl().output(&["--version"]));
    if probe.is_err() {
        eprintln!("skipped: the programs lie where only this user may run them");
        return None;
    }
    Some(daemon)
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}
