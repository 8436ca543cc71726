//! Kills in the middle of a download: it goes on by itself and fetches nothing verified again.

use p2p_tests::file::assert_equal;
use p2p_tests::wait::eventually;
use serde_json::Value;

use crate::{MIB, NAME, Shared, number, only_download, text};

/// Long enough that a kill meets it in the middle.
const LENGTH: u64 = 512 * MIB;

/// What may be fetched twice: what was on its way or not yet synced when the kill came.
const WINDOW: u64 = 64 * MIB;

/// Bob's download as it is in the middle: some pieces are here, others are not.
fn in_the_middle(shared: &Shared) -> Value {
    let download = eventually("the first pieces are here", || {
        let download = only_download(&shared.bob);
        (number(&download, "have_bytes") > 0).then_some(download)
    });
    assert!(number(&download, "have_bytes") < LENGTH, "too fast to be met in the middle: {download}");
    download
}

fn start_download(shared: &Shared) -> String {
    let started = shared.bob.json(&["download_file", "photos", NAME, text(&shared.copy()), "--detach"]);
    assert_eq!(started["type"], "download_started");
    started["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_killed_downloader_goes_on_where_it_was() {
    let mut shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    let before = in_the_middle(&shared);
    shared.bob.kill();
    assert!(!shared.copy().exists(), "what is not whole does not stand under the final name");
    shared.bob.restart();
    let mut follower = shared.bob.follow(&["wait", &id]);
    let result = follower.until(|document| {
        if document["type"] == "progress" && document["state"] == "downloading" {
            assert!(number(document, "have_bytes") >= number(&before, "have_bytes"), "{before} then {document}");
        }
        document["type"] == "result"
    });
    assert_equal(&shared.file, &shared.copy());
    let fetched = number(&result, "fetched_bytes");
    assert!(fetched <= LENGTH + WINDOW, "{fetched} bytes fetched for {LENGTH}");
    assert!(fetched >= number(&before, "have_bytes"), "restarts are counted: {result}");
}

#[test]
fn a_downloader_that_is_killed_again_and_again_gets_there() {
    let mut shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    let mut have = 0;
    for _ in 0..4 {
        let download = eventually("more pieces are here", || {
            let download = only_download(&shared.bob);
            (number(&download, "have_bytes") > have).then_some(download)
        });
        if number(&download, "have_bytes") == LENGTH {
            break;
        }
        have = number(&download, "have_bytes");
        shared.bob.kill();
        shared.bob.restart();
    }
    let result = shared.bob.json(&["wait", &id]);
    assert_eq!(result["type"], "result");
    assert_equal(&shared.file, &shared.copy());
    assert!(number(&result, "fetched_bytes") <= LENGTH + 4 * WINDOW, "{result}");
}

#[test]
fn a_downloader_that_is_stopped_cleanly_fetches_nothing_twice() {
    let mut shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    in_the_middle(&shared);
    shared.bob.stop();
    shared.bob.restart();
    let result = shared.bob.json(&["wait", &id]);
    assert_equal(&shared.file, &shared.copy());
    assert!(number(&result, "fetched_bytes") <= LENGTH + WINDOW, "{result}");
}

#[test]
fn a_killed_seeder_is_waited_for() {
    let mut shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    in_the_middle(&shared);
    shared.alice.kill();
    let waiting = eventually("the download waits and says why", || {
        let download = only_download(&shared.bob);
        (download["state"] == "waiting").then_some(download)
    });
    assert!(waiting["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{waiting}");
    assert_eq!(number(&waiting, "down_rate"), 0, "{waiting}");
    shared.alice.restart();
    let result = shared.bob.json(&["wait", &id]);
    assert_equal(&shared.file, &shared.copy());
    assert!(number(&result, "fetched_bytes") <= LENGTH + WINDOW, "{result}");
}

#[test]
fn a_paused_download_rests_over_a_restart_until_it_is_resumed() {
    let mut shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    in_the_middle(&shared);
    assert_eq!(shared.bob.json(&["pause", &id])["state"], "paused");
    shared.bob.stop();
    shared.bob.restart();
    assert_eq!(only_download(&shared.bob)["state"], "paused");
    shared.bob.run(&["resume", &id]);
    shared.bob.run(&["wait", &id]);
    assert_equal(&shared.file, &shared.copy());
}

#[test]
fn a_cancelled_download_leaves_nothing() {
    let shared = Shared::new(LENGTH);
    let id = start_download(&shared);
    in_the_middle(&shared);
    shared.bob.run(&["cancel", &id, "--delete-data"]);
    assert_eq!(shared.bob.refusal(&["wait", &id]).code, "download_not_found");
    assert_eq!(shared.bob.json(&["show_downloads"])["downloads"], serde_json::json!([]));
    let left = p2p_tests::file::files_under(shared.world.folder());
    let left: Vec<_> = left.iter().filter(|path| path.to_string_lossy().contains("bob's copy")).collect();
    assert!(left.is_empty(), "{left:?}");
}
