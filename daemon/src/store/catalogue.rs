//! Where each content is: the files it can be read from, and the part it is being written to.

use std::collections::{HashMap, HashSet};
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
        let destinations: HashMap<_, _> =
            found.restored.downloads.iter().map(|download| (download.id, &download.destination)).collect();
        for (download, part) in &found.parts {
            if let (Some(stamp), Some(path)) = (part.in_place, destinations.get(download)) {
                catalogue.add_source(Claim::Download(*download), part.content, part.shape, path, stamp);
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
                Change::Account(_) | Change::PutDownload(_) => {}
            }
        }
    }

    fn add_share(&mut self, share: &ShareRecord) {
        let claim = Claim::Share(share.user.clone(), share.group.clone(), share.name.clone());
        self.add_source(claim, share.content, share.shape, &share.path, share.stamp);
    }

    /// Adds a file that a content can be read from. One known under the path, broken or not, is replaced: the user
    /// has said what it holds now.
    pub(super) fn add_source(
        &mut self,
        claim: Claim,
        content: ContentId,
        shape: Shape,
        path: &Path,
        stamp: SourceStamp,
    ) {
        self.drop_claim(&claim);
        self.claims.insert(claim.clone(), (content, path.to_owned()));
        let sources = &mut self.contents.entry(content).or_default().sources;
        match sources.iter_mut().find(|(source, _)| source.path == path) {
            Some((source, claims)) => {
                if source.stamp != stamp || source.broken().is_some() {
                    *source = Arc::new(Source::new(shape, path.to_owned(), stamp));
                }
                claims.insert(claim);
            }
            None => {
                let source = Arc::new(Source::new(shape, path.to_owned(), stamp));
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
        self.drop_if_empty(content);
    }

    /// The nth source of a content.
    pub(super) fn source(&self, content: ContentId, nth: usize) -> Option<Arc<Source>> {
        self.contents.get(&content)?.sources.get(nth).map(|(source, _)| Arc::clone(source))
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
