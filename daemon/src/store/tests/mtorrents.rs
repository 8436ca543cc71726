//! `.mtorrent` files: read within a bound, written whole or not at all.

use std::os::unix::fs::PermissionsExt as _;

use p2p_proto::tracker_info::TrackerAddress;

use super::*;

fn trackers() -> [TrackerAddress; 2] {
    ["192.0.2.1:9000", "[2001:db8::1]:9000"].map(|text| text.parse().expect("an address"))
}

/// Imports a file with SHA-1 pieces and writes its `.mtorrent` to `place`.
async fn write(world: &World, bytes: &[u8], place: PathBuf) -> Result<ContentId, Reject> {
    let path = world.file("shared", bytes);
    let imported = world.store().import(path, HashAlgorithm::Sha1, false, FOLDERS, |_, _| {}).await.expect("imports");
    let (content, given) = (imported.content, "folder/shared".to_owned());
    world
        .store()
        .write_mtorrent(MtorrentToWrite { place, content, given, trackers: trackers() })
        .await
        .map(|()| content)
}

/// What lies in the folder of files.
fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path(".")).expect("reads").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_written_is_read_with_its_manifest_elsewhere() {
    let (world, other) = (World::new(), World::new());
    for length in [0, 1, PIECE, 3 * PIECE + 1] {
        let place = world.path(&format!("{length}.mtorrent"));
        let content = write(&world, &content(length), place.clone()).await.expect("writes");
        let read = other.store().read_mtorrent(place.clone()).await.expect("reads");
        assert_eq!((read.name.as_str(), read.content, read.length), ("shared", content, length as u64));
        assert_eq!(read.trackers, trackers());
        assert_eq!(
            other.store().manifest_bytes(content).await,
            world.store().manifest_bytes(content).await,
            "no peer has to be asked for the manifest"
        );
        let mode = fs::metadata(&place).expect("there").permissions().mode() & 0o777;
        let plain = fs::metadata(world.path("shared")).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, plain, "as any file that this user makes");
    }
}

#[tokio::test]
async fn what_exists_is_not_written_over_and_nothing_is_left() {
    let world = World::new();
    let place = world.file("taken", b"mine");
    assert_eq!(code(write(&world, b"x", place.clone()).await), ErrorCode::DESTINATION_EXISTS);
    assert_eq!(fs::read(&place).expect("reads"), b"mine");
    world.file("half.part", b"another's");
    assert_eq!(code(write(&world, b"x", world.path("half")).await), ErrorCode::DESTINATION_EXISTS);
    assert_eq!(fs::read(world.path("half.part")).expect("reads"), b"another's");
    assert_eq!(code(write(&world, b"x", world.path("ghost/place")).await), ErrorCode::NOT_WRITABLE);
    assert_eq!(names(&world), ["half.part", "shared", "taken"]);
}

#[tokio::test]
async fn no_more_is_read_than_the_first_lines_allow() {
    let world = World::new();
    let place = world.path("m");
    write(&world, &content(PIECE + 1), place.clone()).await.expect("writes");
    let whole = fs::read(&place).expect("reads");
    // A sparse tail of a terabyte, which nobody could read.
    let longer = world.file("longer", &whole);
    fs::OpenOptions::new().write(true).open(&longer).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    assert_eq!(code(world.store().read_mtorrent(longer).await), ErrorCode::MALFORMED);
    let short = world.file("short", b"t:1\nt:1\nx\n1152921504606846976\n");
    assert_eq!(code(world.store().read_mtorrent(short).await), ErrorCode::MALFORMED);
    assert_eq!(code(world.store().read_mtorrent(world.path("ghost")).await), ErrorCode::FILE_MISSING);
    assert_eq!(code(world.store().read_mtorrent(world.path(".")).await), ErrorCode::NOT_A_FILE);
}

#[tokio::test]
async fn a_file_that_was_made_to_collide_has_no_sha1() {
    let world = World::new();
    let pair = include_str!("../../../../proto/src/golden/sha1_collision.txt");
    let digit = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal digits");
    let pair: Vec<Vec<u8>> = pair
        .lines()
        .map(|line| (0..line.len()).step_by(2).map(|place| digit(&line[place..place + 2])).collect())
        .collect();
    let mut contents = Vec::new();
    for bytes in &pair {
        // Behind a good piece, in a file of several.
        let path = world.file("crafted", &[&content(PIECE), bytes.as_slice()].concat());
        let refused = world.store().import(path.clone(), HashAlgorithm::Sha1, false, FOLDERS, |_, _| {}).await;
        let reject = refused.expect_err("refused");
        assert!(reject.code == ErrorCode::INTEGRITY && reject.hint.contains("--hash"), "{reject:?}");
        let imported =
            world.store().import(path, HashAlgorithm::Blake3, false, FOLDERS, |_, _| {}).await.expect("another digest");
        contents.push(imported.content);
    }
    assert_ne!(contents[0], contents[1], "two contents");
}
