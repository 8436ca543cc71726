//! Tests of the store on real files. The world they share: a state folder, a folder of files, a store that can be killed.

mod crash_disk;
mod folders;
mod full_disk;
mod journal;
mod mtorrents;
mod parts;
mod recovery;
mod sources;
pub(super) mod tape;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use p2p_proto::folder::{FileTable, FolderFile};
use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::manifest::{HashAlgorithm, Manifest};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::engine::record::{DownloadPhase, ShareRecord};

/// Folders are shared, without links.
const FOLDERS: Folders = Folders::Taken { follow_links: false };

const PIECE: usize = PIECE_BYTES_MIN as usize;

struct World {
    root: TempDir,
    store: Option<Store>,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    restored: Restored,
    disk: Disk,
}

impl World {
    fn new() -> World {
        World::on(Disk::default(), TempDir::new().expect("a temporary folder"))
    }

    /// On a disk of its own.
    fn on(disk: Disk, root: TempDir) -> World {
        fs::create_dir_all(root.path().join("files")).expect("a folder");
        let (store, events, restored) = open_on(&disk, &root.path().join("state"));
        World { root, store: Some(store), events, restored, disk }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    /// A file's path in the folder of files; symbolic links above it resolved.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().expect("exists").join("files").join(name)
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("writes");
        path
    }

    /// Ends the process without a word, but for the disk's own memory, and starts it again.
    fn kill_and_restart(&mut self) {
        self.store = None;
        self.restart();
    }

    fn restart(&mut self) {
        let (store, events, restored) = open_on(&self.disk, &self.state());
        (self.store, self.events, self.restored) = (Some(store), events, restored);
    }

    /// Keeps the manifest of `content` and remembers a download of it to `name`.
    async fn download(&self, content: &[u8], name: &str) -> DownloadRecord {
        self.remembered(&manifest_of(content, None), name).await
    }

    async fn remembered(&self, manifest: &Manifest, name: &str) -> DownloadRecord {
        self.store().keep_manifest(manifest.content_id(), manifest.encode()).await.expect("keeps");
        let record = record_of(manifest, self.path(name));
        self.store().remember(vec![Change::PutDownload(record.clone())]).await.expect("remembers");
        record
    }

    async fn write(&self, record: &DownloadRecord, content: &[u8], pieces: impl IntoIterator<Item = u32>) {
        for piece in pieces {
            let bytes = piece_of(content, piece);
            let verdict = self.store().write_piece(record.content, PieceIndex(piece), bytes).await;
            assert_eq!(verdict, Ok(Verdict::Written), "piece {piece}");
        }
    }

    /// A whole download.
    async fn fetch(&self, content: &[u8], name: &str) -> DownloadRecord {
        let record = self.download(content, name).await;
        let have = self.store().open_part(record.clone()).await.expect("opens").have;
        assert_eq!(have.len(), 0);
        self.write(&record, content, 0..have.piece_count()).await;
        self.store().finish_part(record.clone()).await.expect("finishes");
        record
    }

    /// Waits until as many pieces were told durable.
    async fn durable(&mut self, count: usize) {
        let mut told = 0;
        while told < count {
            match self.events.recv().await.expect("the store lives") {
                StoreEvent::PiecesDurable(_, pieces) => told += pieces.len(),
                event => panic!("{event:?}"),
            }
        }
    }

    async fn read(&self, content: ContentId, piece: u32) -> Result<Vec<u8>, Reject> {
        let mut buffer = Vec::new();
        let result = self.store().read_piece(content, PieceIndex(piece), &mut buffer).await;
        assert!(result.is_ok() || buffer.is_empty(), "an error brings no bytes");
        result.map(|()| buffer)
    }

    async fn share(&self, path: &Path, name: &str) -> (ShareRecord, ContentId) {
        let imported = self.store().import(path.to_owned(), HashAlgorithm::Blake3, false, FOLDERS, |_, _| {}).await;
        let imported = imported.expect("imports");
        let share = ShareRecord {
            user: "alice".parse().expect("a name"),
            group: "photos".parse().expect("a name"),
            name: name.parse().expect("a name"),
            content: imported.content,
            shape: imported.shape,
            path: path.to_owned(),
            stamp: imported.stamp,
            added: UnixMillis(1),
            resting: false,
            born: Some(UnixMillis(1)),
        };
        self.store().remember(vec![Change::PutShare(share.clone())]).await.expect("remembers");
        (share, imported.content)
    }
}

fn open(state: &Path) -> (Store, mpsc::UnboundedReceiver<StoreEvent>, Restored) {
    open_on(&Disk::default(), state)
}

fn open_on(disk: &Disk, state: &Path) -> (Store, mpsc::UnboundedReceiver<StoreEvent>, Restored) {
    loop {
        let (told, events) = mpsc::unbounded_channel();
        match Store::open_on(disk.clone(), state, told) {
            Ok((store, restored)) => return (store, events, restored),
            // A killed process is gone at once; here, a thread that has just answered may hold the journal a moment longer.
            Err(StoreError::InUse { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes that differ from piece to piece.
fn content(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn piece_of(content: &[u8], piece: u32) -> &[u8] {
    content.chunks(PIECE).nth(piece as usize).expect("a piece")
}

fn manifest_of(content: &[u8], whole_sha256: Option<[u8; 32]>) -> Manifest {
    let hash = HashAlgorithm::Blake3;
    let geometry = Manifest::geometry_for(content.len() as u64, hash).expect("divides");
    let mut digests = Vec::new();
    content.chunks(PIECE).for_each(|piece| hash.digest_into(piece, &mut digests).expect("no attack"));
    Manifest::new(geometry, hash, digests, whole_sha256).expect("fits")
}

/// The manifest of a folder with these files, in the order of their paths, one behind the other.
fn manifest_of_folder(content: &[u8], files: &[(String, usize)]) -> Manifest {
    let hash = HashAlgorithm::Blake3;
    let file = |(path, length): &(String, usize)| FolderFile {
        path: path.parse().expect("an allowed path"),
        length: *length as u64,
        executable: false,
    };
    let table = FileTable::new(files.iter().map(file).collect()).expect("allowed");
    let geometry = Manifest::geometry_of(&table, hash).expect("divides");
    let mut digests = Vec::new();
    content.chunks(PIECE).for_each(|piece| hash.digest_into(piece, &mut digests).expect("no attack"));
    Manifest::of_folder(geometry, hash, digests, table).expect("fits")
}

fn record_of(manifest: &Manifest, destination: PathBuf) -> DownloadRecord {
    let id = manifest.content_id().0;
    let mut random = fastrand::Rng::with_seed(destination.as_os_str().len() as u64);
    DownloadRecord {
        id: DownloadId([id[0], id[1], id[2], id[3], id[4], random.u8(..), random.u8(..), random.u8(..)]),
        user: "bob".parse().expect("a name"),
        group: "photos".parse().expect("a name"),
        name: "a.bin".parse().expect("a name"),
        owner: "alice".parse().expect("a name"),
        content: manifest.content_id(),
        length: manifest.geometry().length(),
        destination,
        force: false,
        added: UnixMillis(1),
        fetched_bytes: 0,
        shape: None,
        phase: DownloadPhase::Active,
        born: Some(UnixMillis(2)),
        only: None,
        wanted_bytes: None,
        wanted_pieces: None,
    }
}

fn pieces(have: &HaveMap) -> Vec<u32> {
    have.iter().map(|piece| piece.0).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, Reject>) -> ErrorCode {
    result.expect_err("refused").code
}
