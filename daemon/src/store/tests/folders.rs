//! Folders: many files that are one content, shared where they lie, and made so that nobody sees half of one.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// Files of every kind of length, within each other: paths, bytes, and whether they can be run. In the order of the table.
fn files() -> Vec<(&'static str, usize, bool)> {
    vec![
        ("a/b/c/deep", 3 * PIECE + 7, false),
        ("a/b/empty", 0, false),
        ("a/tool", 100, true),
        ("a b é", 1, false),
        ("big", 2 * PIECE, false),
        ("z/last", PIECE / 2, true),
    ]
}

fn bytes_of(path: &str, length: usize) -> Vec<u8> {
    content(length).into_iter().map(|byte| byte ^ path.len() as u8).collect()
}

/// Makes a folder with those files, and empty folders beside them; what its content is.
fn make(world: &World, name: &str) -> (PathBuf, Vec<u8>) {
    let top = world.path(name);
    let mut whole = Vec::new();
    for (path, length, executable) in files() {
        let file = top.join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("makes");
        let bytes = bytes_of(path, length);
        fs::write(&file, &bytes).expect("writes");
        let mode = if executable { 0o750 } else { 0o640 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("sets");
        whole.extend(bytes);
    }
    fs::create_dir_all(top.join("x/nothing")).expect("makes");
    (top, whole)
}

/// Every file beneath a folder, with its bytes and whether it can be run.
fn tree(top: &Path) -> Vec<(PathBuf, Vec<u8>, bool)> {
    let (mut found, mut folders) = (Vec::new(), vec![top.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("reads") {
            let path = entry.expect("reads").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let within = path.strip_prefix(top).expect("beneath").to_owned();
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            found.push((within, fs::read(&path).expect("reads"), mode & 0o100 != 0));
        }
    }
    found.sort();
    found
}

/// A download of a folder that was shared in the same world; its bytes.
async fn wanted(world: &World, name: &str, destination: &str) -> (DownloadRecord, PathBuf, Vec<u8>) {
    let (top, whole) = make(world, name);
    let imported = world.store().import(top.clone(), HashAlgorithm::Blake3, false, FOLDERS, |_, _| {}).await;
    let imported = imported.expect("imports");
    let bytes = world.store().manifest_bytes(imported.content).await.expect("kept");
    let manifest = Manifest::decode(&bytes, imported.content).expect("a manifest");
    let record = record_of(&manifest, world.path(destination));
    world.store().remember(vec![Change::PutDownload(record.clone())]).await.expect("remembers");
    (record, top, whole)
}

fn part_of(record: &DownloadRecord) -> PathBuf {
    record.destination.with_file_name(folder::part_name(record.destination.file_name().expect("a name")))
}

#[tokio::test]
async fn a_folder_is_one_content_and_read_where_it_lies() {
    let world = World::new();
    let (top, whole) = make(&world, "album");
    let imported = world.store().import(top.clone(), HashAlgorithm::Blake3, false, FOLDERS, |_, _| {}).await;
    let folder = imported.expect("imports").folder.expect("a folder");
    assert_eq!((folder.files, folder.empty_folders, folder.links), (6, 1, 0));
    let (share, id) = world.share(&top, "album").await;
    assert_eq!(share.shape.length, whole.len() as u64);
    for piece in 0..whole.chunks(PIECE).len() as u32 {
        assert_eq!(world.read(id, piece).await.as_deref(), Ok(piece_of(&whole, piece)), "piece {piece}");
        assert_eq!(world.read(id, piece).await.as_deref(), Ok(piece_of(&whole, piece)), "and again");
    }
}

#[tokio::test]
async fn a_folder_is_downloaded_and_shared_over_a_restart() {
    let mut world = World::new();
    let (record, top, whole) = wanted(&world, "album", "copy").await;
    let have = world.store().open_part(record.clone()).await.expect("opens").have;
    world.write(&record, &whole, (0..have.piece_count()).rev()).await;
    assert!(!record.destination.exists(), "nobody sees it before it is whole");
    let part = part_of(&record);
    assert_eq!(fs::metadata(&part).expect("a folder").permissions().mode() & 0o777, 0o700);
    let stamp = world.store().finish_part(record.clone()).await.expect("finishes");
    assert_eq!(tree(&record.destination), tree(&top));
    assert!(!part.exists() && !record.destination.join("x").exists());
    assert_eq!(world.store().finish_part(record.clone()).await, Ok(stamp), "said again");
    world.kill_and_restart();
    assert_eq!(world.store().finish_part(record.clone()).await, Ok(stamp));
    assert_eq!(world.read(record.content, 3).await.as_deref(), Ok(piece_of(&whole, 3)));
    let found = world.store().verify_part(record.clone(), |_, _| {}).await.expect("verifies");
    assert_eq!((found.in_place, found.bad, found.good_bytes), (true, Vec::new(), whole.len() as u64));
    fs::write(record.destination.join("a/tool"), vec![1; 100]).expect("writes");
    assert_eq!(code(world.store().discard_part(record.clone(), true).await), ErrorCode::SOURCE_CHANGED);
    assert!(record.destination.join("big").exists(), "somebody works on it");
    let found = world.store().verify_part(record, |_, _| {}).await.expect("verifies");
    assert_eq!(pieces_bad(&found), [3], "the file lies in one piece");
}

fn pieces_bad(found: &PiecesFound) -> Vec<u32> {
    found.bad.iter().map(|piece| piece.0).collect()
}

#[tokio::test]
async fn what_was_written_is_found_again_after_a_kill() {
    let mut world = World::new();
    let (record, top, whole) = wanted(&world, "album", "copy").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.store().inner.syncer.hold();
    world.write(&record, &whole, [0, 3, 4]).await;
    world.kill_and_restart();
    let have = world.store().open_part(record.clone()).await.expect("opens").have;
    assert_eq!(pieces(&have), [0, 3, 4], "written and not marked: they verify");
    world.write(&record, &whole, [1, 2, 5]).await;
    world.store().finish_part(record.clone()).await.expect("finishes");
    assert_eq!(tree(&record.destination), tree(&top));
}

#[tokio::test]
async fn the_pieces_of_a_file_that_is_gone_are_fetched_again() {
    let mut world = World::new();
    let (record, top, whole) = wanted(&world, "album", "copy").await;
    let count = world.store().open_part(record.clone()).await.expect("opens").have.piece_count();
    world.write(&record, &whole, 0..count).await;
    world.durable(count as usize).await;
    world.kill_and_restart();
    fs::remove_file(part_of(&record).join("big")).expect("removes");
    fs::write(part_of(&record).join("a/tool"), "shorter").expect("writes");
    let have = world.store().open_part(record.clone()).await.expect("opens").have;
    assert_eq!(pieces(&have), [0, 1, 2]);
    assert_eq!(code(world.read(record.content, 3).await), ErrorCode::CONTENT_NOT_FOUND);
    world.write(&record, &whole, 3..count).await;
    world.store().finish_part(record.clone()).await.expect("finishes");
    assert_eq!(tree(&record.destination), tree(&top));
}

#[tokio::test]
async fn a_folder_replaces_nothing() {
    let world = World::new();
    let (mut record, _, whole) = wanted(&world, "album", "copy").await;
    record.force = true;
    let count = world.store().open_part(record.clone()).await.expect("opens").have.piece_count();
    world.write(&record, &whole, 0..count).await;
    fs::create_dir(&record.destination).expect("makes");
    assert_eq!(code(world.store().finish_part(record.clone()).await), ErrorCode::DESTINATION_EXISTS);
    fs::remove_dir(&record.destination).expect("empty still");
    fs::write(&record.destination, "precious").expect("writes");
    assert_eq!(code(world.store().finish_part(record.clone()).await), ErrorCode::DESTINATION_EXISTS);
    assert_eq!(fs::read_to_string(&record.destination).expect("reads"), "precious");
    fs::remove_file(&record.destination).expect("removes");
    world.store().finish_part(record.clone()).await.expect("finishes");
}

#[tokio::test]
async fn nothing_is_written_through_a_link_that_somebody_puts_into_a_part() {
    let world = World::new();
    let (record, _, whole) = wanted(&world, "album", "copy").await;
    world.store().open_part(record.clone()).await.expect("opens");
    let (outside, part) = (world.path("outside"), part_of(&record));
    fs::create_dir_all(outside.join("b/c")).expect("makes");
    fs::write(outside.join("b/c/deep"), "canary").expect("writes");
    fs::rename(part.join("a"), part.join("moved")).expect("renames");
    symlink(&outside, part.join("a")).expect("links");
    let wrote = world.store().write_piece(record.content, PieceIndex(0), piece_of(&whole, 0)).await;
    assert_eq!(code(wrote), ErrorCode::NOT_WRITABLE);
    assert_eq!(fs::read_to_string(outside.join("b/c/deep")).expect("reads"), "canary");
}

#[tokio::test]
async fn a_cancelled_folder_leaves_only_what_is_not_its_own() {
    let world = World::new();
    let (record, _, whole) = wanted(&world, "album", "copy").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &whole, [0, 1]).await;
    world.store().discard_part(record.clone(), false).await.expect("discards");
    assert!(!part_of(&record).exists());
    let count = world.store().open_part(record.clone()).await.expect("opens").have.piece_count();
    world.write(&record, &whole, 0..count).await;
    world.store().finish_part(record.clone()).await.expect("finishes");
    fs::write(record.destination.join("a/mine"), "mine").expect("writes");
    world.store().discard_part(record.clone(), true).await.expect("discards");
    assert_eq!(tree(&record.destination), [("a/mine".into(), b"mine".to_vec(), false)]);
}

#[tokio::test]
async fn a_changed_file_of_a_shared_folder_is_named() {
    for restarted in [false, true] {
        let mut world = World::new();
        let (top, whole) = make(&world, "album");
        let (_, id) = world.share(&top, "album").await;
        if restarted {
            world.kill_and_restart();
        } else {
            assert_eq!(world.read(id, 4).await.as_deref(), Ok(piece_of(&whole, 4)));
        }
        fs::write(top.join("z/last"), vec![7; PIECE / 2]).expect("writes");
        world.store().look_at_sources(10).await;
        let event = world.events.recv().await.expect("told");
        let StoreEvent::SourceChanged(_, path, reason) = event else { panic!("{event:?}") };
        assert_eq!((path, reason.code), (top.clone(), ErrorCode::SOURCE_CHANGED));
        assert!(reason.message.contains("album/z/last"), "{reason}");
        assert_eq!(code(world.read(id, 0).await), ErrorCode::SOURCE_CHANGED);
    }
}

#[tokio::test]
async fn bytes_changed_with_the_times_set_back_never_leave() {
    let mut world = World::new();
    let (top, whole) = make(&world, "album");
    let (_, id) = world.share(&top, "album").await;
    assert_eq!(world.read(id, 3).await.as_deref(), Ok(piece_of(&whole, 3)));
    let file = fs::OpenOptions::new().write(true).open(top.join("a/tool")).expect("opens");
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    std::os::unix::fs::FileExt::write_all_at(&file, b"other", 0).expect("writes");
    file.set_modified(modified).expect("sets");
    assert_eq!(code(world.read(id, 3).await), ErrorCode::SOURCE_CHANGED);
    assert!(matches!(world.events.recv().await, Some(StoreEvent::SourceChanged(..))));
}

#[tokio::test]
async fn what_cannot_be_shared_of_a_folder_is_named() {
    let world = World::new();
    let refused = async |what: &str, rule: Folders| {
        let refused = world.store().import(world.path("f"), HashAlgorithm::Blake3, false, rule, |_, _| {}).await;
        let refused = refused.expect_err(what);
        fs::remove_dir_all(world.path("f")).expect("removes");
        refused
    };
    let fresh = |file: &str| {
        fs::create_dir_all(world.path("f/sub")).expect("makes");
        fs::write(world.path("f/sub").join(file), "x").expect("writes");
    };
    let follow = Folders::Taken { follow_links: true };
    fs::create_dir_all(world.path("f/sub")).expect("makes");
    assert_eq!(refused("empty", FOLDERS).await.code, ErrorCode::NOT_A_FILE);

    fresh("a");
    symlink("a", world.path("f/sub/link")).expect("links");
    let reason = refused("a link", FOLDERS).await;
    assert!(reason.code == ErrorCode::NOT_A_FILE && reason.message.contains("f/sub/link"), "{reason}");
    assert!(reason.hint.contains("--follow-symlinks"), "{reason}");

    fresh("a");
    symlink(world.path("f"), world.path("f/sub/loop")).expect("links");
    let reason = refused("a loop", follow).await;
    assert!(reason.message.contains("f/sub/loop"), "{reason}");

    fresh("a");
    symlink("nowhere", world.path("f/sub/link")).expect("links");
    let reason = refused("a link to nothing", follow).await;
    assert!(reason.code == ErrorCode::FILE_MISSING && reason.message.contains("f/sub/link"), "{reason}");

    fresh("a");
    std::os::unix::net::UnixListener::bind(world.path("f/sub/socket")).expect("binds");
    let reason = refused("a socket", follow).await;
    assert!(reason.message.contains("f/sub/socket is a socket"), "{reason}");

    fresh("A.txt");
    fs::write(world.path("f/sub/a.TXT"), "x").expect("writes");
    let reason = refused("twins", FOLDERS).await;
    assert!(reason.code == ErrorCode::BAD_NAME && reason.message.contains("sub/A.txt"), "{reason}");

    fresh("a\\b");
    assert_eq!(refused("a name", FOLDERS).await.code, ErrorCode::BAD_NAME);
    fresh("a");
    assert_eq!(refused("where a file is wanted", Folders::Refused).await.code, ErrorCode::NOT_A_FILE);

    fresh("a");
    symlink("sub", world.path("f/to")).expect("links");
    let imported = world.store().import(world.path("f"), HashAlgorithm::Blake3, false, follow, |_, _| {}).await;
    let folder = imported.expect("imports").folder.expect("a folder");
    assert_eq!((folder.files, folder.links, folder.followed), (2, 1, vec!["to -> sub".to_owned()]));
}

#[tokio::test]
async fn of_a_folder_some_files_can_be_wanted() {
    let mut world = World::new();
    let (mut record, top, whole) = wanted(&world, "album", "copy").await;
    record.only = Some(vec!["*tool".to_owned(), "z".to_owned()]);
    world.store().remember(vec![Change::PutDownload(record.clone())]).await.expect("remembers");
    let opened = world.store().open_part(record.clone()).await.expect("opens");
    let pick = opened.wanted.expect("some pieces");
    let bytes: Vec<_> = pieces(&pick);
    assert!(!bytes.is_empty() && bytes.len() < pick.piece_count() as usize, "{bytes:?}");
    world.write(&record, &whole, bytes.clone()).await;
    world.durable(bytes.len()).await;
    // As a crash leaves it that comes when what is not wanted has just been removed.
    world.kill_and_restart();
    fs::remove_file(part_of(&record).join("big")).expect("laid out beside what is wanted");
    let have = world.store().open_part(record.clone()).await.expect("opens").have;
    assert_eq!(pieces(&have), bytes, "nothing is fetched again");
    let stamp = world.store().finish_part(record.clone()).await.expect("finishes");
    let expected = tree(&top).into_iter().filter(|(path, ..)| path.ends_with("tool") || path.starts_with("z"));
    assert_eq!(tree(&record.destination), expected.collect::<Vec<_>>());
    assert!(!record.destination.join("a/b").exists(), "folders of nothing are not left");
    assert_eq!(code(world.read(record.content, bytes[0]).await), ErrorCode::CONTENT_NOT_FOUND, "not shared");
    world.kill_and_restart();
    assert_eq!(world.store().finish_part(record.clone()).await, Ok(stamp));
    assert_eq!(code(world.read(record.content, bytes[0]).await), ErrorCode::CONTENT_NOT_FOUND);
    let found = world.store().verify_part(record.clone(), |_, _| {}).await.expect("verifies");
    assert_eq!(found.bad, Vec::new());
    world.store().discard_part(record.clone(), true).await.expect("discards");
    assert!(!record.destination.exists());

    record.only = Some(vec!["nothing".to_owned()]);
    assert_eq!(code(world.store().open_part(record.clone()).await), ErrorCode::FILE_NOT_FOUND);
    let file = DownloadRecord { only: Some(vec!["*".to_owned()]), ..world.download(&content(10), "file").await };
    assert_eq!(code(world.store().open_part(file).await), ErrorCode::USAGE);
}
