//! Watched folders: what appears in one is uploaded by itself, once it is complete, over restarts, and errors are told.

use std::io::Write as _;

use p2p_tests::World;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::wait::eventually;

use crate::{column, text};

#[test]
fn what_appears_in_a_watched_folder_is_uploaded() {
    let world = World::new();
    let (outbox, mut alice, bob) = (world.path("outbox"), world.resting_daemon("alice"), world.user("bob"));
    std::fs::create_dir(&outbox).expect("makes");
    alice.write_settings(&format!("watch = [\"photos:{}\"]", text(&outbox)));
    alice.restart();
    alice.become_known_as("alice");
    let problem = |daemon: &p2p_tests::Daemon, word: &str| {
        eventually("it is told", || {
            let problems = daemon.json(&["status"])["problems"].to_string();
            (problems.contains("watched folder") && problems.contains(word)).then_some(())
        });
    };
    random_file(&outbox, "beach.jpg", 3_000_000);
    problem(&alice, "beach.jpg");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let listed = |count: usize| {
        eventually("all is listed", || {
            let files = bob.json(&["list_files", "photos"]);
            let names: Vec<String> = column(&files["files"], "name").into_iter().map(str::to_owned).collect();
            (names.len() == count).then_some(names)
        })
    };
    assert_eq!(listed(1), ["beach.jpg"]);
    eventually("nothing is wrong any more", || {
        (!alice.json(&["status"])["problems"].to_string().contains("watched")).then_some(())
    });

    // A folder, a name that is passed over, and one that cannot be shared.
    std::fs::create_dir_all(outbox.join("album/sub")).expect("makes");
    random_file(&outbox.join("album/sub"), "one.jpg", 1000);
    random_file(&outbox, ".hidden", 10);
    random_file(&outbox, "arriving.part", 10);
    let socket = outbox.join("socket");
    let bound = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
    assert_eq!(listed(2), ["album", "beach.jpg"]);
    problem(&alice, "socket");
    drop(bound);
    std::fs::remove_file(&socket).expect("removes");

    // Over a restart nothing is uploaded again that has not changed; what changes is.
    let added = || bob.json(&["list_files", "photos"])["files"][1]["added"].clone();
    let before = added();
    alice.kill();
    let mut file = std::fs::File::options().append(true).open(outbox.join("album/sub/one.jpg")).expect("opens");
    file.write_all(b"more").expect("writes");
    alice.restart();
    eventually("the change is listed", || {
        // Which has the daemon look at what it shares.
        alice.json(&["status"]);
        let files = bob.json(&["list_files", "photos"]);
        (files["files"][0]["length"] == 1004).then_some(())
    });
    assert_eq!(added(), before);
    let copy = world.path("copy");
    bob.run(&["download_file", "photos", "album", text(&copy)]);
    assert_equal(&outbox.join("album/sub/one.jpg"), &copy.join("sub/one.jpg"));
}
