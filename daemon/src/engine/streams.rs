//! Streams: the bytes of a file in their order, to the standard output of one command, while they come in.
//!
//! A stream is a download like any other, but nothing of it is remembered: its part lies in a folder of the daemon's own, and
//! goes when the command does. Pieces are asked for in their order, and no further ahead of the reader than [`AHEAD_BYTES`]. A
//! piece goes out once it is verified, and the next one when the command has taken it: whoever reads slowly holds up
//! nothing but this.

use p2p_proto::control::{Answer, Frame};
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::name::GroupName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::Listing;

use super::downloads::{Download, Stage, downloaded};
use super::input::CommandId;
use super::record::{DownloadPhase, DownloadRecord};
use super::transfer::Transfer;
use super::{Engine, Output};

/// Bytes that are asked for ahead of the reader: what one fast peer sends in a good part of a second, so that a reader who
/// pauses for a moment does not hold up the peers; and all that is fetched in vain for one who has seen enough.
const AHEAD_BYTES: u64 = 32 << 20;

/// Pieces that are asked for ahead at the least, however large they are.
const AHEAD_PIECES_MIN: u64 = 2;

/// Reads of a piece that may fail one after the other: where it lies may change under a read, but not again and again.
const FAILURES_MAX: u32 = 3;

/// A download whose bytes go to a command.
#[derive(Debug)]
pub(super) struct Stream {
    command: CommandId,
    /// The piece that goes out next, or is just going.
    next: u32,
    sending: bool,
    failures: u32,
}

impl Engine {
    /// The file is found: it begins to come, and to go out.
    pub(super) fn begin_stream(
        &mut self,
        command: CommandId,
        group: GroupName,
        listing: Listing,
    ) -> Result<(), Reject> {
        let user = self.user()?.clone();
        if listing.files.is_some() {
            let message = format!("{} is a folder, and standard output takes one file", listing.name);
            return Err(Reject::new(ErrorCode::NOT_ALLOWED, message).hint("download it into a folder"));
        }
        let limits = &self.config.limits;
        if self.streams.len() >= limits.streams_max || self.followers.len() >= limits.followers_max {
            return Err(Reject::new(ErrorCode::BUSY, "too many files go to the standard output of commands already")
                .hint("wait until one of them is done"));
        }
        // It hung up before there was anything to send.
        if !self.connected_commands.contains(&command) {
            return Ok(());
        }
        let id = DownloadId(self.random.u64(..).to_be_bytes());
        let record = DownloadRecord {
            id,
            user,
            group,
            name: listing.name,
            owner: listing.owner,
            content: listing.content,
            length: listing.length,
            destination: self.config.streams_folder.join(id.to_string()),
            force: false,
            added: self.now.wall,
            fetched_bytes: 0,
            shape: None,
            phase: DownloadPhase::Active,
            born: Some(listing.born),
            only: None,
            wanted_bytes: None,
            wanted_pieces: None,
        };
        let download = Download { stage: Stage::Queued, streamed: true, ..Download::restored(record) };
        let started = Frame::Started(self.download_row(&download));
        self.outputs.push_back(Output::Tell(command, started));
        self.streams.insert(id, Stream { command, next: 0, sending: false, failures: 0 });
        self.downloads.insert(download);
        self.follow(command, id);
        self.start_downloads();
        self.tell_state(id);
        Ok(())
    }

    /// More of a content may be here: what waits for it goes out.
    pub(super) fn stream_pieces_of(&mut self, content: ContentId) {
        let waiting = self.streams.iter().filter(|(_, stream)| !stream.sending).map(|(id, _)| *id);
        let of_content = |id: &DownloadId| self.downloads.get(*id).is_some_and(|it| it.record.content == content);
        let waiting: Vec<DownloadId> = waiting.filter(of_content).collect();
        waiting.into_iter().for_each(|id| self.stream_next(id));
    }

    /// A command has taken a piece, or it could not be read.
    pub(super) fn piece_streamed(&mut self, id: DownloadId, result: Result<(), Reject>) {
        let (Some(stream), Some(download)) = (self.streams.get_mut(&id), self.downloads.get_mut(id)) else { return };
        stream.sending = false;
        let content = download.record.content;
        match result {
            Ok(()) => {
                stream.next += 1;
                stream.failures = 0;
                self.move_window(id);
                self.stream_next(id);
            }
            // The file here is not what it was, or not shared any more: peers have to bring the rest.
            Err(reject) if download.stage == Stage::Copying && reject.code.is_of_a_source() => {
                download.stage = Stage::Queued;
                self.local_copy_gone(content, &reject);
                self.start_downloads();
            }
            Err(_) if download.stage == Stage::Copying && self.shares.with_content(content).is_none() => {
                download.stage = Stage::Queued;
                self.start_downloads();
            }
            Err(reject) if stream.failures >= FAILURES_MAX => self.fail_download(id, reject),
            Err(_) => {
                stream.failures += 1;
                self.stream_next(id);
            }
        }
    }

    /// Has a transfer ask for what its reader will want next.
    pub(super) fn move_window(&mut self, id: DownloadId) {
        let (Some(stream), Some(content)) = (self.streams.get(&id), self.running_content(id)) else { return };
        let Some(transfer) = self.transfers.get_mut(&content) else { return };
        let Some(pieces) = &mut transfer.pieces else { return };
        let ahead = (AHEAD_BYTES / pieces.geometry.piece_length()).max(AHEAD_PIECES_MIN);
        let end = stream.next.saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX));
        pieces.picker.set_window(stream.next..end);
        transfer.moisten();
        self.schedule(content);
    }

    /// Whether all that may be asked for is here and the reader takes none of it.
    pub(super) fn waits_for_reader(&self, id: DownloadId) -> bool {
        let sending = self.streams.get(&id).is_some_and(|stream| stream.sending);
        let transfer = self.running_content(id).and_then(|content| self.transfers.get(&content));
        let asks = |transfer: &Transfer| transfer.peers.values().any(|peer| peer.outstanding > 0);
        let all_here = |transfer: &Transfer| {
            transfer.pieces.as_ref().is_some_and(|pieces| pieces.picker.all_requested()) && !asks(transfer)
        };
        sending && transfer.is_some_and(all_here)
    }

    /// Whether a stream brings this content that cannot make way yet. One that can goes on with what the next download
    /// brings.
    pub(super) fn stream_in_the_way(&mut self, content: ContentId) -> bool {
        let Some(holder) = self.transfers.get(&content).map(|transfer| transfer.download) else { return false };
        let Some(download) = self.downloads.get_mut(holder).filter(|download| download.streamed) else { return false };
        if download.opening > 0 {
            return true;
        }
        let was = std::mem::replace(&mut download.stage, Stage::Twin);
        self.stop_stage(holder, was);
        false
    }

    /// Whether a download goes to a command and not into a file.
    pub(super) fn is_streamed(&self, id: DownloadId) -> bool {
        self.downloads.get(id).is_some_and(|download| download.streamed)
    }

    /// Whether nothing is left of a stream but what is being deleted.
    pub(super) fn is_ended_stream(&self, download: &Download) -> bool {
        download.streamed && !self.streams.contains_key(&download.record.id)
    }

    /// A command hung up: what was streamed to it is wanted no longer.
    pub(super) fn end_stream_to(&mut self, command: CommandId) {
        let ended = self.streams.iter().find(|(_, stream)| stream.command == command).map(|(id, _)| *id);
        ended.into_iter().for_each(|id| self.end_stream(id));
    }

    /// Nothing more goes out, and what is here of it is deleted.
    pub(super) fn end_stream(&mut self, id: DownloadId) {
        if self.streams.remove(&id).is_none() {
            return;
        }
        if let Some(download) = self.downloads.get_mut(id) {
            download.discard = Some(false);
            let was = std::mem::replace(&mut download.stage, Stage::Stopped);
            self.stop_stage(id, was);
        }
        self.discard_if_closed(id);
        self.start_downloads();
    }

    /// What was here of a stream is deleted, or will be when the daemon starts again.
    pub(super) fn stream_discarded(&mut self, id: DownloadId, result: Result<(), Reject>) {
        if !self.is_streamed(id) || self.streams.contains_key(&id) {
            return;
        }
        if let Err(reject) = result {
            let note = format!("what was streamed stays in the state folder until the next start: {reject}");
            self.outputs.push_back(Output::Note(note));
        }
        let row = self.downloads.get(id).map(|download| self.download_row(download));
        self.downloads.remove(id);
        if let Some(row) = row {
            self.tell_gone(row);
        }
    }

    /// Sends the next piece if it is here, or, behind the last one, has the whole checked.
    fn stream_next(&mut self, id: DownloadId) {
        let Some(download) = self.downloads.get(id) else { return };
        let Some(next) = self.streams.get(&id).filter(|stream| !stream.sending).map(|stream| stream.next) else {
            return;
        };
        let content = download.record.content;
        let transfer = self.transfers.get(&content);
        let (shape, pieces) = match download.stage {
            Stage::Copying => (self.shares.with_content(content).map(|share| share.shape), None),
            _ => {
                let brings = transfer.and_then(|transfer| self.downloads.get(transfer.download));
                (brings.and_then(|brings| brings.record.shape), transfer.and_then(|transfer| transfer.pieces.as_ref()))
            }
        };
        let Some(geometry) = shape.and_then(|shape| shape.geometry().ok()) else { return };
        if download.stage != Stage::Copying && pieces.is_none() {
            return;
        }
        let piece = geometry.piece(next);
        let is_here = |piece| pieces.is_none_or(|pieces| pieces.picker.have().contains(piece));
        let runs = matches!(download.stage, Stage::Copying | Stage::Running | Stage::Twin);
        if !runs || piece.is_some_and(|piece| !is_here(piece)) {
            return;
        }
        let (Some(stream), Some(download)) = (self.streams.get_mut(&id), self.downloads.get_mut(id)) else { return };
        stream.sending = true;
        download.record.shape = shape.or(download.record.shape);
        self.outputs.push_back(match piece {
            Some(piece) => Output::StreamPiece(stream.command, id, content, piece, geometry.piece_bytes(piece)),
            None => Output::CheckStream(id, content),
        });
    }

    /// All of it was what it should be, or the whole is not: the command is told.
    pub(super) fn stream_checked(&mut self, id: DownloadId, result: Result<(), Reject>) {
        if !self.streams.contains_key(&id) {
            return;
        }
        if let Err(reject) = result {
            return self.fail_download(id, reject);
        }
        let now = self.now.wall;
        let Some(download) = self.downloads.get_mut(id) else { return };
        download.record.phase = DownloadPhase::Complete(now);
        if let Some(answer) = downloaded(download) {
            for command in self.take_followers(id) {
                self.tell(command, Answer::Downloaded(answer.clone()));
            }
        }
        self.end_stream(id);
    }
}
