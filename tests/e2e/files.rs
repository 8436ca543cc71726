//! Files of every awkward length and name arrive as they are.

use std::fs::File;
use std::path::Path;

use p2p_proto::manifest::HashAlgorithm;
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::{Daemon, World};
use sha2::{Digest as _, Sha256};

use crate::{MIB, NAME, Shared, entry, number, text};

const PIECE: u64 = 512 * 1024;

/// Alice's file goes to bob under its own name, and is the same there.
fn round_trip(world: &World, alice: &Daemon, bob: &Daemon, file: &Path) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let folder = world.path("downloads");
    std::fs::create_dir_all(&folder).expect("a folder");
    alice.run(&["upload_file", text(file), "photos"]);
    let result = bob.json(&["download_file", "photos", name, text(&folder)]);
    assert_eq!(result["destination"], text(&folder.join(name)), "a folder as DEST keeps the name");
    assert_equal(file, &folder.join(name));
    let left: Vec<_> = std::fs::read_dir(&folder).expect("reads").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn lengths_around_nothing_and_around_a_piece() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
        let file = random_file(world.folder(), &format!("{length} bytes"), length);
        round_trip(world, alice, bob, &file);
    }
    let files = bob.json(&["list_files", "photos"]);
    assert_eq!(number(entry(&files["files"], "name", "0 bytes"), "length"), 0);
}

#[test]
fn names_with_spaces_and_letters_of_any_script() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    let names = ["holiday 2026 (1).tar", "naïve café.txt", "写真 🌊.zip", "-rf", "a:b", "..."];
    for (length, name) in (1000..).zip(names) {
        let file = random_file(world.folder(), name, length);
        alice.run(&["upload_file", text(&file), "photos"]);
        let copy = world.path("copy of a name");
        bob.run(&["download_file", "--owner", "alice", "photos", "--", name, text(&copy)]);
        assert_equal(&file, &copy);
        std::fs::remove_file(&copy).expect("was there");
    }
}

#[test]
fn a_gibibyte_of_random_bytes() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    let file = random_file(world.folder(), "1 GiB", 1024 * MIB);
    round_trip(world, alice, bob, &file);
}

#[test]
fn a_sparse_file_beyond_32_bits() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    let file = world.path("5 GiB");
    File::create(&file).and_then(|file| file.set_len(5 * 1024 * MIB)).expect("a sparse file");
    round_trip(world, alice, bob, &file);
}

#[test]
fn every_hash_is_recorded_and_verified() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    let file = random_file(world.folder(), "hashed", PIECE + 5);
    let bytes = std::fs::read(&file).expect("reads");
    for (word, hash) in
        [("blake3", HashAlgorithm::Blake3), ("sha256", HashAlgorithm::Sha256), ("sha1", HashAlgorithm::Sha1)]
    {
        let name = format!("hashed with {word}");
        let copy = world.path(&name);
        alice.run(&["upload_file", text(&file), "photos", "--name", &name, "--hash", word]);
        let done = bob.json(&["download_file", "photos", &name, text(&copy)]);
        assert_eq!(done["pieces"], 2);
        assert_equal(&file, &copy);
        let digests: Vec<String> = bytes.chunks(PIECE as usize).map(|piece| hex_digest(hash, piece)).collect();
        let info = bob.json(&["file_info", "photos", &name]);
        assert_eq!((&info["hash"], &info["digests"]), (&word.into(), &digests.into()));
    }
}

#[test]
fn a_whole_digest_is_what_sha256sum_prints() {
    let Shared { alice, bob, world, .. } = &Shared::new(1);
    let file = random_file(world.folder(), "whole", 3 * PIECE + 5);
    let expected = hex(&Sha256::digest(std::fs::read(&file).expect("reads")));
    let uploaded = alice.json(&["upload_file", text(&file), "photos", "--whole-digest"]);
    assert_eq!(uploaded["whole_sha256"], expected.as_str());
    let copy = world.path("copy");
    bob.run(&["download_file", "photos", "whole", text(&copy)]);
    assert_equal(&file, &copy);
    assert_eq!(bob.json(&["file_info", "photos", "whole"])["whole_sha256"], expected.as_str());
}

#[test]
fn the_group_may_stand_before_the_file() {
    let Shared { alice, world, .. } = &Shared::new(1);
    let file = random_file(world.folder(), "turned round", 10);
    assert_eq!(alice.json(&["upload_file", "photos", text(&file)])["group"], "photos");
}

fn hex_digest(hash: HashAlgorithm, piece: &[u8]) -> String {
    let mut digest = Vec::new();
    hash.digest_into(piece, &mut digest).expect("no attack");
    hex(&digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_deleted_download_is_fetched_again() {
    let Shared { bob, world, file, .. } = &Shared::new(MIB);
    let copy = world.path("copy");
    for _ in 0..2 {
        bob.run(&["download_file", "photos", NAME, text(&copy)]);
        assert_equal(file, &copy);
        std::fs::remove_file(&copy).expect("was there");
    }
}

#[test]
fn a_second_download_of_what_is_here_is_equal_too() {
    let Shared { bob, world, file, .. } = &Shared::new(MIB);
    let (copy, another) = (world.path("copy"), world.path("another"));
    bob.run(&["download_file", "photos", NAME, text(&copy)]);
    bob.run(&["download_file", "photos", NAME, text(&another)]);
    assert_equal(file, &copy);
    assert_equal(file, &another);
}
