//! `verify`: what is here of a download is hashed again; what is bad is fetched again, or named where it was complete.

use p2p_proto::control::{Answer, Verified};
use p2p_proto::id::DownloadId;
use p2p_proto::reject::{ErrorCode, Reject};

use super::downloads::Stage;
use super::input::{AskId, CommandId, PiecesFound};
use super::problems::Cause;
use super::record::{Change, DownloadPhase};
use super::steps::Step;
use super::transfer::Phase;
use super::{Engine, Output};

/// Numbers of bad pieces that a message names.
const NAMED_MAX: usize = 8;

impl Engine {
    /// Has the store hash what is here of a download, which rests meanwhile.
    pub(super) fn verify_download(&mut self, command: CommandId, id: DownloadId) -> Result<(), Reject> {
        let Some(download) = self.downloads.get_mut(id) else { return Ok(()) };
        download.not_cancelled()?;
        if download.opening > 0 {
            let message = format!("what is here of {} is being checked or moved already", download.record.name);
            return Err(Reject::new(ErrorCode::WRONG_STATE, message).hint("try again in a moment"));
        }
        download.opening += 1;
        let (was, record) = (download.stage, download.record.clone());
        if was != Stage::Stopped {
            download.stage = Stage::Verifying;
            self.stop_stage(id, was);
        }
        let ask = self.expect(Step::Verified(command, id));
        self.outputs.push_back(Output::VerifyPart(ask, record));
        self.tell_state(id);
        self.start_downloads();
        Ok(())
    }

    pub(super) fn part_verified(&mut self, ask: AskId, id: DownloadId, result: Result<PiecesFound, Reject>) {
        let Some(Step::Verified(command, _)) = self.steps.remove(&ask) else { return };
        self.store_done(id);
        if let Some(download) = self.downloads.get_mut(id)
            && download.stage == Stage::Verifying
        {
            download.stage = Stage::Queued;
        }
        // Resumed meanwhile: it could not be opened.
        let content = self.running_content(id);
        if content
            .and_then(|content| self.transfers.get(&content))
            .is_some_and(|transfer| transfer.phase == Phase::Opening)
        {
            self.open_part(id);
        }
        match result {
            Ok(found) => {
                match self.judge_pieces(id, &found) {
                    Some(reject) => self.pieces_are_bad(id, &found, reject),
                    None => self.problem_over(Cause::Pieces(id)),
                }
                self.start_downloads();
                if let Some(download) = self.downloads.get(id) {
                    let PiecesFound { pieces, checked, .. } = found;
                    let bad_pieces = found.bad.iter().map(|piece| piece.0).collect();
                    let download = self.download_row(download);
                    let verified = Verified { download, pieces, checked_pieces: checked, bad_pieces };
                    self.tell(command, Answer::Verified(verified));
                }
            }
            Err(reject) => {
                if reject.code.is_of_a_source() {
                    self.end_complete(id, &reject);
                }
                self.start_downloads();
                self.fail(command, reject);
            }
        }
        self.tell_state(id);
    }

    /// What to say of bad pieces, if there are any.
    fn judge_pieces(&self, id: DownloadId, found: &PiecesFound) -> Option<Reject> {
        let record = &self.downloads.get(id).filter(|_| !found.bad.is_empty())?.record;
        let mut named: Vec<String> = found.bad.iter().take(NAMED_MAX).map(|piece| piece.0.to_string()).collect();
        if found.bad.len() > NAMED_MAX {
            named.push("…".to_owned());
        }
        let message = format!(
            "{} of {} pieces of {} are not what their digests say ({})",
            found.bad.len(),
            found.checked,
            record.destination.display(),
            named.join(", ")
        );
        let hint = match found.in_place {
            true => format!("move it away, then `p2pctl resume {}` fetches it again", record.id.short()),
            false => "they are fetched again when the download goes on".to_owned(),
        };
        Some(Reject::new(ErrorCode::INTEGRITY, message).hint(hint))
    }

    fn pieces_are_bad(&mut self, id: DownloadId, found: &PiecesFound, reject: Reject) {
        if let Some(download) = self.downloads.get_mut(id) {
            download.have_bytes = found.good_bytes;
        }
        match found.in_place {
            true => self.end_complete(id, &reject),
            false => self.note_problem(Cause::Pieces(id), reject.message),
        }
    }

    /// A download that was complete is no longer, for this reason.
    fn end_complete(&mut self, id: DownloadId, reason: &Reject) {
        let Some(download) = self.downloads.get_mut(id) else { return };
        if matches!(download.record.phase, DownloadPhase::Complete(_)) {
            download.record.phase = DownloadPhase::Failed(reason.clone());
            let record = download.record.clone();
            self.outputs.push_back(Output::Note(format!("{} is no longer what was downloaded: {reason}", record.name)));
            self.remember(Step::Kept, vec![Change::PutDownload(record)]);
        }
    }
}
