//! A tape of every change made to a disk, in order, and the disks that a power cut after any of them may leave.
//!
//! What a sync has returned for is on the disk. Of what was not synced, a page (a sector, where the write was small) is
//! there or not, whatever became of the others; names made, changed and removed in a folder are there up to any one of
//! them, in order, as every journalling file system keeps them. A name and the bytes of its file know nothing of each other.
//!
//! A file is found again by its number and its time of birth, which nobody can give to a new file. So each recorded file
//! has a second name in a vault beside the world, and a disk is made by giving it its old names and other bytes. A folder,
//! which can have one name only, is moved into the vault and out of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::super::disk::Change;

/// The unit in which a long write is lost, and in which a file tells its holes.
const PAGE: usize = 4096;
/// The unit in which a short write is lost.
const SECTOR: usize = 512;
/// A write of fewer bytes is short: the journal's, never a piece.
const SHORT_WRITE: usize = 64 * 1024;

/// The tape.
#[derive(Debug)]
pub(in super::super) struct Tape {
    vault: PathBuf,
    recorded: Mutex<Vec<Recorded>>,
    /// What the files in the vault hold, where that is known: most disks differ in few of them.
    made: Mutex<BTreeMap<u64, Content>>,
    /// Nothing is recorded; folders that are removed are kept.
    keeps_only: bool,
}

/// One entry.
#[derive(Debug, Clone)]
pub(super) enum Recorded {
    /// It was there before, whole and synced.
    Found {
        path: PathBuf,
        file: u64,
        bytes: Arc<[u8]>,
    },
    Create {
        path: PathBuf,
        file: u64,
    },
    SetLength {
        file: u64,
        length: u64,
    },
    Write {
        file: u64,
        bytes: Arc<[u8]>,
        offset: u64,
    },
    SyncData {
        file: u64,
    },
    SyncAll {
        file: u64,
        modified: SystemTime,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncFolder {
        path: PathBuf,
    },
    CreateFolder {
        path: PathBuf,
        folder: u64,
    },
    RemoveFolder {
        path: PathBuf,
    },
    SyncBeneath {
        path: PathBuf,
        modified: Vec<(u64, SystemTime)>,
    },
    /// Somebody was told this, which no power cut may belie.
    Told(super::crash_disk::Promise),
}

impl Tape {
    /// An empty tape for a world on the same disk as the folder `vault`.
    pub(super) fn new(vault: PathBuf) -> Arc<Tape> {
        fs::create_dir(&vault).expect("a folder");
        Arc::new(Tape { vault, recorded: Mutex::default(), made: Mutex::default(), keeps_only: false })
    }

    /// A tape for who opens the disks that this one makes: it records nothing, and folders removed are there for the next.
    pub(super) fn keeper(&self) -> Arc<Tape> {
        let vault = self.vault.clone();
        Arc::new(Tape { vault, recorded: Mutex::default(), made: Mutex::default(), keeps_only: true })
    }

    /// Makes a change and records it, with no other change in between. One that fails changed nothing.
    pub(in super::super) fn record<T>(
        &self,
        change: Change<'_>,
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut recorded = self.recorded.lock().expect("no panic");
        if let Change::RemoveFolder { folder, name } = change {
            // One of its number and birth is needed again. It is moved out as another is made for `make` to remove.
            let path = path_of(folder).join(name);
            if fs::read_dir(&path)?.next().is_none() {
                fs::rename(&path, self.vault.join(format!("{}", fs::metadata(&path)?.ino())))?;
                fs::create_dir(&path)?;
            }
        }
        let made = make()?;
        if self.keeps_only {
            return Ok(made);
        }
        recorded.push(match change {
            Change::Create { folder, name } => {
                let path = path_of(folder).join(name);
                Recorded::Create { file: self.keep(&path), path }
            }
            Change::SetLength { file, length } => Recorded::SetLength { file: number_of(file), length },
            Change::Write { file, bytes, offset } => {
                Recorded::Write { file: number_of(file), bytes: bytes.into(), offset }
            }
            Change::SyncData { file } => Recorded::SyncData { file: number_of(file) },
            Change::SyncAll { file } => {
                let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
                Recorded::SyncAll { file: number_of(file), modified }
            }
            Change::Rename { folder, from, to } => {
                Recorded::Rename { from: path_of(folder).join(from), to: path_of(folder).join(to) }
            }
            Change::Remove { folder, name } => Recorded::Remove { path: path_of(folder).join(name) },
            Change::CreateFolder { folder, name } => {
                let path = path_of(folder).join(name);
                Recorded::CreateFolder { folder: fs::metadata(&path)?.ino(), path }
            }
            Change::RemoveFolder { folder, name } => Recorded::RemoveFolder { path: path_of(folder).join(name) },
            Change::SyncBeneath { folder } => {
                let (path, mut modified) = (path_of(folder), Vec::new());
                times_beneath(&path, &mut modified)?;
                Recorded::SyncBeneath { path, modified }
            }
            Change::SyncFolder { folder } => Recorded::SyncFolder { path: path_of(folder) },
        });
        Ok(made)
    }

    /// Records what somebody is told just now.
    pub(super) fn tell(&self, promise: super::crash_disk::Promise) {
        self.recorded.lock().expect("no panic").push(Recorded::Told(promise));
    }

    /// Records a file that was there before.
    pub(super) fn found(&self, path: &Path) {
        let (file, bytes) = (self.keep(path), fs::read(path).expect("reads").into());
        self.recorded.lock().expect("no panic").push(Recorded::Found { path: path.to_owned(), file, bytes });
    }

    /// What was recorded so far.
    pub(super) fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().expect("no panic").clone()
    }

    /// Gives a file its second name; its number.
    fn keep(&self, path: &Path) -> u64 {
        let file = fs::metadata(path).expect("it was just made").ino();
        fs::hard_link(path, self.vault.join(file.to_string())).expect("the vault is on the same disk");
        file
    }

    /// Makes the files in `folders` those of a disk.
    pub(super) fn make(&self, disk: &Image, folders: &[&Path]) {
        for folder in folders {
            fs::create_dir_all(folder).expect("a folder");
            self.clear(folder);
        }
        // In the order of their paths: a folder comes before what lies in it.
        for (path, folder) in &disk.folders {
            fs::rename(self.vault.join(folder.to_string()), path).expect("moves");
        }
        // A file in a folder whose name did not last is gone with it.
        let lasting = |path: &Path| path.parent().is_some_and(Path::is_dir);
        for (path, file) in disk.names.iter().filter(|(path, _)| lasting(path)) {
            let kept = self.vault.join(file.to_string());
            let content = &disk.files[file];
            let mut made = self.made.lock().expect("no panic");
            if !made.get(file).is_some_and(|made| made.is(content)) {
                content.make(&kept).expect("writes");
                made.insert(*file, content.clone());
            }
            fs::hard_link(kept, path).expect("a name");
        }
    }

    /// Takes everything out of a folder; folders that were recorded go to the vault.
    fn clear(&self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("reads").path();
            let metadata = fs::symlink_metadata(&path).expect("looks");
            if !metadata.is_dir() {
                fs::remove_file(path).expect("removes");
                continue;
            }
            self.clear(&path);
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("sets");
            fs::rename(&path, self.vault.join(metadata.ino().to_string())).expect("moves");
        }
    }

    /// The files that [`Tape::make`] made were written to since.
    pub(super) fn changed(&self, disk: &Image, folder: &Path) {
        let mut made = self.made.lock().expect("no panic");
        disk.names.iter().filter(|(path, _)| path.starts_with(folder)).for_each(|(_, file)| drop(made.remove(file)));
    }
}

/// The numbers of all files beneath a folder, and when they were last written to.
fn times_beneath(folder: &Path, times: &mut Vec<(u64, SystemTime)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => times_beneath(&entry.path(), times)?,
            false => times.push((entry.ino(), entry.metadata()?.modified()?)),
        }
    }
    Ok(())
}

fn number_of(file: &File) -> u64 {
    file.metadata().expect("open").ino()
}

fn path_of(folder: &File) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).expect("an open folder has a path")
}

/// What a disk holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    names: BTreeMap<PathBuf, u64>,
    folders: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Content>,
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Arc<Vec<u8>>,
    /// Which pages hold data; the others are holes.
    pages: Arc<Vec<bool>>,
    modified: Option<SystemTime>,
}

/// What becomes of a page that never reached the disk, where nothing was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It stays a hole.
    Hole,
    /// It reads as zeros, and as data.
    Zeros,
    /// It holds what somebody else had there.
    Garbage,
}

/// What of the changes that were not synced reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    /// All: the process was killed, and the system lives.
    All,
    /// None.
    Nothing,
    /// Of the last one some pages, of the others all.
    LastTorn,
    /// Whole changes, or none of them.
    Some,
    /// Single pages, out of order.
    Torn,
}

impl Image {
    /// The names, with the numbers of their files.
    pub(super) fn number(&self, path: &Path) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// The number of a folder.
    pub(super) fn folder_number(&self, path: &Path) -> Option<u64> {
        self.folders.get(path).copied()
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, file: u64) -> &[u8] {
        self.files.get(&file).map_or(&[], |content| &content.bytes)
    }

    /// Whether all of a range of a file is data.
    pub(super) fn is_written(&self, file: u64, range: std::ops::Range<u64>) -> bool {
        let pages = range.start as usize / PAGE..(range.end as usize).div_ceil(PAGE);
        self.files
            .get(&file)
            .and_then(|content| content.pages.get(pages))
            .is_some_and(|pages| pages.iter().all(|page| *page))
    }

    /// Makes a change, of whose bytes only those in units that `keeps` accepts.
    fn apply(
        &mut self,
        change: &Recorded,
        lost: Lost,
        random: &mut fastrand::Rng,
        keeps: &mut dyn FnMut(&mut fastrand::Rng) -> bool,
    ) {
        match change {
            Recorded::Found { path, file, bytes } => {
                self.names.insert(path.clone(), *file);
                self.files.entry(*file).or_default().write(bytes, 0);
            }
            Recorded::Create { path, file } => {
                self.names.insert(path.clone(), *file);
                self.files.entry(*file).or_default();
            }
            Recorded::Rename { from, to } => {
                rename_beneath(&mut self.names, from, to);
                rename_beneath(&mut self.folders, from, to);
            }
            Recorded::CreateFolder { path, folder } => drop(self.folders.insert(path.clone(), *folder)),
            // Only what is empty goes: what lay in it was gone before.
            Recorded::RemoveFolder { path } => {
                self.folders.retain(|name, _| !name.starts_with(path));
                self.names.retain(|name, _| !name.starts_with(path));
            }
            Recorded::Remove { path } => drop(self.names.remove(path)),
            Recorded::SetLength { file, length } => self.files.entry(*file).or_default().set_length(*length as usize),
            Recorded::Write { file, bytes, offset } => {
                let content = self.files.entry(*file).or_default();
                let unit = if bytes.len() < SHORT_WRITE { SECTOR } else { PAGE };
                let mut start = *offset as usize;
                for part in bytes.chunks(unit) {
                    match keeps(random) {
                        true => content.write(part, start),
                        false => content.lose(part.len(), start, lost, random),
                    }
                    start += part.len();
                }
            }
            Recorded::SyncAll { file, modified } => self.files.entry(*file).or_default().modified = Some(*modified),
            Recorded::SyncBeneath { modified, .. } => {
                for (file, modified) in modified {
                    self.files.entry(*file).or_default().modified = Some(*modified);
                }
            }
            Recorded::SyncData { .. } | Recorded::SyncFolder { .. } | Recorded::Told(_) => (),
        }
    }
}

impl Content {
    /// Whether it is the very same.
    fn is(&self, other: &Content) -> bool {
        let same = Arc::ptr_eq(&self.bytes, &other.bytes) && Arc::ptr_eq(&self.pages, &other.pages);
        same && self.modified == other.modified
    }

    fn set_length(&mut self, length: usize) {
        Arc::make_mut(&mut self.bytes).resize(length, 0);
        Arc::make_mut(&mut self.pages).resize(length.div_ceil(PAGE), false);
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        self.set_length(self.bytes.len().max(end));
        Arc::make_mut(&mut self.bytes)[offset..end].copy_from_slice(bytes);
        Arc::make_mut(&mut self.pages)[offset / PAGE..end.div_ceil(PAGE)].fill(true);
    }

    /// What was there before stays; where nothing was, the disk shows whatever it likes.
    fn lose(&mut self, length: usize, offset: usize, lost: Lost, random: &mut fastrand::Rng) {
        let fresh = self.pages.get(offset / PAGE).is_some_and(|written| !written);
        if lost == Lost::Hole || !fresh || length < SECTOR {
            return;
        }
        let mut bytes = vec![0; length];
        if lost == Lost::Garbage {
            random.fill(&mut bytes);
        }
        self.write(&bytes, offset);
    }

    /// Puts it into a file: space set aside, and data only where there is data.
    fn make(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(0)?;
        if !self.bytes.is_empty() {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes.len() as u64)?;
        }
        for run in self.pages.iter().copied().enumerate().collect::<Vec<_>>().chunk_by(|one, other| one.1 == other.1) {
            let (first, is_data) = run[0];
            if is_data {
                let end = ((first + run.len()) * PAGE).min(self.bytes.len());
                file.write_all_at(&self.bytes[first * PAGE..end], (first * PAGE) as u64)?;
            }
        }
        self.modified.map_or(Ok(()), |modified| file.set_modified(modified))
    }
}

/// A tape being replayed.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// What no power cut takes away.
    synced: Image,
    /// What it may, in order.
    pending: Vec<Recorded>,
}

impl Replay {
    /// Goes on by one entry.
    pub(super) fn advance(&mut self, entry: &Recorded) {
        let is_synced: &dyn Fn(&Recorded) -> bool = match entry {
            Recorded::Told(_) => return,
            Recorded::Found { .. } => &|_| false,
            Recorded::SyncData { file } | Recorded::SyncAll { file, .. } => &|change| is_of_file(change, *file),
            Recorded::SyncFolder { path } => &|change| is_in_folder(change, path),
            Recorded::SyncBeneath { path, .. } => {
                let beneath = self.files_beneath(path);
                &move |change| {
                    name_of(change).is_some_and(|name| name.starts_with(path) && name != path)
                        || beneath.iter().any(|file| is_of_file(change, *file))
                }
            }
            change => return self.pending.push(change.clone()),
        };
        let (now_synced, pending): (Vec<_>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| is_synced(change));
        self.pending = pending;
        for change in now_synced.iter().chain([entry]) {
            self.synced.apply(change, Lost::Hole, &mut fastrand::Rng::with_seed(0), &mut |_| true);
        }
    }

    /// Every file that has ever had a name beneath a folder.
    fn files_beneath(&self, path: &Path) -> Vec<u64> {
        let created = self.pending.iter().filter_map(|change| match change {
            Recorded::Create { path: name, file } if name.starts_with(path) => Some(*file),
            _ => None,
        });
        let named = self.synced.names.iter().filter(|(name, _)| name.starts_with(path)).map(|(_, file)| *file);
        created.chain(named).collect()
    }

    /// Changes that a power cut may take away.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The disk that a power cut now leaves.
    pub(super) fn cut(&self, survival: Survival, lost: Lost, random: &mut fastrand::Rng) -> Image {
        let mut image = self.synced.clone();
        // A number of names, counted over all folders: those of one folder are then kept up to some one of them.
        let names = self.pending.iter().filter(|change| is_name(change)).count();
        let names_kept = match survival {
            Survival::All => names,
            Survival::LastTorn => names - usize::from(self.pending.last().is_some_and(is_name) && random.bool()),
            Survival::Nothing => 0,
            Survival::Some | Survival::Torn => random.usize(..=names),
        };
        let share = [0.1, 0.5, 0.9][random.usize(..3)];
        let mut names_seen = 0;
        for (nth, change) in self.pending.iter().enumerate() {
            let is_last = nth + 1 == self.pending.len();
            if is_name(change) {
                names_seen += 1;
                if names_seen <= names_kept {
                    image.apply(change, lost, random, &mut |_| true);
                } else if let Recorded::Create { file, .. } = change {
                    image.files.entry(*file).or_default();
                }
                continue;
            }
            let whole = match survival {
                Survival::All => Some(true),
                Survival::Nothing => Some(false),
                Survival::LastTorn => (!is_last).then_some(true),
                Survival::Some => Some(random.f64() < share),
                Survival::Torn => None,
            };
            match (whole, change) {
                (Some(false), Recorded::SetLength { .. }) => (),
                (None, Recorded::SetLength { .. }) if random.bool() => (),
                (Some(whole), _) => image.apply(change, lost, random, &mut |_| whole),
                (None, _) => image.apply(change, lost, random, &mut |random| random.f64() < share),
            }
        }
        image
    }
}

fn is_name(change: &Recorded) -> bool {
    name_of(change).is_some()
}

/// The name that a change makes or takes away, where it does.
fn name_of(change: &Recorded) -> Option<&Path> {
    match change {
        Recorded::Create { path, .. }
        | Recorded::Remove { path }
        | Recorded::Rename { to: path, .. }
        | Recorded::CreateFolder { path, .. }
        | Recorded::RemoveFolder { path } => Some(path),
        _ => None,
    }
}

/// Gives a name, and those of all that lies beneath it, another beginning.
fn rename_beneath(names: &mut BTreeMap<PathBuf, u64>, from: &Path, to: &Path) {
    let moved: Vec<_> = names.keys().filter(|name| name.starts_with(from)).cloned().collect();
    for name in moved {
        if let (Some(number), Ok(within)) = (names.remove(&name), name.strip_prefix(from)) {
            // Joined with nothing, a path would end with a separator.
            let renamed = if within.as_os_str().is_empty() { to.to_owned() } else { to.join(within) };
            names.insert(renamed, number);
        }
    }
}

fn is_of_file(change: &Recorded, number: u64) -> bool {
    matches!(change, Recorded::SetLength { file, .. } | Recorded::Write { file, .. } if *file == number)
}

fn is_in_folder(change: &Recorded, folder: &Path) -> bool {
    name_of(change).is_some_and(|name| name.parent() == Some(folder))
}
