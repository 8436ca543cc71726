//! Downloads: every size, every rule of destinations, nothing wrong is kept.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

#[tokio::test]
async fn content_of_every_size_arrives_and_is_served_while_and_after() {
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7] {
        let mut world = World::new();
        let bytes = content(length);
        let record = world.download(&bytes, "a.bin").await;
        let count = world.store().open_part(record.clone()).await.expect("opens").have.piece_count();
        assert_eq!(fs::metadata(world.path("a.bin.part")).expect("made").len(), length as u64);
        for piece in (0..count).rev() {
            world.write(&record, &bytes, [piece]).await;
            assert_eq!(world.read(record.content, piece).await.as_deref(), Ok(piece_of(&bytes, piece)), "at once");
        }
        world.durable(count as usize).await;
        let stamp = world.store().finish_part(record.clone()).await.expect("finishes");
        assert_eq!(stamp.length, length as u64);
        assert_eq!(world.store().finish_part(record.clone()).await, Ok(stamp), "finished once already");
        assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
        assert!(!world.path("a.bin.part").exists());
        for piece in 0..count {
            assert_eq!(world.read(record.content, piece).await.as_deref(), Ok(piece_of(&bytes, piece)));
        }
        assert_eq!(code(world.read(record.content, count).await), ErrorCode::CONTENT_NOT_FOUND);
        world.kill_and_restart();
        if length > 0 {
            assert_eq!(world.read(record.content, 0).await.as_deref(), Ok(piece_of(&bytes, 0)), "after a restart");
        }
    }
}

#[tokio::test]
async fn a_part_is_private_and_the_finished_file_follows_the_mask() {
    let world = World::new();
    let bytes = content(10);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    let mode = |name| fs::metadata(world.path(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode("a.bin.part"), 0o600);
    world.write(&record, &bytes, [0]).await;
    world.store().finish_part(record).await.expect("finishes");
    fs::write(world.path("other"), b"").expect("writes");
    assert_eq!(mode("a.bin"), mode("other"));
}

#[tokio::test]
async fn a_corrupt_piece_is_refused_and_leaves_no_trace() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    let mut wrong = piece_of(&bytes, 0).to_vec();
    wrong[77] ^= 1;
    let write = |piece: u32, bytes: Vec<u8>| {
        let (store, content) = (world.store().clone(), record.content);
        async move { store.write_piece(content, PieceIndex(piece), &bytes).await }
    };
    assert_eq!(write(0, wrong).await, Ok(Verdict::Corrupt));
    assert_eq!(write(0, bytes[..PIECE - 1].to_vec()).await, Ok(Verdict::Corrupt));
    assert_eq!(write(0, piece_of(&bytes, 1).to_vec()).await, Ok(Verdict::Corrupt), "another piece's bytes");
    assert_eq!(write(2, Vec::new()).await, Ok(Verdict::Corrupt), "a piece beyond the end");
    assert_eq!(code(world.read(record.content, 0).await), ErrorCode::CONTENT_NOT_FOUND);
    assert_eq!(code(world.store().finish_part(record.clone()).await), ErrorCode::WRONG_STATE);
    world.kill_and_restart();
    assert_eq!(pieces(&world.store().open_part(record).await.expect("opens").have), [0; 0]);
}

#[tokio::test]
async fn a_piece_that_arrives_twice_is_written_once() {
    let mut world = World::new();
    let bytes = content(3 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0, 0, 1, 0, 2]).await;
    world.durable(3).await;
    assert!(world.events.try_recv().is_err());
}

#[tokio::test]
async fn a_manifest_is_kept_only_under_its_own_content_id() {
    let world = World::new();
    let (one, other) = (manifest_of(&content(3), None), manifest_of(&content(4), None));
    let wrong = world.store().keep_manifest(one.content_id(), other.encode()).await;
    assert_eq!(code(wrong), ErrorCode::INTEGRITY);
    assert_eq!(code(world.store().manifest_bytes(one.content_id()).await), ErrorCode::CONTENT_NOT_FOUND);
    let shape = world.store().keep_manifest(one.content_id(), one.encode()).await.expect("keeps");
    assert_eq!(shape.length, 3);
    assert_eq!(world.store().manifest_bytes(one.content_id()).await, Ok(one.encode()));
    let description = world.store().describe(one.content_id()).await.expect("describes");
    assert_eq!((description.shape, description.digests.len()), (shape, 1));
}

#[tokio::test]
async fn destinations_are_folders_or_files_that_do_not_exist() {
    let world = World::new();
    let name: FileName = "a.bin".parse().expect("a name");
    let resolve = |path: PathBuf, force| {
        let (store, name) = (world.store().clone(), name.clone());
        async move { store.resolve_destination(path, name, 10, force).await }
    };
    world.file("taken", b"x");
    world.file("busy.part", b"x");
    fs::create_dir(world.path("folder")).expect("a folder");
    fs::create_dir(world.path("folder/a.bin")).expect("a folder");
    symlink(world.path("folder"), world.path("link")).expect("a link");
    symlink(world.path("nowhere"), world.path("dangling")).expect("a link");
    assert_eq!(resolve(world.path(""), false).await, Ok(world.path("a.bin")));
    assert_eq!(resolve(world.path("b.bin"), false).await, Ok(world.path("b.bin")));
    assert_eq!(resolve(world.path("link/b.bin"), false).await, Ok(world.path("folder/b.bin")), "links are resolved");
    for (path, force, expected) in [
        ("taken", false, ErrorCode::DESTINATION_EXISTS),
        ("dangling", false, ErrorCode::DESTINATION_EXISTS),
        ("folder", true, ErrorCode::DESTINATION_EXISTS),
        ("busy", true, ErrorCode::DESTINATION_EXISTS),
        ("none/a.bin", false, ErrorCode::NOT_WRITABLE),
        ("none/", false, ErrorCode::NOT_WRITABLE),
        ("taken/a.bin", false, ErrorCode::NOT_WRITABLE),
    ] {
        let refused = resolve(world.path(path), force).await.expect_err(path);
        assert_eq!(refused.code, expected, "{path}: {refused}");
        assert!(refused.message.contains(path.trim_end_matches("/a.bin").trim_end_matches('/')), "{refused}");
    }
    assert_eq!(resolve(world.path("taken"), true).await, Ok(world.path("taken")));
    let long = world.path(&"x".repeat(256));
    assert_eq!(code(resolve(long, false).await), ErrorCode::BAD_NAME);
}

#[tokio::test]
async fn a_listing_of_an_exbibyte_is_refused_before_a_file_exists() {
    let world = World::new();
    let name = "a.bin".parse().expect("a name");
    let resolved = world.store().resolve_destination(world.path("a.bin"), name, 1 << 60, false).await;
    assert_eq!(code(resolved), ErrorCode::DISK_FULL);
    // The longest that a manifest can describe: 16 TiB in pieces of 32 MiB.
    let geometry = Manifest::geometry_for(1 << 44, HashAlgorithm::Blake3);
    let geometry = geometry.or_else(|_| Manifest::geometry_for((1 << 44) - (1 << 30), HashAlgorithm::Blake3));
    let geometry = geometry.expect("divides");
    let digests = vec![0; geometry.piece_count() as usize * 32];
    let manifest = Manifest::new(geometry, HashAlgorithm::Blake3, digests, None).expect("fits");
    world.store().keep_manifest(manifest.content_id(), manifest.encode()).await.expect("keeps");
    let record = record_of(&manifest, world.path("a.bin"));
    assert_eq!(code(world.store().open_part(record).await), ErrorCode::DISK_FULL);
    assert_eq!(fs::read_dir(world.path("")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_part_file_of_somebody_else_is_left_alone() {
    let world = World::new();
    let record = world.download(&content(9), "a.bin").await;
    let precious = world.file("precious", b"precious");
    for make in [
        |world: &World, _: &Path| drop(world.file("a.bin.part", b"theirs")),
        |world: &World, target: &Path| symlink(target, world.path("a.bin.part")).expect("a link"),
        |world: &World, _: &Path| symlink(world.path("nowhere"), world.path("a.bin.part")).expect("a link"),
    ] {
        make(&world, &precious);
        let before = fs::symlink_metadata(world.path("a.bin.part")).expect("there").ino();
        let refused = world.store().open_part(record.clone()).await.expect_err("refused");
        assert_eq!(refused.code, ErrorCode::DESTINATION_EXISTS);
        assert!(!refused.hint.is_empty());
        world.store().discard_part(record.clone(), true).await.expect("nothing to delete");
        assert_eq!(fs::symlink_metadata(world.path("a.bin.part")).expect("there").ino(), before);
        fs::remove_file(world.path("a.bin.part")).expect("removes");
    }
    assert_eq!(fs::read(precious).expect("there"), b"precious");
    assert!(!world.path("nowhere").exists());
    world.store().open_part(record).await.expect("opens now");
}

#[tokio::test]
async fn a_destination_that_appeared_meanwhile_is_replaced_only_by_force() {
    let world = World::new();
    let bytes = content(9);
    let mut record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0]).await;
    world.file("a.bin", b"theirs");
    assert_eq!(code(world.store().finish_part(record.clone()).await), ErrorCode::DESTINATION_EXISTS);
    assert_eq!(fs::read(world.path("a.bin")).expect("there"), b"theirs");
    record.force = true;
    world.store().finish_part(record).await.expect("finishes");
    assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
}

#[tokio::test]
async fn a_folder_exchanged_for_a_link_leads_nowhere_else() {
    let mut world = World::new();
    fs::create_dir(world.path("in")).expect("a folder");
    fs::create_dir(world.path("canary")).expect("a folder");
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "in/a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0]).await;
    fs::rename(world.path("in"), world.path("moved")).expect("renames");
    symlink(world.path("canary"), world.path("in")).expect("a link");
    world.write(&record, &bytes, [1]).await;
    world.store().finish_part(record.clone()).await.expect("finishes in the folder it began in");
    assert_eq!(fs::read(world.path("moved/a.bin")).expect("there"), bytes);
    world.kill_and_restart();
    assert_eq!(code(world.store().open_part(record).await), ErrorCode::NOT_WRITABLE);
    assert_eq!(fs::read_dir(world.path("canary")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn names_of_any_allowed_length_have_a_part_name() {
    let mut world = World::new();
    for name in ["x".repeat(250), "x".repeat(251), "x".repeat(255), "é".repeat(127), "写".repeat(85)] {
        let bytes = content(name.len());
        let record = world.download(&bytes, &name).await;
        world.store().open_part(record.clone()).await.expect("opens");
        world.write(&record, &bytes, [0]).await;
        world.store().close_part(record.id).await.expect("closes");
        world.kill_and_restart();
        assert!(world.store().open_part(record.clone()).await.expect("finds it again").have.is_full());
        world.store().finish_part(record).await.expect("finishes");
        assert_eq!(fs::read(world.path(&name)).expect("there"), bytes);
    }
    let long = |end: char| folder::part_name(format!("{}{end}", "x".repeat(254)).as_ref());
    assert_ne!(long('a'), long('b'), "names that differ at the end only have their own");
}

#[tokio::test]
async fn a_download_that_is_discarded_leaves_nothing() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [1]).await;
    world.store().discard_part(record.clone(), false).await.expect("discards");
    assert!(!world.path("a.bin.part").exists());
    assert_eq!(code(world.store().write_piece(record.content, PieceIndex(0), b"").await), ErrorCode::WRONG_STATE);
    // Closed, over a restart.
    world.store().open_part(record.clone()).await.expect("opens");
    world.kill_and_restart();
    world.store().discard_part(record.clone(), false).await.expect("discards");
    assert!(!world.path("a.bin.part").exists());
    // Finished: kept, or deleted where that is asked for and it is still the same file.
    let record = world.fetch(&bytes, "a.bin").await;
    world.store().discard_part(record.clone(), false).await.expect("discards");
    assert!(world.path("a.bin").exists());
    fs::remove_file(world.path("a.bin")).expect("removes");
    let record = world.fetch(&bytes, "a.bin").await;
    world.store().discard_part(record.clone(), true).await.expect("discards");
    assert!(!world.path("a.bin").exists());
    assert_eq!(code(world.read(record.content, 0).await), ErrorCode::CONTENT_NOT_FOUND);
}

#[tokio::test]
async fn the_whole_digest_is_checked_where_there_is_one() {
    let world = World::new();
    let bytes = content(PIECE + 5);
    let right: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &bytes)).into();
    for (whole, expected) in [([7; 32], Some(ErrorCode::INTEGRITY)), (right, None)] {
        let manifest = manifest_of(&bytes, Some(whole));
        world.store().keep_manifest(manifest.content_id(), manifest.encode()).await.expect("keeps");
        let record = record_of(&manifest, world.path("a.bin"));
        world.store().open_part(record.clone()).await.expect("opens");
        world.write(&record, &bytes, [0]).await;
        assert_eq!(code(world.store().check_whole(record.content).await), ErrorCode::CONTENT_NOT_FOUND);
        world.write(&record, &bytes, [1]).await;
        let streamed = world.store().check_whole(record.content).await;
        assert_eq!(streamed.err().map(|reject| reject.code), expected);
        let finished = world.store().finish_part(record.clone()).await;
        assert_eq!(finished.as_ref().err().map(|reject| reject.code), expected);
        assert_eq!(world.path("a.bin").exists(), expected.is_none());
        world.store().discard_part(record, false).await.expect("discards");
    }
}

#[tokio::test]
async fn a_content_that_is_here_is_copied() {
    let mut world = World::new();
    let bytes = content(3 * PIECE + 1);
    let path = world.file("shared", &bytes);
    let (_, content) = world.share(&path, "shared").await;
    let record = world.download(&bytes, "copy").await;
    assert_eq!(record.content, content);
    let stamp = world.store().copy_local(record.clone()).await.expect("copies");
    assert_eq!(stamp.length, bytes.len() as u64);
    assert_eq!(fs::read(world.path("copy")).expect("there"), bytes);
    assert_eq!(world.store().copy_local(record.clone()).await, Ok(stamp));
    assert!(world.events.try_recv().is_err(), "the engine did not fetch these pieces");
    // A source that changed does not become a copy.
    world.store().discard_part(record, true).await.expect("discards");
    world.file("shared", b"changed");
    let record = world.download(&bytes, "second copy").await;
    assert_eq!(code(world.store().copy_local(record).await), ErrorCode::SOURCE_CHANGED);
    assert!(!world.path("second copy").exists());
}

#[tokio::test]
async fn a_copy_that_is_stopped_does_not_get_into_its_place() {
    let world = World::new();
    let bytes = content(3 * PIECE + 1);
    let path = world.file("shared", &bytes);
    world.share(&path, "shared").await;
    let record = world.download(&bytes, "copy").await;
    let copied = world.store().copy_local(record.clone());
    world.store().close_part(record.id).await.expect("closes");
    assert_eq!(code(copied.await), ErrorCode::CANCELLED);
    assert!(!world.path("copy").exists());
    // It can be copied again.
    world.store().copy_local(record).await.expect("copies");
    assert_eq!(fs::read(world.path("copy")).expect("there"), bytes);
}

#[tokio::test]
async fn two_downloads_do_not_write_one_content_at_a_time() {
    let world = World::new();
    let bytes = content(9);
    let one = world.download(&bytes, "one").await;
    let other = world.download(&bytes, "the other").await;
    world.store().open_part(one.clone()).await.expect("opens");
    assert_eq!(code(world.store().open_part(other.clone()).await), ErrorCode::WRONG_STATE);
    world.write(&one, &bytes, [0]).await;
    world.store().finish_part(one).await.expect("finishes");
    world.store().copy_local(other).await.expect("copies");
    assert_eq!(fs::read(world.path("the other")).expect("there"), bytes);
}
