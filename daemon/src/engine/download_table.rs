//! The table of downloads. Most are complete for good: whatever looks for those that are not passes them over.

use std::collections::{BTreeMap, BTreeSet};

use p2p_proto::id::DownloadId;

use super::downloads::{Download, Stage};
use super::record::DownloadPhase;

/// Every download, of whoever uses this daemon.
#[derive(Debug, Default)]
pub(super) struct DownloadTable {
    all: BTreeMap<DownloadId, Download>,
    /// All that are not over, and of those that are the ones that were changed since the last [`DownloadTable::settle`].
    open: BTreeSet<DownloadId>,
}

impl DownloadTable {
    pub fn insert(&mut self, download: Download) {
        let id = download.record.id;
        self.open.insert(id);
        self.all.insert(id, download);
    }

    pub fn remove(&mut self, id: DownloadId) -> Option<Download> {
        self.open.remove(&id);
        self.all.remove(&id)
    }

    pub fn get(&self, id: DownloadId) -> Option<&Download> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: DownloadId) -> Option<&mut Download> {
        let download = self.all.get_mut(&id)?;
        self.open.insert(id);
        Some(download)
    }

    /// All of them, by id.
    pub fn values(&self) -> impl Iterator<Item = &Download> {
        self.all.values()
    }

    /// All that are not over, and perhaps others, by id.
    pub fn open(&self) -> impl Iterator<Item = &Download> {
        self.open.iter().filter_map(|id| self.all.get(id))
    }

    /// The same, to change them.
    pub fn open_ids(&self) -> Vec<DownloadId> {
        self.open.iter().copied().collect()
    }

    /// Passes over from now on what is over.
    pub fn settle(&mut self) {
        self.open.retain(|id| self.all.get(id).is_some_and(|download| !is_over(download)));
    }

    /// Says what is wrong unless every download that is not over is among the open ones.
    pub fn invariant(&self) -> Result<(), String> {
        let passed_over = |(id, download): (&DownloadId, &Download)| !is_over(download) && !self.open.contains(id);
        match self.all.iter().any(passed_over) {
            true => Err("a download that is not over is passed over".to_owned()),
            false => Ok(()),
        }
    }
}

/// Whether nothing happens to a download any more unless somebody asks for it.
fn is_over(download: &Download) -> bool {
    let complete = matches!(download.record.phase, DownloadPhase::Complete(_)) && download.stage == Stage::Stopped;
    complete && download.opening == 0 && download.cancelled_by.is_none() && download.discard.is_none()
}
