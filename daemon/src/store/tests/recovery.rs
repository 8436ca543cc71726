//! Crashes: what was told durable is there, what was written is found, nothing else is believed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use super::*;

#[tokio::test]
async fn a_kill_loses_nothing_that_was_written() {
    let mut world = World::new();
    let bytes = content(8 * PIECE + 100);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0, 3]).await;
    world.durable(2).await;
    world.store().inner.syncer.hold();
    world.write(&record, &bytes, [5, 8]).await;
    world.kill_and_restart();
    assert_eq!(pieces(&world.store().open_part(record.clone()).await.expect("opens").have), [0, 3, 5, 8]);
    // And what was found is marked: it is not looked for a second time.
    world.kill_and_restart();
    zero(&world, 5);
    assert_eq!(pieces(&world.store().open_part(record.clone()).await.expect("opens").have), [0, 3, 5, 8]);
}

#[tokio::test]
async fn a_power_cut_loses_only_what_was_not_told_durable() {
    let mut world = World::new();
    let bytes = content(6 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0, 2]).await;
    world.durable(2).await;
    world.store().inner.syncer.hold();
    world.write(&record, &bytes, [1, 3, 5]).await;
    world.store = None;
    // The disk never saw 1, and saw half of 3.
    zero(&world, 1);
    let file = OpenOptions::new().write(true).open(world.path("a.bin.part")).expect("there");
    file.write_all_at(&[0; 4096], 3 * PIECE as u64 + 8192).expect("writes");
    world.restart();
    assert_eq!(pieces(&world.store().open_part(record.clone()).await.expect("opens").have), [0, 2, 5]);
    world.write(&record, &bytes, [1, 3, 4]).await;
    world.store().finish_part(record).await.expect("finishes");
    assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
}

#[tokio::test]
async fn marked_pieces_are_not_hashed_again() {
    let mut world = World::new();
    let bytes = content(3 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [1]).await;
    world.durable(1).await;
    world.kill_and_restart();
    // Hashing would find this.
    zero(&world, 1);
    assert_eq!(pieces(&world.store().open_part(record).await.expect("opens").have), [1]);
}

#[tokio::test]
async fn a_clean_end_makes_everything_durable() {
    let mut world = World::new();
    let bytes = content(4 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.store().inner.syncer.hold();
    world.write(&record, &bytes, [2, 3]).await;
    world.store().shut_down().await;
    world.durable(2).await;
    let late = world.store().write_piece(record.content, PieceIndex(0), piece_of(&bytes, 0)).await;
    assert_eq!(code(late), ErrorCode::WRONG_STATE);
    assert_eq!(code(world.store().remember(vec![Change::Account(None)]).await), ErrorCode::WRONG_STATE);
    world.kill_and_restart();
    zero(&world, 2);
    assert_eq!(pieces(&world.store().open_part(record).await.expect("opens").have), [2, 3], "marked, not hashed");
}

#[tokio::test]
async fn a_crash_between_rename_and_record_is_a_finished_download() {
    let mut world = World::new();
    let bytes = content(PIECE + 1);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0, 1]).await;
    world.store().close_part(record.id).await.expect("closes");
    world.store = None;
    fs::rename(world.path("a.bin.part"), world.path("a.bin")).expect("renames");
    world.restart();
    assert!(world.store().open_part(record.clone()).await.expect("opens").have.is_full());
    let stamp = world.store().finish_part(record.clone()).await.expect("finished");
    assert_eq!(stamp.length, bytes.len() as u64);
    assert_eq!(world.read(record.content, 1).await.as_deref(), Ok(piece_of(&bytes, 1)));
    // Also when only the end is asked for.
    world.kill_and_restart();
    assert_eq!(world.store().finish_part(record).await, Ok(stamp));
}

#[tokio::test]
async fn a_part_file_that_somebody_else_renamed_is_not_a_finished_file() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0]).await;
    world.store().close_part(record.id).await.expect("closes");
    world.store = None;
    fs::rename(world.path("a.bin.part"), world.path("a.bin")).expect("renames");
    world.restart();
    assert_eq!(code(world.store().open_part(record.clone()).await), ErrorCode::DESTINATION_EXISTS);
    fs::rename(world.path("a.bin"), world.path("a.bin.part")).expect("renames");
    assert_eq!(pieces(&world.store().open_part(record).await.expect("goes on").have), [0], "named as it was");
}

#[tokio::test]
async fn a_part_file_that_is_gone_or_another_is_begun_again() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    let part = world.path("a.bin.part");
    let begin = async |world: &mut World| {
        world.store().open_part(record.clone()).await.expect("opens");
        world.write(&record, &bytes, [0]).await;
        world.store().close_part(record.id).await.expect("closes");
        world.store = None;
    };
    begin(&mut world).await;
    fs::remove_file(&part).expect("removes");
    world.restart();
    assert!(world.store().open_part(record.clone()).await.expect("opens").have.is_empty());
    world.store().discard_part(record.clone(), false).await.expect("discards");

    begin(&mut world).await;
    OpenOptions::new().write(true).open(&part).expect("there").set_len(7).expect("cuts");
    world.restart();
    assert!(world.store().open_part(record.clone()).await.expect("opens").have.is_empty());
    world.store().discard_part(record.clone(), false).await.expect("discards");

    begin(&mut world).await;
    fs::rename(&part, world.path("moved")).expect("renames");
    fs::copy(world.path("moved"), &part).expect("copies");
    world.restart();
    assert_eq!(code(world.store().open_part(record.clone()).await), ErrorCode::DESTINATION_EXISTS);
}

#[tokio::test]
async fn a_part_file_left_by_a_crash_while_it_was_made_is_ours() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    let manifest = manifest_of(&bytes, None);
    let intended =
        record::PartRecord { content: record.content, shape: inner::shape_of(&manifest), file: None, in_place: None };
    for length in [0, 2 * PIECE as u64] {
        world.store().inner.journal.put_part(record.id, &intended).expect("notes");
        File::create(world.path("a.bin.part")).expect("makes").set_len(length).expect("extends");
        world.kill_and_restart();
        assert!(world.store().open_part(record.clone()).await.expect("opens").have.is_empty());
        world.store().discard_part(record.clone(), false).await.expect("discards");
    }
    // One with anything in it was never ours.
    world.store().inner.journal.put_part(record.id, &intended).expect("notes");
    fs::write(world.path("a.bin.part"), &bytes).expect("writes");
    assert_eq!(code(world.store().open_part(record).await), ErrorCode::DESTINATION_EXISTS);
}

#[tokio::test]
async fn pieces_written_while_others_are_synced_are_told_once_each() {
    let mut world = World::new();
    let bytes = content(40 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let (store, bytes, content) = (world.store().clone(), bytes.clone(), record.content);
            tokio::spawn(async move {
                for piece in (0..40).filter(|piece| piece % 4 == writer || piece % 7 == 0) {
                    let verdict = store.write_piece(content, PieceIndex(piece), piece_of(&bytes, piece)).await;
                    assert_eq!(verdict, Ok(Verdict::Written));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writes");
    }
    world.durable(40).await;
    world.store().finish_part(record).await.expect("finishes");
    assert!(world.events.try_recv().is_err());
    assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_unsynced_is_believed() {
    let mut world = World::new();
    let bytes = content(3 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0]).await;
    world.durable(1).await;
    world.store().inner.catalogue().part(record.id).expect("open").state().fail_next_sync = true;
    world.write(&record, &bytes, [1]).await;
    let event = world.events.recv().await.expect("the store lives");
    assert!(
        matches!(&event, StoreEvent::SyncFailed(id, reason)
        if *id == record.id && reason.code == ErrorCode::DISK_ERROR),
        "{event:?}"
    );
    assert_eq!(code(world.read(record.content, 1).await), ErrorCode::CONTENT_NOT_FOUND, "not offered any more");
    assert_eq!(world.read(record.content, 0).await.as_deref(), Ok(piece_of(&bytes, 0)));
    let late = world.store().write_piece(record.content, PieceIndex(2), piece_of(&bytes, 2)).await;
    assert_eq!(code(late), ErrorCode::DISK_ERROR);
    assert_eq!(code(world.store().close_part(record.id).await), ErrorCode::DISK_ERROR);
    // Opened again, what the disk does hold is found.
    assert_eq!(pieces(&world.store().open_part(record.clone()).await.expect("opens").have), [0, 1]);
    world.write(&record, &bytes, [2]).await;
    world.store().finish_part(record).await.expect("finishes");
}

#[tokio::test]
async fn a_journal_whose_sync_failed_is_never_tried_again() {
    let mut world = World::new();
    let bytes = content(2 * PIECE);
    let record = world.download(&bytes, "a.bin").await;
    world.store().open_part(record.clone()).await.expect("opens");
    world.store().inner.journal.syncs.fail_next.store(true, std::sync::atomic::Ordering::Relaxed);
    world.write(&record, &bytes, [0]).await;
    let lost = world.events.recv().await.expect("the store lives");
    assert!(matches!(lost, StoreEvent::JournalLost(_)), "{lost:?}");
    assert!(matches!(world.events.recv().await, Some(StoreEvent::SyncFailed(..))));
    assert_eq!(code(world.store().remember(vec![Change::Account(None)]).await), ErrorCode::DISK_ERROR);
    assert_eq!(code(world.store().manifest_bytes(record.content).await), ErrorCode::DISK_ERROR);
    assert!(world.events.try_recv().is_err(), "told once");
    world.kill_and_restart();
    assert_eq!(world.restored.downloads, std::slice::from_ref(&record));
    assert!(world.store().open_part(record).await.is_ok());
}

/// Writes, syncs and crashes in any order: what was told durable is there after each, and what is there verifies.
#[tokio::test]
async fn whatever_is_marked_verifies_after_any_crash() {
    const PIECES: u32 = 9;
    for seed in 0..25 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new();
        let bytes = content((PIECES as usize - 1) * PIECE + 1 + random.usize(..PIECE));
        let record = world.download(&bytes, "a.bin").await;
        let (mut durable, mut unsynced) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let have = world.store().open_part(record.clone()).await.expect("opens").have;
            let on_disk = fs::read(world.path("a.bin.part")).expect("there");
            assert!(durable.iter().all(|piece| have.contains(PieceIndex(*piece))), "told durable and lost");
            assert!(
                have.iter().all(|piece| piece_of(&on_disk, piece.0) == piece_of(&bytes, piece.0)),
                "believed wrongly"
            );
            durable = pieces(&have);
            world.store().inner.syncer.hold();
            for _ in 0..random.u32(..4) {
                let piece = random.u32(..PIECES);
                world.write(&record, &bytes, [piece]).await;
                if !durable.contains(&piece) {
                    unsynced.push(piece);
                }
            }
            match random.u8(..3) {
                0 => world.store().close_part(record.id).await.expect("syncs"),
                1 => world.kill_and_restart(),
                _ => {
                    world.store = None;
                    unsynced.iter().filter(|_| random.bool()).for_each(|piece| zero(&world, u64::from(*piece)));
                    unsynced.clear();
                    world.restart();
                    continue;
                }
            }
            durable.append(&mut unsynced);
        }
        world.store().open_part(record.clone()).await.expect("opens");
        world.write(&record, &bytes, 0..PIECES).await;
        world.store().finish_part(record).await.expect("finishes");
        assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
    }
}

/// Overwrites a piece with zeros behind the store's back.
fn zero(world: &World, piece: u64) {
    let file = OpenOptions::new().write(true).open(world.path("a.bin.part")).expect("there");
    let start = piece * PIECE as u64;
    let bytes = file.metadata().expect("there").len().min(start + PIECE as u64) - start;
    file.write_all_at(&vec![0; bytes as usize], start).expect("writes");
}
