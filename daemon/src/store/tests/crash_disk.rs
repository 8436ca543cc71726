//! The crash disk: a run of the store is recorded, change by change, and the power is cut after every one of them, with
//! what was not synced kept, dropped and torn. From each disk that this leaves the store is opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tape::{Image, Lost, Recorded, Replay, Survival, Tape};
use super::*;

/// Runs, each with another order of writes, syncs and kills; as many as `P2P_SEEDS` says where that is set.
const SEEDS: u64 = 2;

/// What became of the changes that were not synced, tried at every cut.
const SURVIVALS: [(Survival, Lost); 5] = [
    (Survival::All, Lost::Hole),
    (Survival::Nothing, Lost::Hole),
    (Survival::LastTorn, Lost::Zeros),
    (Survival::Some, Lost::Garbage),
    (Survival::Torn, Lost::Hole),
];

/// Something that somebody was told, or that was begun and explains what is found.
#[derive(Debug, Clone)]
pub(super) enum Promise {
    /// A download is remembered.
    Remembered(DownloadId),
    /// These pieces survive a power cut.
    Durable(DownloadId, Vec<PieceIndex>),
    /// The file is in its place.
    Finished(DownloadId),
    /// It is being cancelled from here on.
    Cancelling(DownloadId),
    /// It is forgotten, and its part file gone.
    Cancelled(DownloadId),
}

/// A download of a recorded run.
struct Wanted {
    record: DownloadRecord,
    bytes: Vec<u8>,
    /// What stood at the destination before.
    replaced: Option<Vec<u8>>,
    /// The files that it is, where it is a folder.
    files: Option<Arc<FileTable>>,
}

impl Wanted {
    /// What stands at its destination, as the bytes of a file or of a folder's files; `None` where nothing does. A folder
    /// that is not what it should be is not its files' bytes.
    fn found(&self) -> Option<Vec<u8>> {
        let destination = &self.record.destination;
        let Some(table) = &self.files else { return fs::read(destination).ok() };
        destination.exists().then(|| {
            let read = |file: &FolderFile| fs::read(destination.join(file.path.as_str())).unwrap_or_default();
            table.files().iter().flat_map(read).collect()
        })
    }

    /// What a disk holds under the number of its file or folder: the bytes, and which pieces are written.
    fn on_disk(&self, disk: &Image, number: u64) -> Option<(Vec<u8>, Vec<bool>)> {
        let names = [part_path(&self.record.destination), self.record.destination.clone()];
        let length = self.bytes.len() as u64;
        let Some(table) = &self.files else {
            names.iter().find(|name| disk.number(name) == Some(number))?;
            let bytes = disk.bytes(number).to_vec();
            let end = length.min(bytes.len() as u64);
            let piece = |piece: u64| disk.is_written(number, piece * PIECE as u64..end.min((piece + 1) * PIECE as u64));
            return Some((bytes, (0..length.div_ceil(PIECE as u64)).map(piece).collect()));
        };
        let top = names.iter().find(|name| disk.folder_number(name) == Some(number))?;
        let number_of = |nth: usize| disk.number(&top.join(table.files()[nth].path.as_str()));
        let mut bytes = Vec::new();
        for (nth, file) in table.files().iter().enumerate() {
            let mut of_file = number_of(nth).map_or(Vec::new(), |number| disk.bytes(number).to_vec());
            of_file.resize(file.length as usize, 0);
            bytes.extend(of_file);
        }
        let written = |piece: u64| {
            let mut segments = table.segments(piece * PIECE as u64..length.min((piece + 1) * PIECE as u64));
            segments.all(|segment| {
                // A file of another length is made again.
                let number = number_of(segment.file);
                let number =
                    number.filter(|number| disk.bytes(*number).len() as u64 == table.files()[segment.file].length);
                number.is_some_and(|number| disk.is_written(number, segment.range.clone()))
            })
        };
        Some((bytes, (0..length.div_ceil(PIECE as u64)).map(written).collect()))
    }
}

/// What a run downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Files,
    /// More of them than are kept open until they are synced, and a few.
    Folders,
}

/// A recorded run, and the folder it was recorded in: the journal holds its paths.
struct Run {
    root: TempDir,
    tape: Arc<Tape>,
    wanted: Vec<Wanted>,
    entries: Vec<Recorded>,
}

/// A folder in memory where there is one: thousands of disks are made in it.
fn folder_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary folder")
}

impl Run {
    /// Downloads beside each other: of files, one finishes, one replaces a file, one is cancelled; of two folders one finishes.
    /// Pieces come in any order, syncs while others are written, and the daemon is killed on the way.
    async fn record(seed: u64, what: What) -> Run {
        let mut random = fastrand::Rng::with_seed(seed);
        let root = folder_in_memory();
        let tape = Tape::new(root.path().join("vault"));
        fs::create_dir(root.path().join("files")).expect("a folder");
        let old = content(1000);
        let destination = root.path().join("files").join("b.bin");
        fs::write(&destination, &old).expect("writes");
        tape.found(&destination);
        let world = &mut World::on(Disk { tape: Some(Arc::clone(&tape)) }, root);

        let mut wanted = Vec::new();
        let of_files = [("a.bin", 4, None), ("b.bin", 2, Some(old)), ("c.bin", 2, None)];
        let of_files = of_files.into_iter().filter(|_| what == What::Files);
        for (name, pieces, replaced) in of_files {
            let bytes = content(pieces * PIECE - random.usize(..PIECE / 2));
            let mut record = world.download(&bytes, name).await;
            if replaced.is_some() {
                record.force = true;
                world.store().remember(vec![Change::PutDownload(record.clone())]).await.expect("remembers");
            }
            wanted.push(Wanted { record, bytes, replaced, files: None });
        }
        let many = (0..17).map(|nth| format!("many/{nth}")).map(|path| (path, 5000));
        let large = [("a/b/large".to_owned(), PIECE + 9000), ("empty".to_owned(), 0), ("last".to_owned(), 7000)];
        let few = [("x/one".to_owned(), PIECE / 2), ("y".to_owned(), PIECE)];
        let of_folders = [("album", many.chain(large).collect::<Vec<_>>()), ("short", few.to_vec())];
        for (name, files) in of_folders.into_iter().filter(|_| what == What::Folders) {
            let bytes = content(files.iter().map(|(_, length)| length).sum());
            let manifest = manifest_of_folder(&bytes, &files);
            let record = world.remembered(&manifest, name).await;
            wanted.push(Wanted { record, bytes, replaced: None, files: manifest.files().cloned() });
        }
        for one in &wanted {
            tape.tell(Promise::Remembered(one.record.id));
            world.store().open_part(one.record.clone()).await.expect("opens");
        }
        let cancelled_nth = wanted.len() - 1;
        world.store().inner.syncer.hold();

        let mut left: Vec<(usize, u32)> = Vec::new();
        for (nth, one) in wanted.iter().enumerate() {
            left.extend((0..one.bytes.chunks(PIECE).len() as u32).map(|piece| (nth, piece)));
        }
        random.shuffle(&mut left);
        // The one that is cancelled never has its last piece.
        left.retain(|(nth, piece)| *nth != cancelled_nth || *piece == 0);
        let kill_at = random.usize(1..left.len());
        for (nth, (download, piece)) in left.into_iter().enumerate() {
            let one = &wanted[download];
            if nth == kill_at {
                world.kill_and_restart();
                for one in &wanted {
                    let have = world.store().open_part(one.record.clone()).await.expect("opens").have;
                    tape.tell(Promise::Durable(one.record.id, have.iter().collect()));
                }
                world.store().inner.syncer.hold();
            }
            let mut syncing = None;
            if random.bool() {
                let synced = &wanted[random.usize(..wanted.len())];
                let part = world.store().inner.catalogue().part(synced.record.id).expect("open");
                let pieces: Vec<_> = part.state().written.iter().collect();
                syncing = Some((world.store().inner.syncer.flush(&part), synced.record.id, pieces));
            }
            world.write(&one.record, &one.bytes, [piece]).await;
            if let Some((flushed, id, pieces)) = syncing {
                flushed.await.expect("the store lives").expect("syncs");
                tape.tell(Promise::Durable(id, pieces));
            }
        }
        for one in &wanted[..cancelled_nth] {
            world.store().finish_part(one.record.clone()).await.expect("finishes");
            tape.tell(Promise::Finished(one.record.id));
        }
        let cancelled = &wanted[cancelled_nth].record;
        tape.tell(Promise::Cancelling(cancelled.id));
        world.store().discard_part(cancelled.clone(), false).await.expect("discards");
        world.store().remember(vec![Change::DeleteDownload(cancelled.id)]).await.expect("forgets");
        tape.tell(Promise::Cancelled(cancelled.id));
        world.store().shut_down().await;
        world.store = None;
        let root = std::mem::replace(&mut world.root, folder_in_memory());
        Run { entries: tape.recorded(), root, tape, wanted }
    }

    /// Cuts the power everywhere. How many disks were tried, or the first that broke a promise.
    async fn cut_everywhere(&self, seed: u64) -> Result<usize, String> {
        let mut replay = Replay::default();
        let mut told = Told::default();
        let mut disks = 0;
        for (position, entry) in self.entries.iter().enumerate() {
            replay.advance(entry);
            told.hear(entry);
            let survivals = if replay.pending() == 0 { &SURVIVALS[..1] } else { &SURVIVALS[..] };
            for (nth, (survival, lost)) in survivals.iter().enumerate() {
                let mut random = fastrand::Rng::with_seed(seed << 32 | (position * SURVIVALS.len() + nth) as u64);
                let disk = replay.cut(*survival, *lost, &mut random);
                // Each way of losing things is followed to the end at one cut of several.
                let to_the_end = (position + nth) % SURVIVALS.len() == 0;
                self.check(&disk, &told, to_the_end).await.map_err(|broken| {
                    format!("seed {seed}, cut after entry {position}, {survival:?}, lost pages are {lost:?}: {broken}")
                })?;
                disks += 1;
            }
        }
        Ok(disks)
    }

    /// Opens the store on a disk and holds it to what was told.
    async fn check(&self, disk: &Image, told: &Told, to_the_end: bool) -> Result<(), String> {
        let [files, state] = ["files", "state"].map(|name| self.root.path().join(name));
        self.tape.make(disk, &[&files, &state]);
        let (events, _events) = mpsc::unbounded_channel();
        let keeper = Disk { tape: Some(self.tape.keeper()) };
        let (store, restored) = Store::open_on(keeper, &state, events).map_err(|error| error.to_string())?;
        let held = self.hold_to(&store, &restored, disk, told, to_the_end).await;
        // Nothing may go on writing when the next disk is made.
        let inner = Arc::downgrade(&store.inner);
        drop(store);
        while inner.strong_count() > 0 {
            std::thread::yield_now();
        }
        self.tape.changed(disk, &state);
        if to_the_end {
            self.tape.changed(disk, &files);
        }
        held
    }

    async fn hold_to(
        &self,
        store: &Store,
        restored: &Restored,
        disk: &Image,
        told: &Told,
        to_the_end: bool,
    ) -> Result<(), String> {
        let known: BTreeSet<_> = restored.downloads.iter().map(|record| record.id).collect();
        for one in &self.wanted {
            let id = one.record.id;
            ensure(known.contains(&id) || !told.remembered.contains(&id) || told.cancelling.contains(&id), || {
                format!("{} was remembered and is forgotten", one.record.name)
            })?;
            ensure(!told.cancelled.contains(&id) || !known.contains(&id), || "cancelled and remembered".to_owned())?;
            check_files(one, told)?;
            if known.contains(&id) {
                check_download(store, disk, one, told, to_the_end)
                    .await
                    .map_err(|broken| format!("{}: {broken}", one.record.destination.display()))?;
            }
        }
        Ok(())
    }
}

/// What stands at a destination is whole: what was wanted, or what was there before.
fn check_files(one: &Wanted, told: &Told) -> Result<(), String> {
    let destination = &one.record.destination;
    let found = one.found();
    let (wanted, before) = (found.as_ref() == Some(&one.bytes), found == one.replaced);
    ensure(wanted || before, || {
        format!("{} holds {:?} bytes that nobody wrote there", destination.display(), found.map(|bytes| bytes.len()))
    })?;
    ensure(wanted || !told.finished.contains(&one.record.id), || format!("{} was lost", destination.display()))?;
    let part = part_path(destination);
    ensure(!part.exists() || !told.cancelled.contains(&one.record.id), || format!("{} stays", part.display()))
}

async fn check_download(
    store: &Store,
    disk: &Image,
    one: &Wanted,
    told: &Told,
    to_the_end: bool,
) -> Result<(), String> {
    let id = one.record.id;
    let cancelling = told.cancelling.contains(&id);
    let part = store.inner.journal.part(id).map_err(|error| error.to_string())?;
    let (record, bits) = part.map_or((None, Vec::new()), |(record, bits)| (record.file, bits));
    let count = one.bytes.chunks(PIECE).len() as u32;
    let marked = HaveMap::from_bits(&bits, count).unwrap_or_else(|_| HaveMap::empty(count));
    let number = record.map(|mark| mark.inode);
    let (on_disk, is_written) = number.and_then(|number| one.on_disk(disk, number)).unwrap_or_default();
    let right = |piece: PieceIndex| on_disk.chunks(PIECE).nth(piece.as_usize()) == Some(piece_of(&one.bytes, piece.0));
    if !cancelling {
        let wrong: Vec<_> = marked.iter().filter(|piece| !right(*piece)).collect();
        ensure(wrong.is_empty(), || format!("pieces {wrong:?} are marked and do not verify"))?;
        let lost: Vec<_> = told.durable.iter().filter(|(of, piece)| *of == id && !marked.contains(*piece)).collect();
        ensure(lost.is_empty(), || format!("pieces {lost:?} were told durable and are not marked"))?;
    }
    let opened = store.open_part(one.record.clone()).await.map_err(|reject| format!("cannot be opened: {reject}"))?;
    let part = store.inner.catalogue().part(id);
    if let (Some(part), Some(number), None) = (&part, number, &one.files) {
        let unmarked = |piece: &u32| !marked.contains(PieceIndex(*piece));
        let written = told.written.get(&number).into_iter().flatten().copied().filter(unmarked);
        let window: u64 = written.map(|piece| piece_of(&one.bytes, piece).len() as u64).sum();
        ensure(part.hashed_bytes <= window, || {
            format!("{} bytes were hashed where {window} were written and not marked", part.hashed_bytes)
        })?;
    }
    for nth in 0..count {
        let piece = PieceIndex(nth);
        let mut read = Vec::new();
        let served = store.read_piece(one.record.content, piece, &mut read).await.is_ok();
        ensure(!served || read == piece_of(&one.bytes, nth), || format!("piece {nth} is served and wrong"))?;
        ensure(opened.have.contains(piece) == served, || format!("piece {nth} is had and not served, or not had"))?;
        let whole = right(piece) && is_written.get(nth as usize) == Some(&true);
        ensure(served || cancelling || !whole, || format!("piece {nth} is there and was not found"))?;
    }
    if !to_the_end {
        return Ok(());
    }
    for nth in (0..count).filter(|nth| !opened.have.contains(PieceIndex(*nth))) {
        let wrote = store.write_piece(one.record.content, PieceIndex(nth), piece_of(&one.bytes, nth)).await;
        ensure(wrote == Ok(Verdict::Written), || format!("piece {nth} is not taken: {wrote:?}"))?;
    }
    let finished = store.finish_part(one.record.clone()).await;
    ensure(finished.is_ok(), || format!("cannot be finished: {finished:?}"))?;
    ensure(one.found().is_some_and(|bytes| bytes == one.bytes), || "is finished and wrong".to_owned())
}

/// Everything told up to a cut.
#[derive(Default)]
struct Told {
    remembered: BTreeSet<DownloadId>,
    durable: BTreeSet<(DownloadId, PieceIndex)>,
    finished: BTreeSet<DownloadId>,
    cancelling: BTreeSet<DownloadId>,
    cancelled: BTreeSet<DownloadId>,
    /// Pieces that were written to each file, as far as it is known.
    written: BTreeMap<u64, BTreeSet<u32>>,
}

impl Told {
    fn hear(&mut self, entry: &Recorded) {
        match entry {
            Recorded::Told(Promise::Remembered(id)) => drop(self.remembered.insert(*id)),
            Recorded::Told(Promise::Durable(id, pieces)) => {
                self.durable.extend(pieces.iter().map(|piece| (*id, *piece)))
            }
            Recorded::Told(Promise::Finished(id)) => drop(self.finished.insert(*id)),
            Recorded::Told(Promise::Cancelling(id)) => drop(self.cancelling.insert(*id)),
            Recorded::Told(Promise::Cancelled(id)) => drop(self.cancelled.insert(*id)),
            Recorded::Write { file, offset, .. } => {
                self.written.entry(*file).or_default().insert((*offset / PIECE as u64) as u32);
            }
            _ => (),
        }
    }
}

fn part_path(destination: &Path) -> PathBuf {
    destination.with_file_name(folder::part_name(destination.file_name().expect("a file")))
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

#[tokio::test]
async fn whatever_is_marked_verifies_wherever_the_power_is_cut() {
    cut_runs(What::Files).await;
}

#[tokio::test]
async fn nor_is_a_folder_ever_half_of_one() {
    cut_runs(What::Folders).await;
}

async fn cut_runs(what: What) {
    let seeds = std::env::var("P2P_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let run = Run::record(seed, what).await;
        match run.cut_everywhere(seed).await {
            Ok(disks) => println!("seed {seed}: {} entries, {disks} disks", run.entries.len()),
            Err(broken) => panic!("{broken}"),
        }
    }
}

/// The test must be able to fail: the same run as it would be recorded from a store with a fault.
#[tokio::test]
async fn a_store_that_does_things_in_another_order_is_caught() {
    let run = &mut Run::record(0, What::Files).await;
    let entries = std::mem::take(&mut run.entries);
    let parts: BTreeSet<u64> = entries
        .iter()
        .filter_map(|entry| match entry {
            Recorded::Create { path, file } if path.extension().is_some_and(|end| end == "part") => Some(*file),
            _ => None,
        })
        .collect();
    let of_part = |entry: &Recorded| matches!(entry, Recorded::SyncData { file } if parts.contains(file));
    let is_folder = |entry: &Recorded| matches!(entry, Recorded::SyncFolder { path } if path.ends_with("files"));
    let is_told = |entry: &Recorded| matches!(entry, Recorded::Told(Promise::Durable(..) | Promise::Finished(_)));
    let is_rename = |entry: &Recorded| matches!(entry, Recorded::Rename { to, .. } if to.ends_with("a.bin"));
    // A fault, the entries that are too late by how many, and what it is caught as.
    type Is<'a> = &'a dyn Fn(&Recorded) -> bool;
    let faults: [(&str, Is, isize, &str); 5] = [
        ("marks before the data is synced", &of_part, 12, "marked and do not verify"),
        ("never syncs the data", &of_part, isize::MAX, "marked and do not verify"),
        ("tells before the marks are synced", &is_told, -8, "told durable and are not marked"),
        ("never syncs the folder", &is_folder, isize::MAX, "marked and do not verify"),
        ("renames before all is synced", &is_rename, -40, "that nobody wrote there"),
    ];
    for (fault, is_moved, by, caught) in faults {
        run.entries = moved(&entries, is_moved, by);
        let broken = run.cut_everywhere(0).await.expect_err(fault);
        assert!(broken.contains(caught), "{fault}: {broken}");
        println!("{fault}: {broken}");
    }
}

/// The same for folders, whose files are synced together.
#[tokio::test]
async fn a_store_that_syncs_folders_in_another_order_is_caught() {
    let run = &mut Run::record(0, What::Folders).await;
    let entries = std::mem::take(&mut run.entries);
    let is_beneath = |entry: &Recorded| matches!(entry, Recorded::SyncBeneath { .. });
    let is_rename = |entry: &Recorded| matches!(entry, Recorded::Rename { to, .. } if to.ends_with("album"));
    type Is<'a> = &'a dyn Fn(&Recorded) -> bool;
    let faults: [(&str, Is, isize, &str); 2] = [
        ("never syncs the files", &is_beneath, isize::MAX, "marked and do not verify"),
        ("renames before all is synced", &is_rename, -40, "that nobody wrote there"),
    ];
    for (fault, is_moved, by, caught) in faults {
        run.entries = moved(&entries, is_moved, by);
        let broken = run.cut_everywhere(0).await.expect_err(fault);
        assert!(broken.contains(caught), "{fault}: {broken}");
        println!("{fault}: {broken}");
    }
}

/// The entries with some of them later (or earlier) by so many places; gone where that is further than any.
fn moved(entries: &[Recorded], is_moved: &dyn Fn(&Recorded) -> bool, by: isize) -> Vec<Recorded> {
    let mut placed: Vec<(isize, &Recorded)> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        match is_moved(entry) {
            true if by == isize::MAX => (),
            true => placed.push((place as isize + by, entry)),
            false => placed.push((place as isize, entry)),
        }
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, entry)| entry.clone()).collect()
}
