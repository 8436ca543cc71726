//! Every exit code of `p2pctl`, once each in one table, with `--json` and without. What leads to which is tested beside
//! what it belongs to.

use std::collections::BTreeSet;

use p2p_proto::reject::ErrorCode;
use p2p_tests::world::PASSWORD;

use super::*;

#[test]
fn every_exit_code_is_met_with_documents_and_without() {
    let Shared { alice, bob, file, world } = &mut Shared::new(3 * MIB);
    alice.run(&["create_group", "private"]);
    alice.run(&["share", text(file), "good.mtorrent"]);
    let good = std::fs::read_to_string(world.path("good.mtorrent")).expect("reads");
    let lines: Vec<&str> = good.lines().collect();
    let with_last = |last: &str| format!("{}\n{last}\n", lines[..lines.len() - 1].join("\n"));
    std::fs::write(world.path("damaged.mtorrent"), with_last(&"ab".repeat(20))).expect("writes");
    std::fs::write(world.path("nonsense.mtorrent"), with_last("nonsense")).expect("writes");
    alice.stop();
    let copy = world.path("copy");
    let started = bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id");

    let mut met = BTreeSet::from([0]);
    assert_eq!(bob.ctl().output(&["status"]).status.code(), Some(0));
    let table: [(i32, &str, &[&str]); 11] = [
        (1, "malformed", &["get", "nonsense.mtorrent", "."]),
        (2, "usage", &["nonsense"]),
        (2, "bad_name", &["join_group", "a/b"]),
        (3, "file_not_found", &["file_info", "photos", "nothing"]),
        (4, "login_refused", &["login", "bob", "wrong"]),
        (5, "not_member", &["list_files", "private"]),
        (6, "group_exists", &["create_group", "photos"]),
        (9, "file_missing", &["upload_file", "nothing", "photos"]),
        (10, "integrity", &["get", "damaged.mtorrent", "."]),
        (11, "timed_out", &["wait", id, "--timeout", "200ms"]),
        (11, "timed_out", &["events", "--timeout", "200ms"]),
    ];
    for (exit_code, code, words) in table {
        let output = bob.ctl().output(words);
        assert_eq!(output.status.code(), Some(exit_code), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let refusal = bob.ctl().json_refusal(words);
        assert_eq!((refusal.exit_code, refusal.code.as_str()), (exit_code, code), "{words:?}: {refusal:?}");
        met.insert(exit_code);
    }
    // The download has gone on all the while, and is come back to.
    alice.restart();
    bob.run(&["wait", id]);
    p2p_tests::file::assert_equal(file, &copy);

    for words in [["show_downloads", "--watch"], ["status", "--watch"]] {
        let mut watching = bob.follow(&words);
        let first = watching.next_document().expect("shown at once");
        assert_eq!(watching.next_document().expect("shown again")["type"], first["type"]);
        watching.interrupt();
        assert_eq!(watching.finish().status.code(), Some(130));
        met.insert(130);
    }
    world.tracker.kill();
    let without_tracker = bob.refusal(&["create_user", "carol", PASSWORD]);
    met.insert(without_tracker.exit_code);
    bob.stop();
    met.insert(bob.refusal(&["status"]).exit_code);
    let known: BTreeSet<i32> = ErrorCode::ALL.iter().map(|code| code.exit_code().into()).chain([0]).collect();
    assert_eq!(met, known);
}
