//! Watched folders: what appears in one is uploaded to its group once nobody writes to it any more.
//!
//! Folders are looked at again and again rather than listened to: what has the same length and time at two looks is taken to
//! be complete, on every file system, and nothing that happened while the daemon was away is missed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use p2p_proto::control::{Answer, LocalPath, Request, Share};
use p2p_proto::limit::FOLDER_FILES_MAX;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::{FileName, GroupName};
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::time::Instant;

/// Between two looks at a folder: what is written without a pause for that long is not complete.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What could not be uploaded is tried again after so long, or when it has changed.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What is shared is asked so often: something that changed while the daemon was away is seen by who reads it.
const SHARES_INTERVAL: Duration = Duration::from_secs(15);

/// Files and folders in one watched folder: each is looked at every time.
const ENTRIES_MAX: usize = 10_000;

/// A watched folder, as it stands in the settings: `GROUP:FOLDER`. No group's name has a `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Where what appears is uploaded to.
    pub group: GroupName,
    /// The folder, by its whole path.
    pub folder: PathBuf,
}

impl FromStr for Watch {
    type Err = String;

    fn from_str(text: &str) -> Result<Watch, String> {
        let (group, folder) = text.split_once(':').ok_or_else(|| format!("`{text}` is not GROUP:FOLDER"))?;
        let group = group.parse().map_err(|error| format!("`{group}` does not do for a group: {error}"))?;
        let folder = PathBuf::from(folder);
        if !folder.is_absolute() {
            return Err(format!("`{}` is not the whole path of a folder", folder.display()));
        }
        Ok(Watch { group, folder })
    }
}

/// How a file looks, or all files of a folder together: a number that is another one when anything about them is.
type Print = u64;

/// What is known of a file or folder in a watched folder.
#[derive(Debug, Default)]
struct Entry {
    /// How it looked the last time.
    print: Print,
    /// How it looked when it was uploaded.
    uploaded: Option<Print>,
    /// The daemon has found that it is not what was shared.
    changed: bool,
    /// How it looked when that failed, since when, and why.
    failed: Option<(Print, Instant, Reject)>,
}

/// What this user shares with the group of a watched folder, as it was a moment ago.
struct Shared {
    asked: Instant,
    /// The files and folders, and whether they are what was shared.
    whole: HashMap<PathBuf, bool>,
}

/// Watches one folder until the daemon ends. `ask` has the daemon do what a command asks for; `tell` is told what is wrong,
/// or that nothing is any more.
pub async fn run<A: Future<Output = Result<Answer, Reject>>, T: Future<Output = ()>>(
    watch: Watch,
    ask: impl Fn(Request) -> A,
    tell: impl Fn(Option<String>) -> T,
) {
    let mut entries: BTreeMap<PathBuf, Entry> = BTreeMap::new();
    let mut shared = None;
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let problem = match look_once(&watch, &ask, &mut entries, &mut shared).await {
            Ok(()) => {
                let failed = entries.iter().find_map(|(path, entry)| Some((path, &entry.failed.as_ref()?.2)));
                failed.map(|(path, reason)| format!("{} is not uploaded: {reason}", path.display()))
            }
            Err(reason) => Some(reason.to_string()),
        };
        let problem = problem.map(|problem| format!("watched folder {}: {problem}", watch.folder.display()));
        if problem != told {
            tell(problem.clone()).await;
            told = problem;
        }
    }
}

async fn look_once<A: Future<Output = Result<Answer, Reject>>>(
    watch: &Watch,
    ask: &impl Fn(Request) -> A,
    entries: &mut BTreeMap<PathBuf, Entry>,
    shared: &mut Option<Shared>,
) -> Result<(), Reject> {
    let folder = watch.folder.clone();
    let looked = tokio::task::spawn_blocking(move || look(&folder)).await;
    let found = looked
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| Reject::new(ErrorCode::FILE_UNREADABLE, format!("it cannot be read: {error}")))?;
    if shared.as_ref().is_none_or(|shared| shared.asked.elapsed() >= SHARES_INTERVAL) {
        let Answer::Shares(shares) = ask(Request::ListShares).await? else { return Ok(()) };
        let of_group = shares.shares.into_iter().filter(|share| share.group == watch.group);
        let is_changed = |share: &Share| !share.seeding && !share.until_requested;
        let whole = of_group.map(|share| (share.path.0.clone(), !is_changed(&share))).collect();
        *shared = Some(Shared { asked: Instant::now(), whole });
    }
    entries.retain(|path, _| found.contains_key(path));
    for (path, print) in found {
        let is_new = !entries.contains_key(&path);
        let entry = entries.entry(path.clone()).or_default();
        let settled = !is_new && entry.print == print;
        entry.print = print;
        if is_new && let Some(whole) = shared.as_ref().and_then(|shared| shared.whole.get(&path)) {
            // Of an earlier run. The daemon looks itself whether it is still what was shared.
            (entry.uploaded, entry.changed) = (Some(print), !whole);
        }
        let waits = |failed: &(Print, Instant, Reject)| failed.0 == print && failed.1.elapsed() < RETRY_INTERVAL;
        let is_done = entry.uploaded == Some(print) && !entry.changed;
        if !settled || is_done || entry.failed.as_ref().is_some_and(waits) {
            continue;
        }
        match upload(watch, &path, entry.uploaded.is_some(), ask).await {
            Ok(()) => (entry.uploaded, entry.failed, entry.changed) = (Some(print), None, false),
            Err(reason) => entry.failed = Some((print, Instant::now(), reason)),
        }
    }
    Ok(())
}

/// Uploads a file or folder; what was uploaded from there before is replaced.
async fn upload<A: Future<Output = Result<Answer, Reject>>>(
    watch: &Watch,
    path: &Path,
    force: bool,
    ask: &impl Fn(Request) -> A,
) -> Result<(), Reject> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        let message = "it is a symbolic link, which whoever may write in the folder could have made";
        return Err(Reject::new(ErrorCode::NOT_A_FILE, message).hint("put the file itself there"));
    }
    let name = path.file_name().unwrap_or_default();
    let not_text = || Reject::new(ErrorCode::BAD_NAME, "its name is not UTF-8 text");
    let name = name.to_str().ok_or_else(not_text)?.parse::<FileName>()?;
    let request = Request::UploadFile {
        path: LocalPath(path.to_owned()),
        group: watch.group.clone(),
        name,
        hash: HashAlgorithm::Blake3,
        whole_digest: false,
        force,
        wait_copies: 0,
        follow_links: false,
    };
    match ask(request).await {
        // The daemon keeps it, and publishes it when trackers can.
        Err(reject) if matches!(reject.code, ErrorCode::NO_TRACKER | ErrorCode::NO_MAJORITY) => Ok(()),
        uploaded => uploaded.map(drop),
    }
}

/// What lies in a folder, and how it looks. Names that begin with a dot or end with `.part` are of what is being made.
fn look(folder: &Path) -> io::Result<BTreeMap<PathBuf, Print>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") || name.ends_with(b".part") {
            continue;
        }
        if found.len() >= ENTRIES_MAX {
            return Err(io::Error::other(format!("it holds more than {ENTRIES_MAX} files and folders")));
        }
        let mut hasher = DefaultHasher::new();
        let mut looks_left = FOLDER_FILES_MAX;
        // What goes while it is looked at is looked at the next time.
        if print(&entry.path(), &mut hasher, &mut looks_left).is_ok() {
            found.insert(entry.path(), hasher.finish());
        }
    }
    Ok(found)
}

/// Adds how a file looks, and all beneath a folder; of more than can be shared, the first.
fn print(path: &Path, hasher: &mut DefaultHasher, looks_left: &mut usize) -> io::Result<()> {
    if *looks_left == 0 {
        return Ok(());
    }
    *looks_left -= 1;
    let metadata = fs::symlink_metadata(path)?;
    (path, metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()).hash(hasher);
    if metadata.is_dir() {
        let mut inside = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        inside.sort();
        inside.iter().try_for_each(|path| print(path, hasher, looks_left))?;
    }
    Ok(())
}
