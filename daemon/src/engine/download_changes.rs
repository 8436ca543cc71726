//! What people do to downloads: pause, resume, cancel, and naming one by its first digits.

use p2p_proto::control::{Answer, DownloadPrefix, Frame};
use p2p_proto::grant::{Grant, GrantBody};
use p2p_proto::id::DownloadId;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::Request;

use super::downloads::{Download, Stage, access_lost, name_given_again};
use super::grants::is_final;
use super::input::CommandId;
use super::problems::Cause;
use super::record::{Change, DownloadPhase, DownloadRecord};
use super::steps::Step;
use super::trackers::Call;
use super::{Engine, Output};

impl Engine {
    pub(super) fn pause_download(&mut self, command: CommandId, id: DownloadId) {
        let Some(download) = self.downloads.get(id) else { return };
        if let Err(reject) = download.not_cancelled() {
            return self.fail(command, reject);
        }
        if download.streamed {
            let message =
                format!("{} goes to the standard output of a command, which cannot be paused", download.record.name);
            let hint = format!("end that command, or `p2pctl cancel {id}`");
            return self.fail(command, Reject::new(ErrorCode::WRONG_STATE, message).hint(hint));
        }
        if !matches!(download.record.phase, DownloadPhase::Active | DownloadPhase::Paused) {
            let reject =
                Reject::new(ErrorCode::WRONG_STATE, format!("the download of {} has ended", download.record.name));
            return self.fail(command, reject);
        }
        if let Some(record) = self.stop_download(id, DownloadPhase::Paused) {
            let reject = Reject::new(ErrorCode::WRONG_STATE, format!("the download of {} was paused", record.name))
                .hint(format!("go on with `p2pctl resume {}`", record.id));
            self.tell_followers(id, &Frame::Result(Err(reject)));
            self.remember(Step::DownloadChanged(command, id), vec![Change::PutDownload(record)]);
            self.tell_state(id);
            self.start_downloads();
        }
    }

    pub(super) fn resume_download(&mut self, command: CommandId, id: DownloadId) {
        let Some(download) = self.downloads.get_mut(id) else { return };
        if let Err(reject) = download.not_cancelled() {
            return self.fail(command, reject);
        }
        match download.record.phase {
            DownloadPhase::Complete(_) => {
                let message = format!("the download of {} is complete", download.record.name);
                return self.fail(command, Reject::new(ErrorCode::WRONG_STATE, message));
            }
            DownloadPhase::Active => (),
            // Whether it may go on now, a tracker knows.
            DownloadPhase::Failed(Reject { code: ErrorCode::NOT_MEMBER, .. }) => {
                let grant = Request::Grant { group: download.record.group.clone() };
                return self.ask(Step::ResumeGranted(command, id), Call::Request(grant));
            }
            DownloadPhase::Paused | DownloadPhase::Failed(_) => (),
        }
        self.resume_stopped(command, id);
    }

    /// A tracker has said whether this user may read the group of a download that had ended since they might not.
    pub(super) fn resume_granted(&mut self, command: CommandId, id: DownloadId, result: Result<Grant, Reject>) {
        let own = |download: &&Download| self.user().is_ok_and(|user| download.record.user == *user);
        let Some(download) = self.downloads.get(id).filter(own) else {
            return self.fail(command, Reject::new(ErrorCode::CANCELLED, "the download was cancelled meanwhile"));
        };
        let DownloadRecord { group, born, .. } = &download.record;
        let refusal = match result {
            Ok(grant) => {
                let is_of_another = |body: GrantBody| born.is_some_and(|born| born != body.born);
                grant.peek().is_ok_and(is_of_another).then(|| name_given_again(group))
            }
            Err(reject) if is_final(reject.code) => Some(access_lost(group, id, &reject)),
            Err(reject) => Some(reject),
        };
        match refusal.or(download.not_cancelled().err()) {
            Some(reject) => self.fail(command, reject),
            None => self.resume_stopped(command, id),
        }
    }

    /// It goes on, unless it does so already.
    fn resume_stopped(&mut self, command: CommandId, id: DownloadId) {
        let Some(download) = self.downloads.get_mut(id) else { return };
        if matches!(download.record.phase, DownloadPhase::Paused | DownloadPhase::Failed(_)) {
            download.record.phase = DownloadPhase::Active;
            download.stage = Stage::Queued;
        }
        let record = download.record.clone();
        self.remember(Step::DownloadChanged(command, id), vec![Change::PutDownload(record)]);
        self.start_downloads();
        self.tell_state(id);
    }

    /// Stops a download, deletes its part file (with `delete_data` also what is complete), then forgets it.
    pub(super) fn cancel_download(&mut self, command: CommandId, id: DownloadId, delete_data: bool) {
        let Some(download) = self.downloads.get(id) else { return };
        if let Err(reject) = download.not_cancelled() {
            return self.fail(command, reject);
        }
        let record = download.record.clone();
        let complete = matches!(record.phase, DownloadPhase::Complete(_));
        if !complete {
            self.stop_download(id, DownloadPhase::Paused);
        }
        if let Some(download) = self.downloads.get_mut(id) {
            download.cancelled_by = Some(command);
            download.discard = Some(delete_data);
            download.unshare = complete && delete_data;
        }
        self.discard_if_closed(id);
        self.start_downloads();
    }

    /// Whether the file of a download is in its place although it is being cancelled: the last step was under way. Then
    /// it is complete, and whoever cancels is told so, rather than that nothing is left of it.
    pub(super) fn cancelled_too_late(&mut self, id: DownloadId) -> bool {
        let Some(download) = self.downloads.get_mut(id).filter(|download| download.discard == Some(false)) else {
            return false;
        };
        download.discard = None;
        let message = format!("the download of {} was complete before it could be cancelled", download.record.name);
        let hint = format!("`p2pctl cancel --delete-data {id}` deletes the file too");
        if let Some(command) = download.cancelled_by.take() {
            self.fail(command, Reject::new(ErrorCode::WRONG_STATE, message).hint(hint));
        }
        true
    }

    /// Deletes the part file of a cancelled download, unless the store is busy with it just now.
    pub(super) fn discard_if_closed(&mut self, id: DownloadId) {
        let Some(download) = self.downloads.get_mut(id).filter(|download| download.opening == 0) else { return };
        if let Some(delete_data) = download.discard.take() {
            self.outputs.push_back(Output::DiscardPart(download.record.clone(), delete_data));
        }
    }

    pub(super) fn part_discarded(&mut self, id: DownloadId, result: Result<(), Reject>) {
        let Some(command) = self.downloads.get_mut(id).and_then(|download| download.cancelled_by.take()) else {
            return self.stream_discarded(id, result);
        };
        match result {
            Ok(()) => {
                self.problem_over(Cause::Pieces(id));
                let row = self.downloads.get(id).map(|download| self.download_row(download));
                if let Some(download) = self.downloads.remove(id)
                    && download.unshare
                {
                    self.unshare(&download.record);
                }
                if let Some(row) = row {
                    let message = format!("the download of {} was cancelled", row.name);
                    self.tell_followers(id, &Frame::Result(Err(Reject::new(ErrorCode::CANCELLED, message))));
                    self.tell_gone(row.clone());
                    let step = Step::Told(command, Box::new(Answer::DownloadChanged(row)));
                    self.remember(step, vec![Change::DeleteDownload(id)]);
                }
            }
            Err(reject) => {
                self.tell_followers(id, &Frame::Result(Err(reject.clone())));
                self.fail(command, reject);
            }
        }
    }

    /// The one download of this user whose id begins so.
    pub(super) fn find_download(&self, prefix: &DownloadPrefix) -> Result<DownloadId, Reject> {
        let user = self.user()?;
        let is_there = |download: &&Download| download.record.user == *user && !self.is_ended_stream(download);
        let of_user = self.downloads.values().filter(is_there);
        let mut matching = of_user.map(|download| download.record.id).filter(|id| prefix.matches(*id));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => {
                let message = format!("several downloads have an id that begins with {prefix}");
                Err(Reject::new(ErrorCode::AMBIGUOUS_NAME, message).hint("give more of its digits"))
            }
            (None, _) => {
                let message = format!("no download has an id that begins with {prefix}");
                Err(Reject::new(ErrorCode::DOWNLOAD_NOT_FOUND, message).hint("`p2pctl show_downloads` lists them"))
            }
        }
    }

    /// Takes the share of a download that is deleted out of the table.
    fn unshare(&mut self, record: &DownloadRecord) {
        let shared =
            self.shares.find(&record.group, &record.name).is_some_and(|share| share.path == record.destination);
        if shared && let Some(ended) = self.end_share(&record.group, &record.name) {
            self.remember(Step::Kept, vec![ended]);
        }
    }
}
