//! Downloads that a full disk stopped: they go on by themselves when there is room again.
//!
//! The disk is looked at now and then, and only when there is room is the download begun again: one that cannot go on does not
//! come and go in what people are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::id::DownloadId;
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;

use super::downloads::Stage;
use super::record::{Change, DownloadPhase};
use super::steps::Step;
use super::{Engine, Output, Timer};

/// First pause before a full disk is looked at again; doubled each time up to [`PAUSE_MS_MAX`].
const PAUSE_MS_MIN: u64 = 5_000;

/// Longest pause: a look costs two system calls, and a disk that was full for an hour may be so for a day.
const PAUSE_MS_MAX: u64 = 300_000;

/// A download that stops again after this long begins with the first pause.
const FORGET_MS: u64 = 2 * PAUSE_MS_MAX;

/// How often the disk of a download was looked at, and when it is next.
#[derive(Debug, Default)]
pub(super) struct RoomWaits(BTreeMap<DownloadId, (u32, Duration)>);

impl Engine {
    /// A download has stopped for a full disk: there may be room later.
    pub(super) fn wait_for_room(&mut self, id: DownloadId) {
        let now = self.now.monotonic;
        let (looks, last) = self.room_waits.0.get(&id).copied().unwrap_or_default();
        let looks = if now.saturating_sub(last) >= Duration::from_millis(FORGET_MS) { 0 } else { looks };
        let pause = PAUSE_MS_MIN.saturating_mul(1 << looks.min(10)).min(PAUSE_MS_MAX);
        let at = self.after(Duration::from_millis(pause));
        self.room_waits.0.insert(id, (looks + 1, at));
        self.timers.set(Timer::Room(id), at);
    }

    /// After a start: those that a full disk had stopped are looked after again.
    pub(super) fn wait_for_room_again(&mut self) {
        let full = self.downloads.open_ids().into_iter().filter(|id| self.is_stopped_by_full_disk(*id));
        let full: Vec<DownloadId> = full.collect();
        full.into_iter().for_each(|id| self.wait_for_room(id));
    }

    /// Has the store look whether there is room.
    pub(super) fn look_for_room(&mut self, id: DownloadId) {
        match self.downloads.get(id) {
            Some(download) if self.is_stopped_by_full_disk(id) => {
                self.outputs.push_back(Output::LookForRoom(download.record.clone()));
            }
            _ => _ = self.room_waits.0.remove(&id),
        }
    }

    /// There is room for a download, or there is not.
    pub(super) fn room_looked_for(&mut self, id: DownloadId, is_room: bool) {
        if !self.is_stopped_by_full_disk(id) {
            return;
        }
        let here = self.downloads.get(id).is_some_and(|download| self.user().ok() == Some(&download.record.user));
        if !is_room || !here {
            return self.wait_for_room(id);
        }
        let Some(download) = self.downloads.get_mut(id) else { return };
        download.record.phase = DownloadPhase::Active;
        download.stage = Stage::Queued;
        let record = download.record.clone();
        self.remember(Step::Kept, vec![Change::PutDownload(record)]);
        self.start_downloads();
        self.tell_state(id);
    }

    /// When the disk of a download is looked at next.
    pub(super) fn room_looked_for_at(&self, id: DownloadId) -> Option<UnixMillis> {
        let (_, at) = self.room_waits.0.get(&id).filter(|_| self.is_stopped_by_full_disk(id))?;
        Some(self.now.wall.plus(at.saturating_sub(self.now.monotonic)))
    }

    fn is_stopped_by_full_disk(&self, id: DownloadId) -> bool {
        self.downloads.get(id).is_some_and(|download| {
            let full =
                matches!(&download.record.phase, DownloadPhase::Failed(reject) if reject.code == ErrorCode::DISK_FULL);
            full && download.cancelled_by.is_none()
        })
    }
}
