//! A start with ten thousand shares and a hundred half-done downloads: nothing of them is read, let alone hashed.

use std::path::Path;
use std::time::Instant;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::{HashAlgorithm, Manifest};
use p2p_proto::time::UnixMillis;
use p2p_tests::World;
use p2p_tests::wait::eventually;
use p2pd::engine::record::{Change, DownloadPhase, DownloadRecord, ShareRecord};
use p2pd::store::Store;

use crate::{MIB, entry, number};

const SHARES: u32 = 10_000;
const SHARE_BYTES: usize = 16 * 1024;

const DOWNLOADS: u32 = 100;
const PIECE: usize = 512 * 1024;
/// Pieces of each download, of which all but the last are here.
const PIECES: u32 = 3;

/// What a start may read: the program, its libraries and its journal. All the shares would be 160 MiB, the parts 100.
const READ_MAX: u64 = 32 * MIB;

/// Bytes that differ from file to file.
fn content(number: u32, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Shares and half-done downloads, made with the daemon's own store while the daemon rests.
async fn fill(state: &Path, files: &Path, born: UnixMillis) {
    let (told, _events) = tokio::sync::mpsc::unbounded_channel();
    let (store, _) = Store::open(state, told).expect("opens");
    let mut changes = Vec::new();
    for number in 0..SHARES {
        let path = files.join(format!("share {number}"));
        std::fs::write(&path, content(number, SHARE_BYTES)).expect("writes");
        let imported = store
            .import(path.clone(), HashAlgorithm::Blake3, false, p2pd::engine::output::Folders::Refused, |_, _| {})
            .await
            .expect("imports");
        changes.push(Change::PutShare(ShareRecord {
            resting: false,
            user: "alice".parse().expect("a name"),
            group: "photos".parse().expect("a name"),
            name: format!("share {number}").parse().expect("a name"),
            content: imported.content,
            shape: imported.shape,
            path,
            stamp: imported.stamp,
            added: UnixMillis(1),
            born: Some(born),
        }));
    }
    store.remember(changes).await.expect("remembers");
    for number in 0..DOWNLOADS {
        let bytes = content(SHARES + number, PIECES as usize * PIECE);
        let (content, manifest) = manifest_of(&bytes);
        store.keep_manifest(content, manifest.encode()).await.expect("keeps");
        let record = DownloadRecord {
            id: DownloadId(u64::from(number).to_be_bytes()),
            user: "alice".parse().expect("a name"),
            group: "photos".parse().expect("a name"),
            name: format!("download {number}").parse().expect("a name"),
            owner: "bob".parse().expect("a name"),
            content,
            length: bytes.len() as u64,
            destination: files.join(format!("download {number}")),
            force: false,
            added: UnixMillis(1),
            fetched_bytes: 0,
            shape: None,
            phase: DownloadPhase::Active,
            born: Some(born),
            only: None,
            wanted_bytes: None,
            wanted_pieces: None,
        };
        store.remember(vec![Change::PutDownload(record.clone())]).await.expect("remembers");
        store.open_part(record.clone()).await.expect("opens");
        for (piece, bytes) in bytes.chunks(PIECE).enumerate().take(PIECES as usize - 1) {
            store.write_piece(content, PieceIndex(piece as u32), bytes).await.expect("writes");
        }
        store.close_part(record.id).await.expect("syncs");
    }
    store.shut_down().await;
}

fn manifest_of(content: &[u8]) -> (ContentId, Manifest) {
    let hash = HashAlgorithm::Blake3;
    let geometry = Manifest::geometry_for(content.len() as u64, hash).expect("divides");
    let mut digests = Vec::new();
    for piece in content.chunks(PIECE) {
        hash.digest_into(piece, &mut digests).expect("no crafted piece");
    }
    let manifest = Manifest::new(geometry, hash, digests, None).expect("fits");
    (manifest.content_id(), manifest)
}

#[test]
fn ten_thousand_shares_and_a_hundred_downloads_are_ready_without_hashing() {
    // In memory where that can be: what is measured does not depend on the disk, and making it would take minutes.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let folder_path = folder.path().canonicalize().expect("exists");
    let world = World::new();
    let mut alice = world.resting_daemon("alice");
    alice.home = folder_path.join("alice");
    alice.restart();
    alice.become_known_as("alice");
    alice.run(&["create_group", "photos", "--policy", "public"]);
    let groups = alice.json(&["list_groups"]);
    let born = entry(&groups["groups"], "group", "photos")["born"].clone();
    let born: UnixMillis = serde_json::from_value(born).expect("a time");
    alice.stop();

    let journal = p2p_tests::file::files_under(&alice.home).into_iter().find(|path| path.ends_with("journal.redb"));
    let journal = journal.expect("the daemon has kept something");
    let files = folder_path.join("files");
    std::fs::create_dir(&files).expect("a folder");
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(fill(journal.parent().expect("a folder"), &files, born));
    let made = start.elapsed();

    let start = Instant::now();
    alice.restart();
    let ready = start.elapsed();
    let read_at_ready = alice.process().file_bytes().map(|bytes| bytes.read);
    eventually("everything is as it was", || {
        let status = alice.json(&["status"]);
        let downloads = alice.json(&["show_downloads"]);
        let downloads = downloads["downloads"].as_array().expect("a list");
        let here = u64::from(PIECES - 1) * PIECE as u64;
        let known = downloads.iter().filter(|download| number(download, "have_bytes") == here).count();
        (number(&status, "shares_seeding") == u64::from(SHARES) && known == DOWNLOADS as usize).then_some(())
    });
    let read_at_rest = alice.process().file_bytes().map(|bytes| bytes.read);
    println!(
        "made in {} ms; ready in {} ms with {read_at_ready:?} bytes read, {read_at_rest:?} when all parts were open, of \
         which the journal has {}",
        made.as_millis(),
        ready.as_millis(),
        std::fs::metadata(journal).expect("there").len(),
    );
    assert!(read_at_rest.is_none_or(|bytes| bytes < READ_MAX), "{read_at_rest:?} bytes read");
}
