//! Files shared in place: hashed once, read where they lie, and never once they changed.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

use super::*;

async fn import(world: &World, path: PathBuf) -> Result<Imported, Reject> {
    world.store().import(path, HashAlgorithm::Blake3, false, FOLDERS, |_, _| {}).await
}

#[tokio::test]
async fn a_file_of_any_size_is_imported_and_read() {
    let world = World::new();
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 100 * PIECE + 3] {
        let bytes = content(length);
        let path = world.file("a b é.bin", &bytes);
        let (share, id) = world.share(&path, "a").await;
        let manifest = manifest_of(&bytes, None);
        assert_eq!(id, manifest.content_id());
        assert_eq!(world.store().manifest_bytes(id).await, Ok(manifest.encode()));
        for piece in manifest.geometry().pieces() {
            assert_eq!(world.read(id, piece.0).await.as_deref(), Ok(piece_of(&bytes, piece.0)));
        }
        assert_eq!(code(world.read(id, manifest.geometry().piece_count()).await), ErrorCode::CONTENT_NOT_FOUND);
        world.store().remember(vec![Change::DeleteShare(share.user, share.group, share.name)]).await.expect("forgets");
        assert_eq!(code(world.read(id, 0).await), ErrorCode::CONTENT_NOT_FOUND);
    }
}

#[tokio::test]
async fn every_hash_and_the_whole_digest_come_out_of_one_pass() {
    let world = World::new();
    let bytes = content(70 * PIECE + 1);
    let path = world.file("a", &bytes);
    let whole: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &bytes)).into();
    for hash in [HashAlgorithm::Blake3, HashAlgorithm::Sha256, HashAlgorithm::Sha1] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let progress = move |done, length| tell.lock().expect("no panic").push((done, length));
        let imported = world.store().import(path.clone(), hash, true, FOLDERS, progress).await.expect("imports");
        assert_eq!(imported.whole_sha256, Some(whole));
        let description = world.store().describe(imported.content).await.expect("describes");
        assert_eq!((description.shape.hash, description.whole_sha256), (hash, Some(whole)));
        for (piece, digest) in bytes.chunks(PIECE).zip(&description.digests) {
            assert!(hash.verify(piece, digest));
        }
        let told = told.lock().expect("no panic");
        assert_eq!(told.last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
        assert_eq!(told.len(), 2, "35 MiB: once after 32 and at the end");
    }
}

#[tokio::test]
async fn a_sparse_file_is_a_file() {
    let world = World::new();
    let path = world.path("sparse");
    let length = 5 * (1 << 30) + 1;
    File::create(&path).expect("makes").set_len(length).expect("extends");
    let (share, id) = world.share(&path, "sparse").await;
    assert_eq!(share.shape.length, length);
    assert_eq!(world.read(id, 10_240).await, Ok(vec![0]));
}

#[tokio::test]
async fn only_regular_files_are_imported() {
    let world = World::new();
    fs::create_dir(world.path("folder")).expect("a folder");
    let fifo = world.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("runs");
    assert!(made.success());
    std::os::unix::net::UnixListener::bind(world.path("socket")).expect("binds");
    symlink(world.path("loop"), world.path("loop")).expect("a link");
    for (path, expected) in [
        (world.path("folder"), ErrorCode::NOT_A_FILE),
        (fifo, ErrorCode::NOT_A_FILE),
        (world.path("socket"), ErrorCode::NOT_A_FILE),
        ("/dev/zero".into(), ErrorCode::NOT_A_FILE),
        (world.path("missing"), ErrorCode::FILE_MISSING),
        (world.path("folder/missing"), ErrorCode::FILE_MISSING),
        (world.path("loop"), ErrorCode::FILE_UNREADABLE),
    ] {
        let refused = import(&world, path.clone()).await.expect_err("refused");
        assert_eq!(refused.code, expected, "{refused}");
        assert!(refused.message.contains(&path.display().to_string()) && !refused.hint.is_empty(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_link_is_followed_as_long_as_it_leads_to_the_same_file() {
    let world = World::new();
    world.file("real", &content(10));
    world.file("other", &content(10));
    let link = world.path("link");
    symlink(world.path("real"), &link).expect("a link");
    let (_, id) = world.share(&link, "a").await;
    assert_eq!(world.read(id, 0).await, Ok(content(10)));
    world.store().inner.pool.close(&world.store().inner.catalogue().source(id, 0).expect("a source"));
    fs::remove_file(&link).expect("removes");
    symlink(world.path("other"), &link).expect("a link");
    assert_eq!(code(world.read(id, 0).await), ErrorCode::SOURCE_CHANGED);
}

#[tokio::test]
async fn a_changed_file_is_never_served_and_told_once() {
    let overwrite = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("there");
        file.write_all_at(b"changed", PIECE as u64 + 9).expect("writes");
    };
    let truncate = |path: &Path| OpenOptions::new().write(true).open(path).expect("there").set_len(9).expect("cuts");
    let replace = |path: &Path| {
        fs::write(path.with_extension("new"), content(2 * PIECE)).expect("writes");
        fs::rename(path.with_extension("new"), path).expect("renames");
    };
    let delete = |path: &Path| fs::remove_file(path).expect("removes");
    for (change, opened_before) in [overwrite as fn(&Path), truncate, replace, delete]
        .into_iter()
        .flat_map(|change| [(change, true), (change, false)])
    {
        let mut world = World::new();
        let bytes = content(2 * PIECE);
        let path = world.file("a.bin", &bytes);
        let (share, id) = world.share(&path, "a").await;
        if opened_before {
            world.read(id, 1).await.expect("reads");
        }
        change(&path);
        let refused = world.read(id, 1).await.expect_err("changed");
        assert!(matches!(refused.code, ErrorCode::SOURCE_CHANGED | ErrorCode::FILE_MISSING), "{refused}");
        assert_eq!(world.read(id, 0).await, Err(refused.clone()));
        assert_eq!(world.events.try_recv(), Ok(StoreEvent::SourceChanged(id, path.clone(), refused)));
        assert!(world.events.try_recv().is_err());
        // Shared again, it is served again.
        world.file("a.bin", &bytes);
        world.share(&path, share.name.as_str()).await;
        assert_eq!(world.read(id, 1).await.as_deref(), Ok(piece_of(&bytes, 1)));
    }
}

/// Length, time and inode are as they were; only the inode's own time of change is not.
#[tokio::test]
async fn a_change_whose_time_was_set_back_is_caught_before_it_leaves() {
    for restarted in [false, true] {
        let mut world = World::new();
        let bytes = content(3 * PIECE);
        let path = world.file("a.bin", &bytes);
        let (_, id) = world.share(&path, "a").await;
        world.read(id, 1).await.expect("reads");
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        file.write_all_at(b"changed", PIECE as u64 + 9).expect("writes");
        file.set_modified(modified).expect("sets it back");
        if restarted {
            world.kill_and_restart();
        }
        assert_eq!(world.read(id, 0).await.as_deref(), Ok(piece_of(&bytes, 0)), "what is right is served");
        let refused = world.read(id, 1).await.expect_err("changed");
        assert_eq!(refused.code, ErrorCode::SOURCE_CHANGED);
        assert_eq!(code(world.read(id, 0).await), ErrorCode::SOURCE_CHANGED, "not any more");
        world.store().look_at_sources(10).await;
        assert_eq!(world.events.try_recv(), Ok(StoreEvent::SourceChanged(id, path, refused)));
        assert!(world.events.try_recv().is_err(), "it looks as it did, and is not believed again");
    }
}

#[tokio::test]
async fn another_mode_or_name_does_not_unshare() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let path = world.file("a.bin", &bytes);
    let (_, id) = world.share(&path, "a").await;
    for mode in [0o600, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        fs::hard_link(&path, world.path(&format!("{mode}"))).expect("links");
        for piece in [0, 1, 0] {
            assert_eq!(world.read(id, piece).await.as_deref(), Ok(piece_of(&bytes, piece)));
        }
    }
    assert!(world.events.try_recv().is_err());
}

#[tokio::test]
async fn a_file_that_was_only_away_is_served_again() {
    let mut world = World::new();
    let bytes = content(PIECE);
    let shared: Vec<_> =
        ["one", "two", "three"].map(|name| world.file(name, &[name.as_bytes(), &bytes].concat())).into();
    let mut ids = Vec::new();
    for path in &shared {
        ids.push(world.share(path, &path.file_name().expect("a name").to_string_lossy()).await.1);
    }
    let away = world.path("away");
    fs::rename(&shared[1], &away).expect("renames");
    // Two at a time: with two looks every one was looked at.
    for _ in 0..2 {
        world.store().look_at_sources(2).await;
    }
    let event = world.events.try_recv().expect("told before anybody reads it");
    assert!(
        matches!(&event, StoreEvent::SourceChanged(id, path, reason)
        if (*id, path) == (ids[1], &shared[1]) && reason.code == ErrorCode::FILE_MISSING),
        "{event:?}"
    );
    assert_eq!(code(world.read(ids[1], 0).await), ErrorCode::FILE_MISSING);
    fs::rename(&away, &shared[1]).expect("renames");
    for _ in 0..2 {
        world.store().look_at_sources(2).await;
    }
    assert_eq!(world.events.try_recv(), Ok(StoreEvent::SourceBack(ids[1], shared[1].clone())));
    assert!(world.events.try_recv().is_err());
    assert_eq!(world.read(ids[1], 1).await.map(|piece| piece.len()), Ok(3));
}

#[tokio::test]
async fn a_second_file_of_the_same_content_stands_in() {
    let mut world = World::new();
    let bytes = content(PIECE);
    let (one, other) = (world.file("one", &bytes), world.file("other", &bytes));
    let (_, id) = world.share(&one, "one").await;
    assert_eq!(world.share(&other, "other").await.1, id);
    fs::remove_file(&one).expect("removes");
    assert_eq!(world.read(id, 0).await, Ok(bytes));
    assert!(matches!(world.events.try_recv(), Ok(StoreEvent::SourceChanged(_, path, _)) if path == one));
}

#[tokio::test]
async fn more_files_than_descriptors_are_served() {
    let world = World::new();
    let mut shared = Vec::new();
    for number in 0..300u32 {
        let bytes = number.to_le_bytes().repeat(100);
        let path = world.file(&format!("{number}"), &bytes);
        shared.push((world.share(&path, &format!("{number}")).await.1, bytes));
    }
    for (id, bytes) in shared.iter().chain(shared.iter().rev()) {
        assert_eq!(world.read(*id, 0).await.as_ref(), Ok(bytes));
    }
    let open = fs::read_dir("/proc/self/fd").expect("a folder");
    let root = world.path("");
    let ours = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).filter(|path| path.starts_with(&root));
    assert!(ours.count() <= 128);
}

#[tokio::test]
async fn a_path_need_not_be_utf_8() {
    let mut world = World::new();
    let bytes = content(9);
    let path = world.path("").join(std::ffi::OsString::from_vec(b"caf\xe9".to_vec()));
    fs::write(&path, &bytes).expect("writes");
    let (share, id) = world.share(&path, "cafe").await;
    world.kill_and_restart();
    assert_eq!(world.restored.shares, [share]);
    assert_eq!(world.read(id, 0).await, Ok(bytes));
}
