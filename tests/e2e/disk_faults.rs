//! Disks that fail a download: full, gone, read-only. It says why, the daemon lives, and it goes on when the cause is gone.

use std::fs;
use std::path::{Path, PathBuf};

use p2p_tests::Daemon;
use p2p_tests::file::{assert_equal, files_under};
use p2p_tests::small_disk::SmallDisk;
use p2p_tests::wait::eventually;
use serde_json::Value;

use crate::refusals_files::{bound_by_permissions, set_mode};
use crate::{MIB, NAME, Shared, number, only_download, text};

/// Bytes of the file, and of a disk that has room for it, in MiB.
const LENGTH: u64 = 8 * MIB;
const DISK_MIB: u32 = 16;

/// Asks for the file while nobody has it, so that nothing of it is made yet; its id.
fn ask(shared: &mut Shared, copy: &Path) -> String {
    shared.alice.kill();
    let started = shared.bob.json(&["download_file", "photos", NAME, text(copy), "--detach"]);
    started["id"].as_str().expect("an id").to_owned()
}

/// The download, which has stopped with an error of this code.
fn stopped(daemon: &Daemon, code: &str) -> Value {
    let download = eventually("the download stops", || {
        let download = only_download(daemon);
        assert_ne!(download["state"], "seeding", "{download}");
        (download["state"] == "error").then_some(download)
    });
    assert_eq!(download["error"], code, "{download}");
    assert!(download["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{download}");
    let shown = daemon.run(&["show_downloads"]);
    assert!(shown.contains("error: "), "{shown}");
    download
}

#[test]
fn a_full_disk_stops_the_download_until_there_is_room() {
    let Some(disk) = SmallDisk::new(DISK_MIB) else { return };
    let mut shared = Shared::new(LENGTH);
    let copy = disk.path().join("copy");
    let id = ask(&mut shared, &copy);
    let filler = disk.fill(0);
    shared.alice.restart();
    let download = stopped(&shared.bob, "disk_full");
    assert!(download["reason"].as_str().is_some_and(|reason| reason.contains("free")), "{download}");
    assert_eq!(shared.bob.refusal(&["wait", &id]).exit_code, 9);
    // The daemon lives, and refuses what has no room.
    let other = disk.path().join("other");
    assert_eq!(shared.bob.refusal(&["download_file", "photos", NAME, text(&other)]).code, "disk_full");
    assert_eq!(files_under(disk.path()), std::slice::from_ref(&filler), "nothing is begun");
    // Resumed without room it stops again.
    shared.bob.run(&["resume", &id]);
    stopped(&shared.bob, "disk_full");
    let why = shared.bob.json(&["why", &id]);
    assert_eq!((&why["bottleneck"], why["retry_at"].is_string()), (&"disk_full".into(), true), "{why}");
    // It goes on by itself, also in the next life of the daemon.
    shared.bob.kill();
    shared.bob.restart();
    stopped(&shared.bob, "disk_full");
    fs::remove_file(filler).expect("removes");
    eventually("it goes on by itself", || (only_download(&shared.bob)["state"] == "seeding").then_some(()));
    assert_equal(&shared.file, &copy);
}

#[test]
fn a_download_is_cancelled_with_no_byte_free() {
    let Some(disk) = SmallDisk::new(DISK_MIB) else { return };
    let mut shared = Shared::new(LENGTH);
    let copy = disk.path().join("copy");
    let id = ask(&mut shared, &copy);
    let filler = disk.fill(0);
    shared.alice.restart();
    stopped(&shared.bob, "disk_full");
    shared.bob.run(&["cancel", &id]);
    assert_eq!(shared.bob.refusal(&["wait", &id]).code, "download_not_found");
    assert_eq!(files_under(disk.path()), [filler]);
}

#[test]
fn a_half_done_download_is_cancelled_with_no_byte_free() {
    let Some(disk) = SmallDisk::new(320) else { return };
    let shared = Shared::new(256 * MIB);
    let id = in_the_middle(&shared, disk.path());
    shared.bob.run(&["pause", &id]);
    let filler = disk.fill(0);
    assert_eq!(files_under(disk.path()), [disk.path().join(format!("{NAME}.part")), filler.clone()]);
    shared.bob.run(&["cancel", &id]);
    assert_eq!(files_under(disk.path()), [filler]);
    assert_eq!(shared.bob.json(&["show_downloads"])["downloads"], serde_json::json!([]));
}

/// Bob keeps his state on a small disk, and downloads to it.
fn bob_on(disk: &SmallDisk) -> Shared {
    let shared = Shared::new(LENGTH);
    let Shared { alice, file, world, .. } = shared;
    let mut bob = world.resting_daemon("robert");
    bob.home = disk.path().join("robert");
    bob.restart();
    bob.become_known_as("robert");
    bob.run(&["join_group", "photos"]);
    Shared { alice, bob, file, world }
}

#[test]
fn a_daemon_whose_own_disk_is_full_lives_and_goes_on() {
    let Some(disk) = SmallDisk::new(2 * DISK_MIB) else { return };
    let mut shared = bob_on(&disk);
    let copy = disk.path().join("copy");
    let id = ask(&mut shared, &copy);
    let filler = disk.fill(0);
    shared.alice.restart();
    stopped(&shared.bob, "disk_full");
    // What has to be remembered is refused as soon as the journal has to grow, and nothing of it happens.
    let mut made = 0;
    let refusal = loop {
        let share = p2p_tests::file::random_file(shared.world.folder(), &format!("share {made}"), 100 + made);
        let output = shared.bob.ctl().output(&["--json", "upload_file", text(&share), "photos"]);
        match output.status.success() {
            true => made += 1,
            false => break output,
        }
        assert!(made < 2000, "the journal never has to grow");
    };
    let error: Value = serde_json::from_slice(&refusal.stderr).expect("a document");
    assert_eq!((&error["code"], &error["exit_code"]), (&"disk_full".into(), &9.into()), "{error}");
    assert_eq!(shared.bob.json(&["list"])["shares"].as_array().map(Vec::len), Some(made as usize));
    // Cancelling works, and so does everything when there is room.
    shared.bob.run(&["cancel", &id]);
    assert_eq!(shared.bob.refusal(&["wait", &id]).code, "download_not_found");
    fs::remove_file(filler).expect("removes");
    shared.bob.json(&["download_file", "photos", NAME, text(&copy)]);
    assert_equal(&shared.file, &copy);
    assert!(shared.bob.process().is_running());
    // Nothing that was acknowledged is lost.
    shared.bob.kill();
    shared.bob.restart();
    assert_eq!(shared.bob.json(&["list"])["shares"].as_array().map(Vec::len), Some(made as usize + 1));
}

/// Bob is in the middle of a download into a new folder; the id, and the folder.
fn in_a_new_folder(shared: &Shared) -> (String, PathBuf) {
    let folder = shared.world.path("folder");
    fs::create_dir(&folder).expect("a folder");
    (in_the_middle(shared, &folder), folder)
}

/// Bob is in the middle of a download into a folder; the id.
fn in_the_middle(shared: &Shared, folder: &Path) -> String {
    let started = shared.bob.json(&["download_file", "photos", NAME, text(folder), "--detach"]);
    eventually("the first pieces are here", || {
        let download = only_download(&shared.bob);
        assert_ne!(download["state"], "seeding", "too fast to be met in the middle: {download}");
        (number(&download, "have_bytes") > 0).then_some(())
    });
    started["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_folder_that_vanishes_is_named_and_may_come_back() {
    let shared = Shared::new(256 * MIB);
    let (id, folder) = in_a_new_folder(&shared);
    fs::remove_dir_all(&folder).expect("removes");
    let download = stopped(&shared.bob, "disk_error");
    assert!(download["reason"].as_str().is_some_and(|reason| reason.contains(text(&folder))), "{download}");
    // Without the folder it cannot go on, and says so.
    shared.bob.run(&["resume", &id]);
    stopped(&shared.bob, "not_writable");
    fs::create_dir(&folder).expect("a folder");
    shared.bob.run(&["resume", &id]);
    shared.bob.json(&["wait", &id]);
    assert_equal(&shared.file, &folder.join(NAME));
}

#[test]
fn a_part_file_that_is_deleted_is_begun_again() {
    let shared = Shared::new(256 * MIB);
    let (id, folder) = in_a_new_folder(&shared);
    fs::remove_file(folder.join(format!("{NAME}.part"))).expect("removes");
    stopped(&shared.bob, "disk_error");
    shared.bob.run(&["resume", &id]);
    shared.bob.json(&["wait", &id]);
    assert_equal(&shared.file, &folder.join(NAME));
}

#[test]
fn a_folder_made_read_only_stops_only_the_end_of_a_download() {
    let Some((world, mut carol)) = bound_by_permissions() else { return };
    let alice = world.user("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let file = p2p_tests::file::random_file(world.folder(), NAME, 64 * MIB);
    alice.run(&["upload_file", text(&file), "photos"]);
    let folder = world.path("folder");
    fs::create_dir(&folder).expect("a folder");
    set_mode(&folder, 0o777);
    let started = carol.json(&["download_file", "photos", NAME, text(&folder), "--detach"]);
    let id = started["id"].as_str().expect("an id");
    eventually("the part file is there", || folder.join(format!("{NAME}.part")).exists().then_some(()));
    set_mode(&folder, 0o555);
    let download = stopped(&carol, "not_writable");
    assert!(!folder.join(NAME).exists() && carol.process().is_running());
    assert_eq!(number(&download, "have_bytes"), 64 * MIB, "all of it is here, but under its name: {download}");
    set_mode(&folder, 0o755);
    set_mode(&folder, 0o777);
    carol.run(&["resume", id]);
    let result = carol.json(&["wait", id]);
    assert_equal(&file, &folder.join(NAME));
    assert_eq!(number(&result, "fetched_bytes"), 64 * MIB, "nothing is fetched again: {result}");
}

#[test]
fn a_read_only_disk_is_refused_before_anything_is_made() {
    let Some(disk) = SmallDisk::new(DISK_MIB) else { return };
    let shared = Shared::new(LENGTH);
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(remounted.is_ok_and(|status| status.success()));
    let refusal = shared.bob.refusal(&["download_file", "photos", NAME, text(&disk.path().join("copy"))]);
    assert_eq!((refusal.exit_code, refusal.code.as_str()), (9, "not_writable"), "{refusal:?}");
}
