//! A file that changes while it is shared and fetched: it is unshared with the reason, nothing wrong is taken, and whoever
//! else has it completes the download.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;
use serde_json::Value;

use crate::{MIB, NAME, Shared, entry, number, only_download, text};

/// Long enough that a change meets it in the middle.
const LENGTH: u64 = 384 * MIB;

/// Alice and carol share the file, bob is fetching it from both, and `change` is done to alice's.
fn change_while_fetched(change: impl FnOnce(&Path), reason: &[&str]) {
    let shared = Shared::new(LENGTH);
    let original = shared.world.path("original");
    fs::copy(&shared.file, &original).expect("copies");
    let carol = shared.world.user("carol");
    let of_carol = shared.world.path("carol's copy");
    carol.run(&["download_file", "photos", NAME, text(&of_carol)]);
    eventually("two seed", || {
        let files = shared.bob.json(&["list_files", "photos"]);
        (number(entry(&files["files"], "name", NAME), "seeders") == 2).then_some(())
    });
    let started = shared.bob.json(&["download_file", "photos", NAME, text(&shared.copy()), "--detach"]);
    eventually("the first pieces are here", || {
        let download = only_download(&shared.bob);
        assert_ne!(download["state"], "seeding", "too fast to be met in the middle: {download}");
        (number(&download, "have_bytes") > 0).then_some(())
    });
    change(&shared.file);
    let result = shared.bob.json(&["wait", started["id"].as_str().expect("an id")]);
    assert_equal(&original, &shared.copy());
    assert!(number(&result, "fetched_bytes") >= LENGTH, "{result}");
    told(&shared, reason);
    // And so it stays over a restart, without anybody reading it; the others go on.
    let Shared { mut alice, bob, world, .. } = shared;
    alice.kill();
    alice.restart();
    let dave = world.user("dave");
    let of_dave = world.path("dave's copy");
    dave.run(&["download_file", "photos", NAME, text(&of_dave)]);
    assert_equal(&original, &of_dave);
    drop((bob, carol));
}

/// Alice's daemon says that the file is not served, and why: one of these, as it is read or looked at first.
fn told(shared: &Shared, reasons: &[&str]) {
    let says_why = |text: &str| reasons.iter().any(|reason| text.contains(reason));
    let status = eventually("alice's daemon notices", || {
        let status = shared.alice.json(&["status"]);
        (status["shares_stopped"] == 1).then_some(status)
    });
    let problems = status["problems"].as_array().expect("a list");
    let says = |problem: &&Value| problem.as_str().is_some_and(|text| text.contains(NAME) && says_why(text));
    assert!(problems.iter().any(|problem| says(&problem)), "{status}");
    let shares = shared.alice.json(&["list"]);
    let share = entry(&shares["shares"], "name", NAME);
    assert!(share["seeding"] == false && share["reason"].as_str().is_some_and(says_why), "{share}");
}

#[test]
fn truncated_while_fetched() {
    change_while_fetched(
        |path| OpenOptions::new().write(true).open(path).expect("there").set_len(1000).expect("cuts"),
        &["has changed since it was shared", "was cut short since it was shared"],
    );
}

#[test]
fn overwritten_while_fetched() {
    let overwrite = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("there");
        for offset in (0..LENGTH).step_by(MIB as usize) {
            file.write_all_at(&[0; 4096], offset).expect("writes");
        }
    };
    change_while_fetched(overwrite, &["has changed since it was shared"]);
}

#[test]
fn replaced_while_fetched() {
    let replace = |path: &Path| {
        let new = random_file(path.parent().expect("a folder"), "new", LENGTH);
        fs::rename(new, path).expect("renames");
    };
    change_while_fetched(replace, &["was deleted or replaced since it was shared", "has changed since it was shared"]);
}

#[test]
fn deleted_while_fetched() {
    let delete = |path: &Path| fs::remove_file(path).expect("removes");
    change_while_fetched(delete, &["was deleted or replaced since it was shared", "it does not exist"]);
}

#[test]
fn a_file_that_is_gone_is_told_before_anybody_asks_for_it() {
    let shared = Shared::new(MIB);
    fs::remove_file(&shared.file).expect("removes");
    told(&shared, &["it does not exist"]);
    let refusal = shared.bob.json(&["download_file", "photos", NAME, text(&shared.copy()), "--detach"]);
    assert_eq!(refusal["type"], "download_started");
    // Not at once where the word that it is gone is still on its way.
    let waiting = eventually("it waits and says that nobody has it", || {
        let download = only_download(&shared.bob);
        let reason = download["reason"].as_str().unwrap_or_default();
        (download["state"] == "waiting" && reason.contains("no seeder")).then_some(download)
    });
    // It comes back when it is shared again.
    random_file(shared.world.folder(), NAME, MIB);
    shared.alice.run(&["upload_file", text(&shared.file), "photos"]);
    shared.bob.run(&["wait", waiting["id"].as_str().expect("an id")]);
    assert_equal(&shared.file, &shared.copy());
    // What is over is told no more.
    assert_eq!(shared.alice.json(&["status"])["problems"], serde_json::json!([]));
}

/// Bytes changed and the time set back: length, time and inode are as before.
#[test]
fn a_time_set_back_does_not_hide_a_change() {
    let shared = Shared::new(4 * MIB);
    let original = shared.world.path("original");
    fs::copy(&shared.file, &original).expect("copies");
    let carol = shared.world.user("carol");
    let of_carol = shared.world.path("carol's copy");
    carol.run(&["download_file", "photos", NAME, text(&of_carol)]);
    let file = OpenOptions::new().write(true).open(&shared.file).expect("there");
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    file.write_all_at(b"changed", 2 * MIB).expect("writes");
    file.set_modified(modified).expect("sets back");
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
    assert_equal(&original, &shared.copy());
    // What is served is looked at, so nobody is taken for a liar: bob still trusts alice.
    let good = random_file(shared.world.folder(), "good", 3 * MIB);
    shared.alice.run(&["upload_file", text(&good), "photos"]);
    let of_good = shared.world.path("copy of good");
    shared.bob.run(&["download_file", "photos", "good", text(&of_good)]);
    assert_equal(&good, &of_good);
}

/// A change of permissions or another name is not a change of the file.
#[test]
fn a_changed_mode_does_not_unshare() {
    let shared = Shared::new(4 * MIB);
    crate::refusals_files::set_mode(&shared.file, 0o640);
    fs::hard_link(&shared.file, shared.world.path("another name")).expect("links");
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
    assert_equal(&shared.file, &shared.copy());
    assert_eq!(shared.alice.json(&["status"])["shares_stopped"], 0);
}
