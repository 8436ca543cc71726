//! Where each content is: the files it can be read from, and the part it is being written to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};

use super::error::wrong_state;
use super::journal::Found;
use super::part::Part;
use super::source::Source;
use crate::engine::record::{Change, Shape, ShareRecord, SourceStamp};

/// Files hashed and not shared yet whose times of change are remembered: as many as can be on their way to a tracker.
const HASHED_MAX: usize = 256;

/// Why a source is kept; it goes with its last claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// It is shared under this name.
    Share(UserName, GroupName, FileName),
    /// A download finished there.
    Download(DownloadId),
}

/// Every content and open part.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    contents: HashMap<ContentId, Content>,
    claims: HashMap<Claim, (ContentId, PathBuf)>,
    parts: HashMap<DownloadId, Arc<Part>>,
    /// Files that were hashed and are not shared yet, with their times of change then, the latest at the end.
    hashed: VecDeque<(ContentId, PathBuf, i128)>,
    /// Where the next look at the sources begins.
    looked: usize,
    /// Files whose last claim went; some may have another since.
    unclaimed: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct Content {
    sources: Vec<(Arc<Source>, HashSet<Claim>)>,
    part: Option<Arc<Part>>,
}

impl Catalogue {
    /// The catalogue of what the journal holds: shares, and finished downloads in their places.
    pub(super) fn new(found: &Found) -> Catalogue {
        let mut catalogue = Catalogue::default();
        found.restored.shares.iter().for_each(|share| catalogue.add_share(share));
        // Files picked from a folder are not the content.
        let whole = found.restored.downloads.iter().filter(|download| download.only.is_none());
        let destinations: HashMap<_, _> = whole.map(|download| (download.id, &download.destination)).collect();
        for (download, part) in &found.parts {
            if let (Some(stamp), Some(path)) = (part.in_place, destinations.get(download)) {
                catalogue.add_source(Claim::Download(*download), part.content, part.shape, path, stamp, None);
            }
        }
        catalogue
    }

    /// Follows changes of what is remembered.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::PutShare(share) => self.add_share(share),
                Change::DeleteShare(user, group, name) => {
                    self.drop_claim(&Claim::Share(user.clone(), group.clone(), name.clone()));
                }
                Change::DeleteDownload(download) => self.drop_claim(&Claim::Download(*download)),
                // What waits to be published is read when it is shared.
                Change::Account(_)
                | Change::PutDownload(_)
                | Change::PutLimits(_)
                | Change::PutPublication(_)
                | Change::DeletePublication(..) => {}
            }
        }
    }

    fn add_share(&mut self, share: &ShareRecord) {
        let claim = Claim::Share(share.user.clone(), share.group.clone(), share.name.clone());
        let hashed =
            self.hashed.iter().rposition(|(content, path, _)| *content == share.content && *path == share.path);
        let hashed_ns = hashed.and_then(|nth| self.hashed.remove(nth)).map(|(_, _, changed_ns)| changed_ns);
        self.add_source(claim, share.content, share.shape, &share.path, share.stamp, hashed_ns);
    }

    /// A file was hashed that may be shared soon, and had this time of change.
    pub(super) fn note_hashed(&mut self, content: ContentId, path: PathBuf, changed_ns: i128) {
        self.hashed.push_back((content, path, changed_ns));
        if self.hashed.len() > HASHED_MAX {
            self.hashed.pop_front();
        }
    }

    /// Adds a file that a content can be read from. One known under the path, broken or not, is replaced: the user
    /// has said what it holds now. `hashed_ns`: its time of change when it was hashed, where that was just now.
    pub(super) fn add_source(
        &mut self,
        claim: Claim,
        content: ContentId,
        shape: Shape,
        path: &Path,
        stamp: SourceStamp,
        hashed_ns: Option<i128>,
    ) {
        self.drop_claim(&claim);
        self.claims.insert(claim.clone(), (content, path.to_owned()));
        let sources = &mut self.contents.entry(content).or_default().sources;
        match sources.iter_mut().find(|(source, _)| source.path == path) {
            Some((source, claims)) => {
                if source.stamp != stamp || source.broken().is_some() || hashed_ns.is_some() {
                    *source = Arc::new(Source::new(shape, path.to_owned(), stamp, hashed_ns));
                }
                claims.insert(claim);
            }
            None => {
                let source = Arc::new(Source::new(shape, path.to_owned(), stamp, hashed_ns));
                sources.push((source, HashSet::from([claim])));
            }
        }
    }

    /// Drops a claim, and the source if it was the last.
    pub(super) fn drop_claim(&mut self, claim: &Claim) {
        let Some((content, path)) = self.claims.remove(claim) else { return };
        let Some(entry) = self.contents.get_mut(&content) else { return };
        entry.sources.retain_mut(|(source, claims)| {
            if source.path == path {
                claims.remove(claim);
            }
            !claims.is_empty()
        });
        self.unclaimed.push(path);
        self.drop_if_empty(content);
    }

    /// The files in `folder` that nothing is read from any more, since they were asked for last.
    pub(super) fn take_unclaimed(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut gone = std::mem::take(&mut self.unclaimed);
        gone.retain(|path| path.parent() == Some(folder) && !self.claims.values().any(|(_, claimed)| claimed == path));
        gone
    }

    /// The nth source of a content.
    pub(super) fn source(&self, content: ContentId, nth: usize) -> Option<Arc<Source>> {
        self.contents.get(&content)?.sources.get(nth).map(|(source, _)| Arc::clone(source))
    }

    /// So many sources, with each call the next ones.
    pub(super) fn next_sources(&mut self, count: usize) -> Vec<(ContentId, Arc<Source>)> {
        let all = || {
            let sources = |(content, entry): (&ContentId, &Content)| {
                let content = *content;
                entry.sources.iter().map(move |(source, _)| (content, Arc::clone(source))).collect::<Vec<_>>()
            };
            self.contents.iter().flat_map(sources)
        };
        let mut next: Vec<_> = all().skip(self.looked).take(count).collect();
        self.looked += next.len();
        if next.len() < count {
            let rest = (count - next.len()).min(self.looked - next.len());
            next.extend(all().take(rest));
            self.looked = rest;
        }
        next
    }

    /// A source that was no longer served is again: in its place comes one of which nothing has been read yet. Not
    /// where it was replaced meanwhile.
    pub(super) fn revive(&mut self, content: ContentId, gone: &Arc<Source>) -> bool {
        let sources = self.contents.get_mut(&content).map(|entry| &mut entry.sources);
        let found = sources.into_iter().flatten().find(|(source, _)| Arc::ptr_eq(source, gone));
        let Some((source, _)) = found else { return false };
        *source = Arc::new(Source::new(gone.shape, gone.path.clone(), gone.stamp, None));
        true
    }

    /// The open part of a content.
    pub(super) fn part_of(&self, content: ContentId) -> Option<Arc<Part>> {
        self.contents.get(&content)?.part.clone()
    }

    /// The open part of a content if that piece is in it.
    pub(super) fn part_with(&self, content: ContentId, piece: PieceIndex) -> Option<Arc<Part>> {
        self.contents.get(&content)?.part.as_ref().filter(|part| part.has(piece)).cloned()
    }

    /// The open part of a download.
    pub(super) fn part(&self, download: DownloadId) -> Option<Arc<Part>> {
        self.parts.get(&download).cloned()
    }

    /// Every open part.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Arc<Part>> {
        self.parts.values()
    }

    /// Refuses a part that cannot be added. Two downloads do not write one content at a time: pieces are addressed by
    /// content.
    pub(super) fn check_part(&self, download: DownloadId, content: ContentId, told: bool) -> Result<(), Reject> {
        if self.parts.contains_key(&download) {
            return Err(Reject::new(ErrorCode::BUSY, format!("download {download} is open already")));
        }
        match self.part_of(content).filter(|_| told) {
            Some(other) => {
                let destination = other.destination.display();
                Err(wrong_state(format!("the same content is being downloaded to {destination} already"))
                    .hint("wait for that download, then start this one: it will be copied"))
            }
            None => Ok(()),
        }
    }

    /// Adds an open part.
    pub(super) fn add_part(&mut self, part: &Arc<Part>) -> Result<(), Reject> {
        self.check_part(part.download, part.content, part.told)?;
        if part.told {
            self.contents.entry(part.content).or_default().part = Some(Arc::clone(part));
        }
        self.parts.insert(part.download, Arc::clone(part));
        Ok(())
    }

    /// Takes out the open part of a download.
    pub(super) fn take_part(&mut self, download: DownloadId) -> Option<Arc<Part>> {
        let part = self.parts.remove(&download)?;
        if let Some(content) = self.contents.get_mut(&part.content)
            && content.part.as_ref().is_some_and(|open| open.download == download)
        {
            content.part = None;
            self.drop_if_empty(part.content);
        }
        Some(part)
    }

    fn drop_if_empty(&mut self, content: ContentId) {
        if self.contents.get(&content).is_some_and(|entry| entry.sources.is_empty() && entry.part.is_none()) {
            self.contents.remove(&content);
        }
    }
}
