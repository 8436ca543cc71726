//! The queue of downloads: how many receive at once, and whose turn is next.
//!
//! The oldest first. Who waits for a seeder, is paused, or has stopped holds no place; who finds a seeder while all places are
//! taken waits with its connections open, and serves what it has meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::id::{ContentId, DownloadId};

use super::Engine;
use super::downloads::{Download, Stage};
use super::transfer::{Phase, Transfer};

/// A transfer that has asked for nothing for this long, since nobody has what it misses, makes room for another.
const STALLED_MS: u64 = 10_000;

/// The transfers that may receive, and since when.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<ContentId, Duration>);

impl Engine {
    /// Begins queued downloads, the oldest first, while there are places.
    pub(super) fn start_downloads(&mut self) {
        self.downloads.settle();
        self.share_places();
        let lonely = self.transfers.values().filter(|transfer| transfer.is_lonely()).count();
        let busy = self.transfers.len() - lonely + self.copying();
        let limits = &self.config.limits;
        let mut free =
            limits.active_downloads_max.saturating_sub(busy).min(limits.lonely_downloads_max.saturating_sub(lonely));
        let mut queued: Vec<_> = self.downloads.open().filter(|download| download.stage == Stage::Queued).collect();
        queued.sort_by_key(|download| age(download));
        let queued: Vec<DownloadId> = queued.into_iter().map(|download| download.record.id).collect();
        for id in queued {
            if free == 0 {
                break;
            }
            self.start_download(id);
            let stage = self.downloads.get(id).map(|download| download.stage);
            let started = matches!(stage, Some(Stage::Running | Stage::Copying));
            free -= usize::from(started);
        }
    }

    /// Whether a transfer may ask for pieces. One that has no place takes a free one.
    pub(super) fn has_place(&mut self, content: ContentId) -> bool {
        let could = self.transfers.get(&content).is_some_and(could_receive);
        if could && !self.places.0.contains_key(&content) && self.free_places() > 0 {
            self.places.0.insert(content, self.now.monotonic);
        }
        self.places.0.contains_key(&content)
    }

    /// Downloads that receive now, and those that come before this one of the others that wait for a place; `None` where
    /// it does not wait for one.
    pub(super) fn place_in_queue(&self, download: &Download) -> Option<(usize, usize)> {
        if !self.is_in_queue(download) {
            return None;
        }
        let older = |other: &&Download| age(other) < age(download) && self.is_in_queue(other);
        let ahead = self.downloads.open().filter(older).count();
        Some((self.places.0.len() + self.copying(), ahead))
    }

    /// Takes places back from those that do not use them, and gives them to others.
    fn share_places(&mut self) {
        let unused = self.places.0.iter().filter(|(content, since)| !self.uses_place(**content, **since));
        let unused: Vec<ContentId> = unused.map(|(content, _)| *content).collect();
        let freed = !unused.is_empty();
        unused.iter().for_each(|content| _ = self.places.0.remove(content));
        if freed {
            self.give_places();
        }
    }

    /// Gives the free places to the oldest of those who could use them.
    pub(super) fn give_places(&mut self) {
        let mut ready: Vec<_> = self.downloads.open().filter(|download| self.wants_place(download)).collect();
        ready.sort_by_key(|download| age(download));
        let ready: Vec<ContentId> = ready.into_iter().map(|download| download.record.content).collect();
        for content in ready.into_iter().take(self.free_places()) {
            self.schedule(content);
        }
    }

    fn free_places(&self) -> usize {
        self.config.limits.active_downloads_max.saturating_sub(self.places.0.len() + self.copying())
    }

    fn copying(&self) -> usize {
        self.downloads.open().filter(|download| download.stage == Stage::Copying).count()
    }

    /// Whether a transfer that got its place then has something to do with it.
    fn uses_place(&self, content: ContentId, since: Duration) -> bool {
        let Some(transfer) = self.transfers.get(&content) else { return false };
        let last = transfer.last_arrival.map_or(since, |at| at.max(since));
        let stalled = self.now.monotonic.saturating_sub(last) >= Duration::from_millis(STALLED_MS);
        let asks = transfer.peers.values().any(|peer| peer.outstanding > 0) || self.is_held_back(content);
        transfer.phase == Phase::Finishing || !transfer.is_lonely() && (asks || !stalled)
    }

    /// Whether a download waits for nothing but a place.
    fn is_in_queue(&self, download: &Download) -> bool {
        download.stage == Stage::Queued || self.wants_place(download) && self.free_places() == 0
    }

    /// Whether it runs, could receive, and has no place.
    fn wants_place(&self, download: &Download) -> bool {
        let content = download.record.content;
        let own = |transfer: &&Transfer| transfer.download == download.record.id;
        download.stage == Stage::Running
            && !self.places.0.contains_key(&content)
            && self.transfers.get(&content).filter(own).is_some_and(could_receive)
    }
}

/// Whether somebody has something for it.
fn could_receive(transfer: &Transfer) -> bool {
    transfer.phase == Phase::Fetching && !transfer.is_lonely()
}

/// What downloads are served by: the oldest first.
fn age(download: &Download) -> (p2p_proto::time::UnixMillis, DownloadId) {
    (download.record.added, download.record.id)
}
