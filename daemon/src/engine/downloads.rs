//! Downloads: from being asked for to being in their place, over pauses, restarts and faults.

use std::path::Path;
use std::time::Duration;

use p2p_proto::control::{Answer, Downloaded, Frame, LocalPath};
use p2p_proto::escape::shell_word;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;

use super::input::{CommandId, Opened};
use super::problems::Cause;
use super::record::{Change, DownloadPhase, DownloadRecord, SourceStamp};
use super::sharing::share_of;
use super::steps::Step;
use super::transfer::{Phase, Transfer};
use super::{Engine, Output, Timer};

/// Downloads up to which each is looked up the moment it begins.
const LOOKUPS_AT_ONCE: usize = 32;

/// More are looked up at moments spread over this time.
const LOOKUP_SPREAD_MS: u64 = 5_000;

/// What the engine does about a download now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing: another user, or nobody, is logged in.
    Resting,
    /// It waits for its turn.
    Queued,
    /// Another download brings the same content; it is copied then.
    Twin,
    /// A transfer brings it.
    Running,
    /// It is copied from a share of this node.
    Copying,
    /// What is here of it is hashed again; then it goes on.
    Verifying,
    /// Nothing: paused, failed or complete.
    Stopped,
}

/// One download.
#[derive(Debug)]
pub(super) struct Download {
    pub record: DownloadRecord,
    pub stage: Stage,
    /// The command that cancels it, while its part file is being deleted.
    pub cancelled_by: Option<CommandId>,
    /// Bytes that are here, as far as is known while nothing runs.
    pub have_bytes: u64,
    /// How often the store is opening, copying, finishing or verifying its part file: it is deleted, or copied anew, only
    /// when that is over.
    pub opening: u32,
    /// To be deleted as soon as the store is not busy with it any more; `true` also what is complete.
    pub discard: Option<bool>,
    /// Whether its share ends when it is deleted.
    pub unshare: bool,
    /// When its transfer began.
    pub begun: Duration,
    /// Whether it goes to a command and not into a file: then nothing of it is remembered.
    pub streamed: bool,
}

impl Download {
    /// A download as it was remembered.
    pub fn restored(record: DownloadRecord) -> Download {
        let stage = if record.phase == DownloadPhase::Active { Stage::Resting } else { Stage::Stopped };
        Download {
            have_bytes: record.fetched_bytes.min(record.length_wanted()),
            record,
            stage,
            cancelled_by: None,
            opening: 0,
            discard: None,
            unshare: false,
            begun: Duration::ZERO,
            streamed: false,
        }
    }

    /// Where it goes, as people are told.
    pub fn shown_destination(&self) -> LocalPath {
        LocalPath(if self.streamed { "-".into() } else { self.record.destination.clone() })
    }

    /// Refuses what would change it while it is being cancelled.
    pub fn not_cancelled(&self) -> Result<(), Reject> {
        match self.cancelled_by {
            None => Ok(()),
            Some(_) => {
                let message = format!("the download of {} is being cancelled", self.record.name);
                Err(Reject::new(ErrorCode::WRONG_STATE, message))
            }
        }
    }
}

impl Engine {
    /// A new download, remembered already: it begins, or waits for its turn.
    pub(super) fn add_download(&mut self, record: DownloadRecord) {
        let download = Download { stage: Stage::Queued, ..Download::restored(record) };
        self.downloads.insert(download);
        self.start_downloads();
    }

    /// The user logs out: what runs stops and is kept, and those who follow it are told.
    pub(super) fn rest_downloads(&mut self) {
        for id in self.downloads.open_ids() {
            if let Some(download) = self.downloads.get_mut(id)
                && download.stage != Stage::Stopped
            {
                let was = std::mem::replace(&mut download.stage, Stage::Resting);
                let DownloadRecord { user, name, .. } = &download.record;
                let message = format!("{user} is no longer logged in here, and the download of {name} rests");
                let reject = Reject::new(ErrorCode::NOT_ALLOWED, message);
                let hint = format!("it goes on by itself after `p2pctl login {user}`");
                self.stop_stage(id, was);
                self.tell_followers(id, &Frame::Result(Err(reject.hint(hint))));
            }
        }
    }

    /// A user logs in: what rested of theirs goes on.
    pub(super) fn wake_downloads(&mut self) {
        let Ok(user) = self.user().cloned() else { return };
        for id in self.downloads.open_ids() {
            if let Some(download) = self.downloads.get_mut(id)
                && download.stage == Stage::Resting
                && download.record.user == user
            {
                download.stage = Stage::Queued;
            }
        }
        self.start_downloads();
    }

    pub(super) fn part_opened(&mut self, id: DownloadId, result: Result<Opened, Reject>) {
        self.store_done(id);
        let Some(content) = self.running_content(id) else {
            // Stopped while it was being opened.
            return self.outputs.push_back(Output::ClosePart(id));
        };
        let opening = self.transfers.get(&content).is_some_and(|transfer| transfer.phase == Phase::Opening);
        // Stopped and begun again meanwhile: the last answer counts.
        if !opening || self.downloads.get(id).is_some_and(|download| download.opening > 0) {
            return;
        }
        match result {
            Ok(opened) => self.pieces_known(content, opened),
            // It was still being opened for the time before.
            Err(reject) if reject.code == ErrorCode::BUSY => self.open_part(id),
            Err(reject) if reject.code == ErrorCode::CONTENT_NOT_FOUND => {
                if let Some(transfer) = self.transfers.get_mut(&content) {
                    transfer.phase = Phase::Manifest(None);
                }
                self.review(content);
            }
            Err(reject) => self.fail_download(id, reject),
        }
    }

    /// All pieces are on disk, and the end of every fetch has been told: the file is put into its place.
    pub(super) fn finish_if_complete(&mut self, content: ContentId) {
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let complete = transfer.pieces.as_ref().is_some_and(|pieces| pieces.picker.is_complete());
        // What is streamed ends when the reader has all of it.
        let streamed = self.downloads.get(transfer.download).is_some_and(|download| download.streamed);
        if transfer.phase != Phase::Fetching || !complete || streamed {
            return;
        }
        if self.fetches.values().any(|fetch| fetch.content == content) {
            return;
        }
        transfer.phase = Phase::Finishing;
        let id = transfer.download;
        self.tell_have(content);
        self.close_interests(content);
        if let Some(download) = self.downloads.get_mut(id) {
            download.opening += 1;
            self.outputs.push_back(Output::FinishPart(download.record.clone()));
        }
    }

    pub(super) fn part_finished(&mut self, id: DownloadId, result: Result<SourceStamp, Reject>) {
        let now = self.now.wall;
        let too_late = result.is_ok() && self.cancelled_too_late(id);
        let was = self.downloads.get(id).map(|download| download.stage);
        self.store_done(id);
        let Some(download) = self.downloads.get_mut(id) else { return };
        let own = |transfer: &Transfer| transfer.download == id && transfer.phase == Phase::Finishing;
        let finishing = self.transfers.get(&download.record.content).is_some_and(own);
        let copying = was == Some(Stage::Copying);
        let fetched = was == Some(Stage::Running) && finishing;
        if !(copying || fetched || too_late) {
            return;
        }
        let stamp = match result {
            Ok(stamp) => stamp,
            // The copy here is no longer what it was: peers have to bring it.
            Err(reject) if copying && reject.code.is_of_a_source() => {
                download.stage = Stage::Queued;
                let content = download.record.content;
                self.local_copy_gone(content, &reject);
                return self.start_downloads();
            }
            // It is not shared any more.
            Err(_) if copying && self.shares.with_content(download.record.content).is_none() => {
                download.stage = Stage::Queued;
                return self.start_downloads();
            }
            Err(reject) => return self.fail_download(id, reject),
        };
        download.stage = Stage::Stopped;
        download.record.phase = DownloadPhase::Complete(now);
        // Of pieces that hold other files too, only what is wanted has stayed.
        download.record.wanted_bytes = download.record.only.as_ref().map(|_| stamp.length);
        let content = download.record.content;
        let copied_from = self.shares.with_content(content).map(|share| share.shape);
        download.record.shape = download.record.shape.or(copied_from);
        let record = download.record.clone();
        self.problem_over(Cause::Pieces(id));
        if finishing {
            self.transfers.remove(&content);
        }
        let mut changes = vec![Change::PutDownload(record.clone())];
        let may_share = finishing || self.is_shared_with_group_of(&record);
        if let (Some(shape), true) = (record.shape, may_share && self.becomes_share(&record)) {
            let share = share_of(&record, shape, stamp);
            self.put_share(share.clone());
            changes.push(Change::PutShare(share));
        }
        self.announce_content(content);
        self.refuse_readers(record.content);
        self.remember(Step::Downloaded(id), changes);
        self.requeue_twins(record.content);
        self.start_downloads();
    }

    /// The download is in its place, and remembered to be: those who follow it are told.
    pub(super) fn downloaded(&mut self, id: DownloadId) {
        self.tell_state(id);
        if let Some(download) =
            self.downloads.get(id).filter(|it| matches!(it.record.phase, DownloadPhase::Complete(_)))
        {
            self.outputs.push_back(Output::Completed(Box::new(download.record.clone())));
        }
        if let Some(answer) = self.downloads.get(id).and_then(downloaded) {
            self.outputs.push_back(Output::Note(format!("downloaded {}", answer.destination)));
            for command in self.take_followers(id) {
                self.tell_when_announced(command, Answer::Downloaded(answer.clone()));
            }
        }
    }

    /// Stops a download for a fault; `resume` tries again.
    pub(super) fn fail_download(&mut self, id: DownloadId, reject: Reject) {
        let phase = DownloadPhase::Failed(reject.clone());
        if let Some(record) = self.stop_download(id, phase) {
            self.outputs.push_back(Output::Note(format!("the download of {} stopped: {reject}", record.name)));
            self.remember(Step::Kept, vec![Change::PutDownload(record)]);
            if reject.code == ErrorCode::DISK_FULL {
                self.wait_for_room(id);
            }
            self.tell_followers(id, &Frame::Result(Err(reject)));
            self.tell_state(id);
            self.start_downloads();
        }
    }

    /// Stops the download of a content for a fault.
    pub(super) fn fail_transfer(&mut self, content: ContentId, reject: Reject) {
        if let Some(id) = self.transfers.get(&content).map(|transfer| transfer.download) {
            self.fail_download(id, reject);
        }
    }

    /// A part file cannot be relied on any more.
    pub(super) fn sync_failed(&mut self, id: DownloadId, reject: Reject) {
        if self.running_content(id).is_some() {
            self.fail_download(id, reject);
        }
    }

    /// This user may not read a group any more, as a tracker says: its downloads stop. What is here of them is kept.
    pub(super) fn group_lost(&mut self, group: &GroupName, reason: &Reject) {
        self.grants.remove(group);
        for id in self.begun_from(group, |_| true) {
            self.fail_download(id, access_lost(group, id, reason));
        }
    }

    /// This user may read a group, which was born then: what is downloaded from an earlier one of its name stops, since its
    /// pieces are for the members of that one alone.
    pub(super) fn keep_downloads_of(&mut self, group: &GroupName, born: UnixMillis) {
        for id in self.begun_from(group, |record| record.may_be_from(born)) {
            let Some(download) = self.downloads.get_mut(id) else { continue };
            download.record.born = Some(born);
            let record = download.record.clone();
            if let Some(transfer) = self.transfers.get_mut(&record.content).filter(|it| it.download == id) {
                transfer.born = Some(born);
                self.announce_content(record.content);
            }
            self.remember(Step::Kept, vec![Change::PutDownload(record)]);
        }
        for id in self.begun_from(group, |record| record.born != Some(born)) {
            self.fail_download(id, name_given_again(group));
        }
    }

    /// This user's downloads from a group that run or are about to, of those that `which` picks.
    fn begun_from(&self, group: &GroupName, which: impl Fn(&DownloadRecord) -> bool) -> Vec<DownloadId> {
        let Ok(user) = self.user() else { return Vec::new() };
        let begun = |download: &&Download| {
            let of_group = download.record.user == *user && download.record.group == *group;
            let begun = matches!(download.stage, Stage::Queued | Stage::Twin | Stage::Running);
            of_group && begun && which(&download.record)
        };
        let mut begun: Vec<_> = self.downloads.open().filter(begun).collect();
        // Those that run come last: each that ends makes room for one that waits.
        begun.sort_by_key(|download| download.stage == Stage::Running);
        begun.into_iter().map(|download| download.record.id).collect()
    }

    /// Has the store open a download's part file.
    pub(super) fn open_part(&mut self, id: DownloadId) {
        if let Some(download) = self.downloads.get_mut(id) {
            download.opening += 1;
            self.outputs.push_back(Output::OpenPart(download.record.clone()));
        }
    }

    /// The store has opened, copied, finished or verified a download's part file, or could not.
    pub(super) fn store_done(&mut self, id: DownloadId) {
        if let Some(download) = self.downloads.get_mut(id) {
            download.opening = download.opening.saturating_sub(1);
        }
        self.discard_if_closed(id);
        if self.downloads.get(id).is_some_and(|download| download.stage == Stage::Queued && download.opening == 0) {
            self.start_downloads();
        }
    }

    /// The unfinished download that will make this file.
    pub(super) fn download_into(&self, destination: &Path) -> Option<&DownloadRecord> {
        let unfinished = |record: &&DownloadRecord| !matches!(record.phase, DownloadPhase::Complete(_));
        let records = self.downloads.open().map(|download| &download.record);
        records.filter(unfinished).find(|record| record.destination == destination)
    }

    /// How many downloads of a user are not complete.
    pub(super) fn unfinished_downloads(&self, user: &UserName) -> u32 {
        let unfinished = |download: &&Download| {
            let complete = matches!(download.record.phase, DownloadPhase::Complete(_));
            download.record.user == *user && !complete && !download.streamed
        };
        u32::try_from(self.downloads.open().filter(unfinished).count()).unwrap_or(u32::MAX)
    }

    /// Keeps the counts of what runs, before the daemon ends.
    pub(super) fn keep_counts(&mut self) {
        let running = self.downloads.open().filter(|download| download.stage == Stage::Running);
        let changes: Vec<Change> = running.map(|download| Change::PutDownload(download.record.clone())).collect();
        if !changes.is_empty() {
            self.remember(Step::Kept, changes);
        }
    }

    /// Begins a download: from a share of this node, or from peers.
    pub(super) fn start_download(&mut self, id: DownloadId) {
        let Some(download) = self.downloads.get(id) else { return };
        let (content, streamed) = (download.record.content, download.streamed);
        // A stream goes on as fast as it is read, which no file should have to wait for.
        if !streamed && self.stream_in_the_way(content) {
            return;
        }
        let Some(download) = self.downloads.get_mut(id) else { return };
        if self.transfers.contains_key(&content) {
            download.stage = Stage::Twin;
            self.stream_pieces_of(content);
        } else if self.shares.with_content(content).is_some() {
            // What was begun before it was stopped ends first; it stays in the queue until then.
            if download.opening > 0 {
                return;
            }
            download.stage = Stage::Copying;
            if streamed {
                return self.stream_pieces_of(content);
            }
            download.opening += 1;
            self.outputs.push_back(Output::CopyLocal(download.record.clone()));
        } else {
            download.stage = Stage::Running;
            download.begun = self.now.monotonic;
            let (group, born) = (download.record.group.clone(), download.record.born);
            self.open_part(id);
            self.transfers.insert(content, Transfer::new(id, group.clone(), born, self.config.node));
            self.grant_for(&group, born);
            self.announce_content(content);
            if self.transfers.len() <= LOOKUPS_AT_ONCE {
                self.look_up(content);
            } else {
                let delay = Duration::from_millis(self.random.u64(0..LOOKUP_SPREAD_MS));
                let at = self.after(delay);
                self.timers.set(Timer::Lookup(content), at);
            }
            self.review(content);
        }
    }

    /// Stops a download and gives it another phase; its record, for keeping.
    pub(super) fn stop_download(&mut self, id: DownloadId, phase: DownloadPhase) -> Option<DownloadRecord> {
        let download = self.downloads.get_mut(id)?;
        let was = std::mem::replace(&mut download.stage, Stage::Stopped);
        download.record.phase = phase;
        let record = download.record.clone();
        self.stop_stage(id, was);
        Some(record)
    }

    /// Ends what the engine does about a download.
    pub(super) fn stop_stage(&mut self, id: DownloadId, was: Stage) {
        let Some(content) = self.downloads.get(id).map(|download| download.record.content) else { return };
        if was == Stage::Copying {
            self.outputs.push_back(Output::ClosePart(id));
        }
        if was == Stage::Running {
            if let (Some(download), Some(transfer)) = (self.downloads.get_mut(id), self.transfers.get(&content))
                && transfer.pieces.is_some()
            {
                download.have_bytes = transfer.have_bytes();
            }
            self.cancel_fetches(content);
            self.close_interests(content);
            self.transfers.remove(&content);
            self.outputs.push_back(Output::ClosePart(id));
            for timer in [Timer::Lookup(content), Timer::Have(content), Timer::Review(content)] {
                self.timers.clear(&timer);
            }
            self.refuse_readers(content);
            self.announce_content(content);
            self.requeue_twins(content);
        }
    }

    /// Those who waited for another download of the same content wait no longer.
    fn requeue_twins(&mut self, content: ContentId) {
        for id in self.downloads.open_ids() {
            if let Some(download) = self.downloads.get_mut(id)
                && download.stage == Stage::Twin
                && download.record.content == content
            {
                download.stage = Stage::Queued;
            }
        }
    }

    /// The file that a content was to be copied from is gone: it is not served from there either.
    pub(super) fn local_copy_gone(&mut self, content: ContentId, reason: &Reject) {
        if let Some(path) = self.shares.with_content(content).map(|share| share.path.clone()) {
            self.source_broken(content, path, reason.clone());
        }
    }

    /// The content of a download, while a transfer brings it.
    pub(super) fn running_content(&self, id: DownloadId) -> Option<ContentId> {
        let download = self.downloads.get(id).filter(|download| download.stage == Stage::Running)?;
        Some(download.record.content)
    }

    /// Ends the interests opened for a content.
    fn close_interests(&mut self, content: ContentId) {
        let open = self.interests.iter().filter(|(_, (wanted, _))| *wanted == content);
        let open: Vec<_> = open.map(|(interest, _)| *interest).collect();
        for interest in open {
            self.outputs.push_back(Output::CloseInterest(interest));
            self.interest_closed(interest, None);
        }
    }
}

/// Why a download from a group that this user may not read stops, or does not go on.
pub(super) fn access_lost(group: &GroupName, id: DownloadId, reason: &Reject) -> Reject {
    let (message, hint) = match reason.code {
        ErrorCode::GROUP_NOT_FOUND => (
            format!("group {group} has ended, and with it the downloads from it"),
            format!("`p2pctl cancel {id}` deletes what is here of it"),
        ),
        _ => (
            format!("no longer a member of {group}: its files are for members only"),
            format!(
                "what is here is kept: ask to be let in with `p2pctl join_group {}`, then `p2pctl resume {id}`",
                shell_word(group.as_str())
            ),
        ),
    };
    Reject::new(ErrorCode::NOT_MEMBER, message).hint(hint)
}

/// Why one from an earlier group of a name does.
pub(super) fn name_given_again(group: &GroupName) -> Reject {
    let message = format!("group {group} has ended, and with it the downloads from it");
    let list = format!("p2pctl list_files {}", shell_word(group.as_str()));
    let hint = format!("another group has its name now; what that one lists: `{list}`");
    Reject::new(ErrorCode::NOT_MEMBER, message).hint(hint)
}

/// What is told when a download is done.
pub(super) fn downloaded(download: &Download) -> Option<Downloaded> {
    let record = &download.record;
    let DownloadPhase::Complete(at) = record.phase else { return None };
    let elapsed_ms = u64::try_from(at.since(record.added).as_millis()).unwrap_or(u64::MAX);
    Some(Downloaded {
        id: record.id,
        group: record.group.clone(),
        name: record.name.clone(),
        content: record.content,
        destination: download.shown_destination(),
        length: record.length_wanted(),
        pieces: record.wanted_pieces.unwrap_or_else(|| {
            record.shape.and_then(|shape| shape.geometry().ok()).map_or(0, |geometry| geometry.piece_count())
        }),
        fetched_bytes: record.fetched_bytes,
        elapsed_ms,
        rate: u64::try_from(u128::from(record.length_wanted()) * 1000 / u128::from(elapsed_ms.max(1)))
            .unwrap_or(u64::MAX),
    })
}
