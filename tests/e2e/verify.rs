//! `verify`: pieces that are bad on disk are found, fetched again where the download goes on, and named where it was complete.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use p2p_tests::file::assert_equal;
use p2p_tests::wait::eventually;
use serde_json::{Value, json};

use crate::{MIB, NAME, Shared, entry, number, only_download, text};

const LENGTH: u64 = 8 * MIB;
const PIECE: u64 = 512 * 1024;

/// Changes a byte of a file, and sets its time back as a failing disk would leave it.
fn damage(path: &Path, offset: u64) {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
    file.set_modified(modified).expect("sets its time");
}

/// The document that a `verify` prints which finds something bad, and its error.
fn bad(shared: &Shared, id: &str) -> Value {
    let output = shared.bob.ctl().output(&["--json", "verify", id]);
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).expect("a document");
    assert_eq!((&error["code"], &error["exit_code"]), (&json!("integrity"), &json!(10)), "{error}");
    serde_json::from_slice(&output.stdout).expect("a document")
}

#[test]
fn a_finished_file_that_is_damaged_is_named_no_longer_shared_and_fetched_again() {
    let shared = Shared::new(LENGTH);
    let copy = shared.copy();
    let done = shared.bob.json(&["download_file", "photos", NAME, text(&copy)]);
    let id = done["id"].as_str().expect("an id");
    let verified = shared.bob.json(&["verify", id]);
    assert_eq!((&verified["type"], &verified["bad_pieces"]), (&json!("verified"), &json!([])), "{verified}");
    assert_eq!((number(&verified, "pieces"), number(&verified, "checked_pieces")), (16, 16));
    assert_eq!(only_download(&shared.bob)["state"], "seeding", "nothing has changed");
    damage(&copy, 3 * PIECE + 7);
    damage(&copy, 15 * PIECE);
    assert_eq!(bad(&shared, id)["bad_pieces"], json!([3, 15]));
    let download = only_download(&shared.bob);
    assert_eq!((&download["state"], &download["error"]), (&json!("error"), &json!("integrity")), "{download}");
    assert_eq!(entry(&shared.bob.json(&["list"])["shares"], "name", NAME)["seeding"], false);
    assert_eq!(shared.bob.json(&["why", id])["bottleneck"], "fault");
    // As it is told to do.
    fs::rename(&copy, shared.world.path("damaged")).expect("moves");
    shared.bob.run(&["resume", id]);
    shared.bob.json(&["wait", id]);
    assert_equal(&shared.file, &copy);
    assert_eq!(shared.bob.json(&["verify", id])["bad_pieces"], json!([]));
}

#[test]
fn bad_pieces_of_an_unfinished_download_are_fetched_again() {
    let shared = Shared::new(LENGTH);
    shared.bob.run(&["limit", "--down", "512KiB"]);
    let started = shared.bob.json(&["download_file", "photos", NAME, text(&shared.copy()), "--detach"]);
    let id = started["id"].as_str().expect("an id");
    eventually("some pieces are here", || {
        (number(&only_download(&shared.bob), "have_bytes") >= 2 * PIECE).then_some(())
    });
    // While it runs; it goes on.
    assert_eq!(shared.bob.json(&["verify", id])["bad_pieces"], json!([]));
    assert_ne!(only_download(&shared.bob)["state"], "paused");
    shared.bob.run(&["pause", id]);
    let part = shared.world.path("bob's copy.part");
    let file = File::open(&part).expect("the part file");
    let mut piece = vec![0; PIECE as usize];
    let here = (0..LENGTH / PIECE).find(|number| {
        file.read_exact_at(&mut piece, number * PIECE).expect("reads");
        piece.iter().any(|byte| *byte != 0)
    });
    let here = here.expect("a piece is here");
    damage(&part, here * PIECE + 100);
    let before = number(&only_download(&shared.bob), "have_bytes");
    assert_eq!(bad(&shared, id)["bad_pieces"], json!([here]));
    let download = only_download(&shared.bob);
    assert_eq!((&download["state"], number(&download, "have_bytes")), (&json!("paused"), before - PIECE), "{download}");
    assert_eq!(shared.bob.json(&["why", id])["bottleneck"], "paused");
    shared.bob.run(&["limit", "--down", "0"]);
    shared.bob.run(&["resume", id]);
    shared.bob.json(&["wait", id]);
    assert_equal(&shared.file, &shared.copy());
    assert_eq!(shared.bob.refusal(&["verify", "ffff"]).exit_code, 3);
}
