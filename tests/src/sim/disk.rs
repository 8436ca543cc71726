//! A simulated disk: what one daemon's store would hold, and what of it survives a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::manifest::{HashAlgorithm, Manifest};
use p2p_proto::reject::{ErrorCode, Reject};
use p2pd::engine::input::{Description, Imported, Opened, PiecesFound};
use p2pd::engine::record::{Change, DownloadRecord, Restored, Shape, SourceStamp};
use p2pd::engine::{Input, Output};

/// A part file.
struct Part {
    content: ContentId,
    download: DownloadId,
    written: HaveMap,
    durable: HaveMap,
}

/// One node's disk. Bytes are not kept: a content is its manifest, whose digests are drawn from a seed.
#[derive(Default)]
pub(super) struct Disk {
    remembered: Restored,
    manifests: BTreeMap<ContentId, Manifest>,
    files: BTreeMap<PathBuf, Manifest>,
    parts: BTreeMap<ContentId, Part>,
    complete: BTreeSet<ContentId>,
}

impl Disk {
    /// What a daemon that starts here is told.
    pub fn restored(&self) -> Restored {
        self.remembered.clone()
    }

    /// The power fails: what was not synced is gone.
    pub fn crash(&mut self) {
        for part in self.parts.values_mut() {
            part.written = part.durable.clone();
        }
    }

    /// A file as it would lie there.
    pub fn make_file(&mut self, length: u64, seed: u64) -> PathBuf {
        let hash = HashAlgorithm::Blake3;
        let geometry = Manifest::geometry_for(length, hash).expect("simulated files are small");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut digests = vec![0; geometry.piece_count() as usize * hash.digest_bytes()];
        random.fill(&mut digests);
        let manifest = Manifest::new(geometry, hash, digests, None).expect("one digest a piece");
        let path = PathBuf::from(format!("/files/{seed:016x}"));
        self.files.insert(path.clone(), manifest);
        path
    }

    pub fn holds(&self, content: ContentId) -> bool {
        self.complete.contains(&content)
    }

    pub fn manifest(&self, content: ContentId) -> Option<Manifest> {
        self.manifests.get(&content).cloned()
    }

    pub fn keep_manifest(&mut self, manifest: Manifest) -> Shape {
        let shape = shape_of(&manifest);
        self.manifests.insert(manifest.content_id(), manifest);
        shape
    }

    /// Whether a piece can be read from here.
    pub fn has_piece(&self, content: ContentId, piece: PieceIndex) -> bool {
        self.holds(content) || self.parts.get(&content).is_some_and(|part| part.written.contains(piece))
    }

    /// Whether a piece survives a crash.
    pub fn is_durable(&self, content: ContentId, piece: PieceIndex) -> bool {
        self.holds(content) || self.parts.get(&content).is_some_and(|part| part.durable.contains(piece))
    }

    /// The pieces of a part file that are not written.
    pub fn missing(&self, content: ContentId) -> Vec<PieceIndex> {
        let Some(part) = self.parts.get(&content) else { return Vec::new() };
        let all = (0..part.written.piece_count()).map(PieceIndex);
        all.filter(|piece| !part.written.contains(*piece)).collect()
    }

    /// Bytes of a piece of a content whose manifest is here.
    pub fn piece_bytes(&self, content: ContentId, piece: PieceIndex) -> u64 {
        self.manifests.get(&content).map_or(0, |manifest| manifest.geometry().piece_bytes(piece))
    }

    /// A good piece is written; true if it was not here before.
    pub fn write(&mut self, content: ContentId, piece: PieceIndex) -> bool {
        self.parts.get_mut(&content).is_some_and(|part| part.written.insert(piece))
    }

    /// A written piece is synced; false if it was lost in a crash before.
    pub fn sync(&mut self, content: ContentId, piece: PieceIndex) -> bool {
        match self.parts.get_mut(&content) {
            Some(part) if part.written.contains(piece) => {
                part.durable.insert(piece);
                true
            }
            _ => false,
        }
    }

    /// The download whose part file a content is written to.
    pub fn download_of(&self, content: ContentId) -> DownloadId {
        self.parts.get(&content).map_or(DownloadId([0; 8]), |part| part.download)
    }

    /// Performs an output of the store's; what is told about it.
    pub fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Import { ask, path, .. } => Some(Input::Imported(ask, self.import(&path))),
            Output::OpenPart(record) => Some(Input::PartOpened(record.id, self.open_part(&record))),
            Output::FinishPart(record) => Some(Input::PartFinished(record.id, self.finish(&record))),
            Output::CopyLocal(record) => Some(Input::PartFinished(record.id, Ok(stamp(record.length)))),
            Output::DiscardPart(record, _) => {
                self.parts.remove(&record.content);
                Some(Input::PartDiscarded(record.id, Ok(())))
            }
            Output::VerifyPart(ask, record) => Some(Input::PartVerified(ask, record.id, Ok(self.verify(&record)))),
            Output::LookForRoom(record) => Some(Input::RoomLookedFor(record.id, true)),
            Output::Remember(ask, changes) => {
                changes.into_iter().for_each(|change| self.remember(change));
                Some(Input::Remembered(ask, Ok(())))
            }
            Output::DescribeContent(ask, content) => Some(Input::Described(ask, self.describe(content))),
            Output::ResolveDestination { ask, destination, name, .. } => {
                Some(Input::DestinationResolved(ask, Ok(destination.join(name.as_str()))))
            }
            Output::MeasureDisk(ask) => Some(Input::DiskMeasured(ask, Some(1 << 40))),
            _ => None,
        }
    }

    fn import(&mut self, path: &Path) -> Result<Imported, Reject> {
        let manifest = self.files.get(path).cloned();
        let manifest = manifest.ok_or_else(|| Reject::new(ErrorCode::FILE_MISSING, "there is no such file"))?;
        let content = manifest.content_id();
        self.complete.insert(content);
        let shape = self.keep_manifest(manifest);
        let elapsed = Duration::from_millis(1);
        Ok(Imported { content, shape, stamp: stamp(shape.length), whole_sha256: None, elapsed, folder: None })
    }

    fn open_part(&mut self, record: &DownloadRecord) -> Result<Opened, Reject> {
        let missing = || Reject::new(ErrorCode::CONTENT_NOT_FOUND, "its manifest is not here");
        let manifest = self.manifests.get(&record.content).ok_or_else(missing)?;
        let count = manifest.geometry().piece_count();
        let part = self.parts.entry(record.content).or_insert_with(|| Part {
            content: record.content,
            download: record.id,
            written: HaveMap::empty(count),
            durable: HaveMap::empty(count),
        });
        part.download = record.id;
        part.durable = part.written.clone();
        Ok(Opened { shape: shape_of(manifest), have: part.durable.clone(), wanted: None })
    }

    fn finish(&mut self, record: &DownloadRecord) -> Result<SourceStamp, Reject> {
        let part = self.parts.remove(&record.content).filter(|part| part.durable.is_full());
        let part = part.ok_or_else(|| Reject::new(ErrorCode::INTERNAL, "finished before all was durable"))?;
        self.complete.insert(part.content);
        Ok(stamp(record.length))
    }

    /// What a disk without faults finds.
    fn verify(&self, record: &DownloadRecord) -> PiecesFound {
        let pieces = record.shape.and_then(|shape| shape.geometry().ok()).map_or(0, |geometry| geometry.piece_count());
        let in_place = self.holds(record.content);
        let part = self.parts.get(&record.content).map_or(0, |part| part.written.len());
        let checked = if in_place { pieces } else { part };
        PiecesFound { in_place, pieces, checked, bad: Vec::new(), good_bytes: 0 }
    }

    fn describe(&self, content: ContentId) -> Result<Description, Reject> {
        let missing = || Reject::new(ErrorCode::CONTENT_NOT_FOUND, "its manifest is not here");
        let manifest = self.manifests.get(&content).ok_or_else(missing)?;
        let digests = manifest.geometry().pieces().map(|piece| manifest.digest(piece).to_vec()).collect();
        Ok(Description { shape: shape_of(manifest), digests, whole_sha256: None })
    }

    fn remember(&mut self, change: Change) {
        let Restored { account, shares, downloads, limits, publications } = &mut self.remembered;
        match change {
            Change::Account(new) => *account = new,
            Change::PutShare(new) => {
                shares.retain(|old| (&old.user, &old.group, &old.name) != (&new.user, &new.group, &new.name));
                shares.push(new);
            }
            Change::DeleteShare(user, group, name) => {
                shares.retain(|old| (&old.user, &old.group, &old.name) != (&user, &group, &name));
            }
            Change::PutDownload(new) => {
                downloads.retain(|old| old.id != new.id);
                downloads.push(new);
            }
            Change::DeleteDownload(id) => downloads.retain(|old| old.id != id),
            Change::PutLimits(new) => *limits = new,
            Change::PutPublication(new) => {
                publications.retain(|old| old.key() != new.key());
                publications.push(new);
            }
            Change::DeletePublication(user, group, name) => {
                let key = (user, group, name);
                publications.retain(|old| old.key() != key);
            }
        }
    }
}

fn shape_of(manifest: &Manifest) -> Shape {
    let geometry = manifest.geometry();
    Shape { length: geometry.length(), piece_length: geometry.piece_length(), hash: manifest.hash() }
}

fn stamp(length: u64) -> SourceStamp {
    SourceStamp { length, modified_ns: 0, device: 1, inode: 1 }
}
