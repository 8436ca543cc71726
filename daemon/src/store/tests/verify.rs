//! Verifying: what is marked is hashed as it lies on the disk, and what is bad loses its mark.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::*;

impl World {
    /// The bad pieces that are found of a download, of so many that were hashed.
    async fn verified(&self, record: &DownloadRecord) -> (Vec<u32>, u32) {
        let found = self.store().verify_part(record.clone(), |_, _| {}).await.expect("verifies");
        assert_eq!(found.pieces, 4);
        (found.bad.iter().map(|piece| piece.0).collect(), found.checked)
    }
}

/// Changes a byte in a piece, and sets the file's time back.
fn damage(path: &Path, piece: u32) {
    let file = File::options().read(true).write(true).open(path).expect("opens");
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    let (mut byte, offset) = ([0], u64::from(piece) * PIECE as u64 + 5);
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[!byte[0]], offset).expect("writes");
    file.set_modified(modified).expect("sets its time");
}

#[tokio::test]
async fn a_bad_piece_of_a_part_loses_its_mark_and_is_missing_from_then_on() {
    let mut world = World::new();
    let bytes = content(3 * PIECE + 9);
    let record = DownloadRecord { shape: None, ..world.download(&bytes, "a.bin").await };
    world.store().open_part(record.clone()).await.expect("opens");
    world.write(&record, &bytes, [0, 1, 3]).await;
    // Verified the moment it is closed: what was written last counts.
    let closed = world.store().close_part(record.id);
    let (verified, ()) = tokio::join!(world.verified(&record), async { closed.await.expect("closes") });
    assert_eq!(verified, (vec![], 3));
    damage(&world.path("a.bin.part"), 1);
    assert_eq!(world.verified(&record).await, (vec![1], 3));
    assert_eq!(world.verified(&record).await, (vec![], 2), "it is known");
    world.kill_and_restart();
    let opened = world.store().open_part(record.clone()).await.expect("opens");
    assert_eq!(pieces(&opened.have), [0, 3]);
    world.write(&record, &bytes, [1, 2]).await;
    world.store().finish_part(record.clone()).await.expect("finishes");
    assert_eq!(fs::read(world.path("a.bin")).expect("there"), bytes);
    assert_eq!(world.verified(&record).await, (vec![], 4));
}

#[tokio::test]
async fn a_damaged_finished_file_is_told_and_not_read_from() {
    let mut world = World::new();
    let bytes = content(3 * PIECE + 9);
    let record = world.fetch(&bytes, "a.bin").await;
    world.durable(4).await;
    damage(&world.path("a.bin"), 2);
    assert_eq!(world.verified(&record).await, (vec![2], 4));
    let event = world.events.recv().await.expect("told");
    let StoreEvent::SourceChanged(content, path, reason) = event else { panic!("{event:?}") };
    assert_eq!((content, path, reason.code), (record.content, world.path("a.bin"), ErrorCode::SOURCE_CHANGED));
    assert_eq!(code(world.read(record.content, 0).await), ErrorCode::SOURCE_CHANGED);
    // Moved away, it is downloaded again.
    fs::rename(world.path("a.bin"), world.path("b.bin")).expect("moves");
    assert_eq!(code(world.store().verify_part(record.clone(), |_, _| {}).await), ErrorCode::FILE_MISSING);
    let opened = world.store().open_part(record.clone()).await.expect("opens");
    assert_eq!(pieces(&opened.have), [0_u32; 0]);
}

#[tokio::test]
async fn of_what_was_never_begun_nothing_is_bad() {
    let world = World::new();
    let record = world.download(&content(10), "a.bin").await;
    let found = world.store().verify_part(record, |_, _| {}).await.expect("verifies");
    assert_eq!((found.in_place, found.checked, found.bad), (false, 0, vec![]));
}
