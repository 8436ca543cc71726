//! `limit`: what comes in and what goes out is held to a rate, which is changed while the daemon runs and kept.

use std::time::Instant;

use p2p_tests::Daemon;
use p2p_tests::file::assert_equal;
use p2p_tests::wait::eventually;
use serde_json::{Value, json};

use crate::{MIB, NAME, Shared, number, only_download, text};

/// Bytes of the file: half a minute at [`RATE`].
const LENGTH: u64 = 8 * MIB;

/// The limit, in bytes per second.
const RATE: u64 = 256_000;

/// What may have come beyond the rate: a burst, and as much again as may be under way when the clock is read.
const SLACK: u64 = 2 * MIB;

/// The limits that a daemon tells.
fn limits(daemon: &Daemon) -> Value {
    let limits = daemon.json(&["limit"]);
    json!([limits["up_limit"], limits["down_limit"]])
}

/// Bob downloads while a limit holds: pieces come, and no faster; without it, the rest comes.
fn held_to_the_rate(shared: &Shared, lift: impl FnOnce()) {
    let begun = Instant::now();
    let started = shared.bob.json(&["download_file", "photos", NAME, text(&shared.copy()), "--detach"]);
    eventually("four pieces have come", || {
        let download = only_download(&shared.bob);
        let have_bytes = number(&download, "have_bytes");
        let most = RATE * begun.elapsed().as_millis() as u64 / 1000 + SLACK;
        assert!(have_bytes <= most, "{have_bytes} bytes in {:?}: {download}", begun.elapsed());
        assert!(have_bytes < LENGTH, "all of it came in {:?}", begun.elapsed());
        assert_eq!(number(&download, "peers_known"), 1, "{download}");
        (have_bytes >= 2 * MIB).then_some(())
    });
    lift();
    let done = shared.bob.json(&["wait", started["id"].as_str().expect("an id")]);
    assert_equal(&shared.file, &shared.copy());
    assert_eq!(number(&done, "fetched_bytes"), LENGTH, "nothing that was sent is sent again: {done}");
}

#[test]
fn what_comes_in_is_held_to_the_limit_until_it_is_lifted() {
    let shared = Shared::new(LENGTH);
    let set = shared.bob.json(&["limit", "--down", "256KB"]);
    assert_eq!((&set["type"], number(&set, "up_limit"), number(&set, "down_limit")), (&json!("limits"), 0, RATE));
    assert_eq!(shared.bob.json(&["status"])["limits"]["down_limit"], RATE);
    assert!(shared.bob.run(&["status"]).contains(" of 250 KiB/s"), "{}", shared.bob.run(&["status"]));
    held_to_the_rate(&shared, || assert_eq!(number(&shared.bob.json(&["limit", "--down", "0"]), "down_limit"), 0));
}

#[test]
fn what_goes_out_is_held_to_the_limit_until_it_is_lifted() {
    let shared = Shared::new(LENGTH);
    shared.alice.run(&["limit", "--up", "256KB/s"]);
    held_to_the_rate(&shared, || _ = shared.alice.run(&["limit", "--up", "0"]));
}

#[test]
fn limits_are_kept_over_a_kill_and_what_is_no_limit_changes_nothing() {
    let world = p2p_tests::World::new();
    let mut daemon = world.daemon("alice");
    assert_eq!(limits(&daemon), json!([0, 0]));
    assert!(daemon.run(&["limit"]).contains("no limit"));
    daemon.run(&["limit", "--up", "1MiB", "--down", "2MB"]);
    daemon.run(&["limit", "--up", "3MB"]);
    daemon.kill();
    daemon.restart();
    assert_eq!(limits(&daemon), json!([3_000_000, 2_000_000]));
    for wrong in ["fast", "-1", "1KB"] {
        assert_eq!(daemon.refusal(&["limit", &format!("--up={wrong}"), "--down", "0"]).exit_code, 2, "{wrong}");
    }
    assert_eq!(limits(&daemon), json!([3_000_000, 2_000_000]));
}
