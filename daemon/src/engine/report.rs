//! Reports: the rows and figures that commands show.

use std::time::Duration;

use p2p_proto::control::{self, DownloadState, File, LocalPath, Status, TrackerState, TrackerStatus};
use p2p_proto::escape::shell_word;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::tracker::Listing;

use super::Engine;
use super::downloads::{Download, Stage};
use super::problems::PROBLEMS_MAX;
use super::record::{DownloadPhase, ShareRecord};
use super::transfer::{Phase, Transfer};
use super::why::in_words;

/// How often those who follow a download are told.
pub(super) const PROGRESS_MS: u64 = 1_000;

/// A transfer that has received nothing for this long is shown as waiting.
const STALLED_MS: u64 = 3_000;

impl Engine {
    /// A download as it is shown.
    pub(super) fn download_row(&self, download: &Download) -> control::Download {
        let record = &download.record;
        let running = self.transfers.get(&record.content).filter(|transfer| transfer.download == record.id);
        let (state, reason) = self.state_of(download, running);
        let complete = matches!(record.phase, DownloadPhase::Complete(_));
        let have_bytes = if complete {
            record.length_wanted()
        } else {
            running.filter(|transfer| transfer.pieces.is_some()).map_or(download.have_bytes, Transfer::have_bytes)
        };
        let down_rate = running.map_or(0, |transfer| transfer.rate.bytes_per_second(self.now.monotonic));
        let active = |transfer: &Transfer| transfer.peers.values().filter(|peer| peer.outstanding > 0).count();
        control::Download {
            id: record.id,
            group: record.group.clone(),
            name: record.name.clone(),
            owner: record.owner.clone(),
            content: record.content,
            destination: download.shown_destination(),
            state,
            reason,
            error: match &record.phase {
                DownloadPhase::Failed(reject) => Some(reject.code),
                _ => None,
            },
            length: record.length_wanted(),
            have_bytes,
            fetched_bytes: record.fetched_bytes,
            down_rate,
            eta_seconds: (!complete && down_rate > 0)
                .then(|| record.length_wanted().saturating_sub(have_bytes).div_ceil(down_rate)),
            peers_active: running.map_or(0, |transfer| count(active(transfer))),
            peers_known: running.map_or(0, |transfer| count(transfer.peers.len())),
            added: record.added,
        }
    }

    /// A listing as it is shown, with what is here of it.
    pub(super) fn file_row(&self, listing: Listing) -> File {
        let shared = self.shares.with_content(listing.content).map(|_| listing.length);
        let here_bytes = shared.or_else(|| self.transfers.get(&listing.content).map(Transfer::have_bytes));
        File {
            name: listing.name,
            length: listing.length,
            seeders: listing.seeders,
            partial: listing.partial,
            here_bytes,
            owner: listing.owner,
            added: listing.added,
            content: listing.content,
            files: listing.files,
        }
    }

    /// A share as it is shown.
    pub(super) fn share_row(&self, share: &ShareRecord) -> control::Share {
        let broken = self.shares.broken(share).map(|reject| reject.message.clone());
        let untold =
            || share.born.is_none().then(|| "a tracker has yet to say which group it is shared with".to_owned());
        let resting = || share.resting.then(|| "rests until requested".to_owned());
        let reason = broken.or_else(|| self.why_not_shared(share)).or_else(resting).or_else(untold);
        control::Share {
            group: share.group.clone(),
            name: share.name.clone(),
            path: LocalPath(share.path.clone()),
            length: share.shape.length,
            content: share.content,
            seeding: reason.is_none(),
            reason,
            until_requested: share.resting,
        }
    }

    /// How many pieces of a content a peer of its transfer has, where that is known.
    pub(super) fn pieces_at(&self, content: ContentId, node: NodeId) -> Option<u32> {
        let peer = self.transfers.get(&content)?.peers.get(&node)?;
        peer.have.as_ref().map(|have| have.len())
    }

    /// How everything is.
    pub fn status(&self, disk_free_bytes: Option<u64>) -> Status {
        let user = self.account.as_ref().map(|account| account.user.clone());
        let of_user = self.downloads.values().filter(|download| Some(&download.record.user) == user.as_ref());
        let rows: Vec<control::Download> = of_user.map(|download| self.download_row(download)).collect();
        let in_states = |states: &[DownloadState]| count(rows.iter().filter(|row| states.contains(&row.state)).count());
        let seeding =
            self.shares.active().filter(|share| share.born.is_some() && self.why_not_shared(share).is_none()).count();
        let waiting = rows.iter().filter(|row| row.state == DownloadState::Waiting).map(|row| {
            let waited = self.downloads.get(row.id).and_then(|download| self.waited(download));
            let waited = waited.map_or("waits".to_owned(), |waited| format!("has waited {}", in_words(waited)));
            format!("{} {waited}: {}", row.name, row.reason.as_deref().unwrap_or("it is not known why"))
        });
        let broken = self.shares.of_user().filter_map(|share| {
            self.shares.broken(share).map(|reject| format!("{} is not served: {reject}", share.name))
        });
        let lost = self.lost_groups();
        let stopped = stopped_downloads(&rows);
        let trackers_down = self.trackers.iter().filter(|tracker| tracker.state != TrackerState::Ok);
        let trackers_down =
            trackers_down.filter_map(|tracker| tracker.reason.as_ref().map(|reason| reason.message.clone()));
        let trackers_stale = self.trackers.iter().filter(|tracker| tracker.is_stale());
        let trackers_stale = trackers_stale.map(|tracker| {
            let address = &tracker.address;
            format!("tracker {address} knows no majority of its cluster: what it tells may be old, changes are refused")
        });
        Status {
            software: self.config.software.clone(),
            started: self.started,
            now: self.now.wall,
            node: self.config.node,
            user,
            key_exchange: self.trackers.iter().find_map(|tracker| tracker.key_exchange.clone()),
            trackers: self.trackers.iter().map(tracker_status).collect(),
            peers: count(self.connections.len()),
            down_rate: self.down_rate.bytes_per_second(self.now.monotonic),
            up_rate: self.up_rate.bytes_per_second(self.now.monotonic),
            shares_seeding: count(seeding),
            shares_stopped: count(self.shares.of_user().count() - seeding),
            downloads_active: in_states(&[DownloadState::Downloading, DownloadState::Verifying]),
            downloads_waiting: in_states(&[DownloadState::Waiting, DownloadState::Queued]),
            downloads_paused: in_states(&[DownloadState::Paused]),
            downloads_failed: in_states(&[DownloadState::Error]),
            disk_free_bytes,
            problems: trackers_down
                .chain(trackers_stale)
                .chain(waiting)
                .chain(broken)
                .chain(self.publications_waiting())
                .chain(lost)
                .chain(stopped)
                .chain(self.problems.texts(self.now.monotonic))
                .collect(),
            devices: self.devices.known.clone(),
            join_requests: self.join_requests.known.clone(),
            limits: self.rates.limits,
        }
    }

    /// A download's state, and why it waits or stopped.
    fn state_of(&self, download: &Download, running: Option<&Transfer>) -> (DownloadState, Option<String>) {
        if let Some((active, ahead)) = self.place_in_queue(download) {
            return (DownloadState::Queued, Some(queued(active, ahead)));
        }
        let record = &download.record;
        match (&record.phase, download.stage, running) {
            (DownloadPhase::Complete(_), ..) if record.only.is_some() => {
                (DownloadState::Complete, Some("a part of a folder is not shared".to_owned()))
            }
            (DownloadPhase::Complete(_), ..) => {
                let shared = record.born.and_then(|born| self.shares.in_group(record.content, &record.group, born));
                if let Some(share) = shared {
                    return match self.why_not_shared(share) {
                        None => (DownloadState::Seeding, None),
                        reason => (DownloadState::Complete, reason),
                    };
                }
                let other = self.shares.with_content(record.content).map(|share| {
                    let (group, path) = (&record.group, record.destination.to_string_lossy());
                    let (path, to) = (shell_word(&path), shell_word(group.as_str()));
                    format!("shared with {}, not with {group}: p2pctl upload_file {path} {to}", share.group)
                });
                (DownloadState::Complete, other)
            }
            (DownloadPhase::Paused, ..) => (DownloadState::Paused, None),
            (DownloadPhase::Failed(reject), ..) => (DownloadState::Error, Some(reject.message.clone())),
            (DownloadPhase::Active, Stage::Copying | Stage::Verifying, _) => (DownloadState::Verifying, None),
            (DownloadPhase::Active, Stage::Twin, _) => {
                (DownloadState::Waiting, Some("another download brings the same content".to_owned()))
            }
            (DownloadPhase::Active, ..) if self.waits_for_reader(record.id) => {
                (DownloadState::Waiting, Some("the program that reads it takes no more".to_owned()))
            }
            (DownloadPhase::Active, _, Some(transfer)) => self.state_of_transfer(record.content, transfer),
            (DownloadPhase::Active, ..) => (DownloadState::Queued, None),
        }
    }

    /// The state of a download that a transfer brings.
    fn state_of_transfer(&self, content: ContentId, transfer: &Transfer) -> (DownloadState, Option<String>) {
        let recently = |at: Duration| self.now.monotonic.saturating_sub(at) < Duration::from_millis(STALLED_MS);
        match transfer.phase {
            Phase::Opening | Phase::Finishing => (DownloadState::Verifying, None),
            Phase::Fetching if transfer.last_arrival.is_some_and(recently) => (DownloadState::Downloading, None),
            Phase::Fetching if self.is_held_back(content) => (DownloadState::Downloading, None),
            Phase::Manifest(_) | Phase::Fetching => {
                let reason = self.obstacle(transfer).reason;
                (DownloadState::Waiting, Some(reason))
            }
        }
    }
}

/// What stopped downloads, the newest of them first.
fn stopped_downloads(rows: &[control::Download]) -> Vec<String> {
    let mut stopped: Vec<_> = rows.iter().filter(|row| row.state == DownloadState::Error).collect();
    stopped.sort_by_key(|row| std::cmp::Reverse(row.added));
    let more = stopped.len().saturating_sub(PROBLEMS_MAX);
    let why = |row: &&control::Download| row.reason.clone().unwrap_or_default();
    let told =
        stopped.iter().take(PROBLEMS_MAX).map(|row| format!("the download of {} stopped: {}", row.name, why(row)));
    let more = (more > 0).then(|| format!("{more} other downloads stopped: `p2pctl show_downloads` tells why"));
    told.chain(more).collect()
}

/// A tracker as it is shown.
fn tracker_status(tracker: &super::trackers::Tracker) -> TrackerStatus {
    let ok = tracker.state == TrackerState::Ok;
    TrackerStatus {
        address: tracker.address.clone(),
        node: tracker.node,
        state: tracker.state,
        since: tracker.since,
        round_trip_us: ok
            .then_some(tracker.round_trip)
            .flatten()
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        leader: ok && tracker.leader,
        stale: tracker.is_stale(),
        reason: tracker.reason.as_ref().map(|reason| reason.message.clone()),
    }
}

/// Where a download stands in the queue.
fn queued(active: usize, ahead: usize) -> String {
    match ahead {
        0 => format!("next, {active} downloads receive"),
        _ => format!("behind {ahead} others, {active} downloads receive"),
    }
}

/// A number of things, as it travels.
pub(super) fn count(things: usize) -> u32 {
    u32::try_from(things).unwrap_or(u32::MAX)
}
