//! More than one source: both serve, either may go, and who has all of it becomes one.

use p2p_tests::file::assert_equal;
use p2p_tests::wait::eventually;

use crate::{MIB, NAME, Shared, column, entry, number, only_download, text};

const LENGTH: u64 = 512 * MIB;

#[test]
fn who_has_downloaded_seeds() {
    let shared = Shared::new(2 * MIB);
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
    let carol = shared.world.user("carol");
    eventually("two seed", || {
        let files = carol.json(&["list_files", "photos"]);
        (number(entry(&files["files"], "name", NAME), "seeders") == 2).then_some(())
    });
    let info = carol.json(&["file_info", "photos", NAME]);
    let mut users = column(&info["providers"], "user");
    users.sort_unstable();
    assert_eq!(users, ["alice", "bob"]);
    let Shared { mut alice, bob: _bob, file, world } = shared;
    alice.kill();
    let copy = world.path("carol's copy");
    carol.run(&["download_file", "photos", NAME, text(&copy)]);
    assert_equal(&file, &copy);
}

#[test]
fn two_seeders_both_serve_and_one_is_enough_to_end() {
    let shared = Shared::new(LENGTH);
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
    let carol = shared.world.user("carol");
    eventually("two seed", || {
        let files = carol.json(&["list_files", "photos"]);
        (number(entry(&files["files"], "name", NAME), "seeders") == 2).then_some(())
    });
    let copy = shared.world.path("carol's copy");
    let started = carol.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
    let download = eventually("pieces come from both", || {
        let download = only_download(&carol);
        assert_ne!(download["state"], "seeding", "ended before both had served: {download}");
        (number(&download, "peers_active") == 2).then_some(download)
    });
    assert!(number(&download, "peers_known") >= 2, "{download}");
    let Shared { mut alice, bob: _bob, file, world: _world } = shared;
    alice.kill();
    carol.run(&["wait", started["id"].as_str().expect("an id")]);
    assert_equal(&file, &copy);
}
