//! Full disks, on a real one of 8 MiB: the job stops, the store stays, and it goes on when there is room.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use super::*;

/// A small disk, gone with this.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None` where this user may not mount one.
    fn new() -> Option<SmallDisk> {
        let folder = TempDir::new().expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(folder.path()).output();
        if mounted.is_ok_and(|mount| mount.status.success()) {
            return Some(SmallDisk { folder });
        }
        eprintln!("skipped: only root can mount a small disk");
        None
    }

    /// Takes all room but `free_bytes`.
    fn fill(&self, free_bytes: u64) -> PathBuf {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).expect("makes");
        let disk = rustix::fs::statvfs(self.folder.path()).expect("measures");
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(free_bytes);
        file.write_all(&vec![1; bytes as usize]).expect("writes");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.folder.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_download_and_not_the_store() {
    let Some(disk) = SmallDisk::new() else { return };
    let mut world = World::new();
    world.store = None;
    let (store, events, _) = open(&disk.folder.path().join("state"));
    (world.store, world.events) = (Some(store), events);
    let bytes = content(3 * PIECE);
    let mut record = world.download(&bytes, "unused").await;
    record.destination = disk.folder.path().join("a.bin");

    // No room for the file: nothing is made.
    let filler = disk.fill(PIECE as u64);
    assert_eq!(code(world.store().open_part(record.clone()).await), ErrorCode::DISK_FULL);
    assert!(!disk.folder.path().join("a.bin.part").exists());
    assert!(!world.store().has_room(record.clone()).await);
    fs::remove_file(&filler).expect("removes");
    assert!(world.store().has_room(record.clone()).await);

    // Room was set aside: no byte free does not stop a download, unless the journal needs more.
    world.store().open_part(record.clone()).await.expect("opens");
    disk.fill(0);
    world.write(&record, &bytes, [0, 1, 2]).await;
    let finished = world.store().finish_part(record.clone()).await;
    assert!(
        finished.as_ref().is_ok_and(|stamp| stamp.length == record.length) || code(finished) == ErrorCode::DISK_FULL
    );

    // A journal that cannot grow says so, and forgets nothing.
    let changes = |number: u32| {
        let share = |part: u32| {
            Change::PutShare(ShareRecord {
                user: "alice".parse().expect("a name"),
                group: "photos".parse().expect("a name"),
                name: format!("{number} {part} {}", "x".repeat(200)).parse().expect("a name"),
                content: record.content,
                shape: inner::shape_of(&manifest_of(&bytes, None)),
                path: disk.folder.path().join("a.bin"),
                stamp: crate::engine::record::SourceStamp { length: 0, modified_ns: 0, device: 0, inode: 0 },
                added: UnixMillis(0),
                resting: false,
                born: None,
            })
        };
        (0..500).map(share).collect::<Vec<_>>()
    };
    let mut remembered = 0;
    let refused = loop {
        match world.store().remember(changes(remembered)).await {
            Ok(()) => remembered += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code, ErrorCode::DISK_FULL, "{refused}");

    // Cancelling works with no byte free; then there is room, and everything goes on.
    world.store().discard_part(record.clone(), true).await.expect("discards");
    assert!(!disk.folder.path().join("a.bin").exists() && !disk.folder.path().join("a.bin.part").exists());
    fs::remove_file(&filler).expect("removes");
    world.store().remember(changes(remembered)).await.expect("remembers");
    assert!(world.store().open_part(record.clone()).await.expect("opens").have.is_empty());
    world.write(&record, &bytes, [0, 1, 2]).await;
    world.store().finish_part(record.clone()).await.expect("finishes");
    world.store = None;
    let (_store, _events, restored) = open(&disk.folder.path().join("state"));
    assert_eq!(restored.shares.len(), 500 * (remembered as usize + 1));
    while let Ok(event) = world.events.try_recv() {
        assert!(!matches!(event, StoreEvent::JournalLost(_)), "a full disk is no reason to stop: {event:?}");
    }
}
