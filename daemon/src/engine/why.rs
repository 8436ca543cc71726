//! Why a download does not go on, or not faster: one bottleneck at a time, with its figures.

use std::time::Duration;

use p2p_proto::control::{Bottleneck, DownloadState, PeerOfDownload, Why};
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;

use super::Engine;
use super::downloads::{Download, Stage};
use super::peers::Peer;
use super::record::DownloadPhase;
use super::swarm_peer::SwarmPeer;
use super::transfer::Transfer;

/// From this part of its limit on, in percent, a rate is what the limit makes it: pieces come in whole, and the last few
/// seconds hold one more or one less of them.
const AT_LIMIT_PERCENT: u64 = 80;

/// What a download waits for.
pub(super) struct Obstacle {
    pub bottleneck: Bottleneck,
    pub reason: String,
}

impl Engine {
    /// `why`: what holds a download up now.
    pub(super) fn why(&self, id: DownloadId) -> Option<Why> {
        let download = self.downloads.get(id)?;
        let row = self.download_row(download);
        let content = download.record.content;
        let running = self.transfers.get(&content).filter(|transfer| transfer.download == id);
        let (active, ahead) = self.place_in_queue(download).unzip();
        let waited = (row.state == DownloadState::Waiting).then(|| self.waited(download)).flatten();
        let last_seeder = running.and_then(|transfer| transfer.last_seeder.clone());
        let mut why = Why {
            bottleneck: Bottleneck::None,
            reason: row.reason.clone(),
            hint: None,
            waiting_since: waited.map(|waited| before(self.now.wall, waited)),
            retry_at: None,
            limit: None,
            active: active.map(super::report::count),
            ahead: ahead.map(super::report::count),
            last_seeder: last_seeder.as_ref().map(|(user, _)| user.clone()),
            last_seen: last_seeder.map(|(_, at)| at),
            peers: running.map_or_else(Vec::new, |transfer| self.peers_of(transfer)),
            download: row,
        };
        self.judge(&mut why, download, running);
        Some(why)
    }

    /// How long nothing has come of a download that runs.
    pub(super) fn waited(&self, download: &Download) -> Option<Duration> {
        let transfer = self.transfers.get(&download.record.content)?;
        let runs = download.stage == Stage::Running && transfer.download == download.record.id;
        let last = transfer.last_arrival.map_or(download.begun, |at| at.max(download.begun));
        runs.then(|| self.now.monotonic.saturating_sub(last))
    }

    /// What a transfer waits for that has received nothing for a while.
    pub(super) fn obstacle(&self, transfer: &Transfer) -> Obstacle {
        let no_tracker = (!self.tracker_ok()).then(|| self.no_tracker());
        let granted = self.is_granted(&transfer.group);
        let known = transfer.peers.len();
        let unreachable = transfer.peers.keys().filter(|node| self.peers.get(node).is_some_and(Peer::is_unreachable));
        let unreachable = unreachable.count();
        let silent = transfer.peers.values().filter(|peer| peer.interest.is_none() && !peer.is_banned()).count();
        let liars = transfer.peers.values().filter(|peer| peer.corrupt_pieces > 0).count();
        let asked = transfer.peers.values().filter(|peer| peer.outstanding > 0).count();
        let queue = self.shortest_queue(transfer);
        let (bottleneck, reason) = match (transfer.is_lonely(), no_tracker, &transfer.last_seeder) {
            _ if liars > 0 => (
                Bottleneck::BadPeers,
                format!("{liars} of {known} peers sent pieces that are not what their digests say"),
            ),
            (_, Some(reject), _) if !granted => {
                (Bottleneck::NoTracker, format!("no grant to read {}: {}", transfer.group, reject.message))
            }
            (_, None, _) if !granted => {
                let refusal = self.grant_refusal(&transfer.group).map(|reject| format!(": {}", reject.message));
                let reason = refusal.unwrap_or_else(|| " yet, a tracker was asked for one".to_owned());
                (Bottleneck::NoGrant, format!("no grant to read {}{reason}", transfer.group))
            }
            (false, ..) if queue.is_some() => {
                let ahead = queue.unwrap_or_default();
                (Bottleneck::PeerQueue, format!("in the queues of {asked} peers, behind {ahead} requests of others"))
            }
            (false, ..) => (Bottleneck::PeerSpeed, "the peers that have the missing pieces send nothing".to_owned()),
            (true, ..) if transfer.peers.values().any(|peer| peer.have.is_some()) => {
                (Bottleneck::MissingPieces, "no peer online has the pieces that are missing".to_owned())
            }
            (true, ..) if unreachable > 0 && unreachable == silent => (
                Bottleneck::Unreachable,
                format!(
                    "{unreachable} of {known} peers online cannot be reached (a router or firewall?), tried again by itself"
                ),
            ),
            (true, ..) if silent > 0 => (Bottleneck::Connecting, format!("connecting to {silent} peers")),
            (true, Some(reject), _) => (Bottleneck::NoTracker, reject.message.clone()),
            (true, ..) if transfer.unlisted => {
                (Bottleneck::NotListed, "no longer listed in the group, and nobody serves it".to_owned())
            }
            (true, None, Some((user, at))) => {
                let ago = in_words(self.now.wall.since(*at));
                (Bottleneck::NoSeeder, format!("no seeder online (last: {user}, {ago} ago)"))
            }
            (true, None, None) => (Bottleneck::NoSeeder, "no seeder online".to_owned()),
        };
        Obstacle { bottleneck, reason }
    }

    /// Names the bottleneck, with the figures that only it has.
    fn judge(&self, why: &mut Why, download: &Download, running: Option<&Transfer>) {
        let (id, record) = (download.record.id.short(), &download.record);
        let hint = |text: String| Some(text).filter(|text| !text.is_empty());
        match (&record.phase, download.stage, running) {
            (DownloadPhase::Complete(_), ..) => why.bottleneck = Bottleneck::None,
            (DownloadPhase::Paused, ..) => {
                why.bottleneck = Bottleneck::Paused;
                why.hint = hint(format!("`p2pctl resume {id}` goes on"));
            }
            (DownloadPhase::Failed(reject), ..) => {
                let full = reject.code == ErrorCode::DISK_FULL;
                why.bottleneck = if full { Bottleneck::DiskFull } else { Bottleneck::Fault };
                why.hint = hint(reject.hint.clone());
                why.retry_at = self.room_looked_for_at(record.id);
            }
            (DownloadPhase::Active, Stage::Twin, _) => why.bottleneck = Bottleneck::SameContent,
            _ if why.active.is_some() => why.bottleneck = Bottleneck::Queue,
            _ if self.waits_for_reader(record.id) => why.bottleneck = Bottleneck::Reader,
            (DownloadPhase::Active, _, Some(transfer)) if why.download.state == DownloadState::Waiting => {
                why.bottleneck = self.obstacle(transfer).bottleneck;
                if why.bottleneck == Bottleneck::PeerQueue {
                    why.ahead = self.shortest_queue(transfer);
                }
            }
            (DownloadPhase::Active, _, Some(transfer)) if why.download.state == DownloadState::Downloading => {
                self.judge_speed(why, record.content, transfer);
            }
            (DownloadPhase::Active, ..) => why.bottleneck = Bottleneck::Checking,
        }
    }

    /// Names what sets the speed of a transfer that receives.
    fn judge_speed(&self, why: &mut Why, content: ContentId, transfer: &Transfer) {
        let own = self.rates.limits.down_limit;
        let coming = self.down_rate.bytes_per_second(self.now.monotonic);
        let asked: Vec<&PeerOfDownload> = why.peers.iter().filter(|peer| peer.requests > 0).collect();
        let all_limited = !asked.is_empty() && asked.iter().all(|peer| peer.up_limit > 0);
        let limits: u64 = asked.iter().fold(0, |sum, peer| sum.saturating_add(peer.up_limit));
        if own > 0 && (self.is_held_back(content) || coming >= own / 100 * AT_LIMIT_PERCENT) {
            why.bottleneck = Bottleneck::OwnLimit;
            why.limit = Some(own);
            why.hint = Some("`p2pctl limit --down 0` lifts it".to_owned());
        } else if all_limited {
            why.bottleneck = Bottleneck::PeerLimit;
            why.limit = Some(limits);
        } else if let Some(ahead) = self.shortest_queue(transfer) {
            why.bottleneck = Bottleneck::PeerQueue;
            why.ahead = Some(ahead);
        } else {
            why.bottleneck = Bottleneck::PeerSpeed;
        }
    }

    /// Where requests of a transfer wait at every peer that was asked, how many of others come first where it is fewest.
    fn shortest_queue(&self, transfer: &Transfer) -> Option<u32> {
        let now = self.now.monotonic;
        let asked = transfer.peers.values().filter(|peer| peer.outstanding > 0);
        let ahead = asked.map(|peer| peer.queue.hint(now).filter(|hint| hint.waiting > 0));
        ahead.map(|hint| hint.map(|hint| hint.ahead)).min_by_key(|ahead| ahead.unwrap_or(0)).flatten()
    }

    /// Who is known to have some of a content.
    fn peers_of(&self, transfer: &Transfer) -> Vec<PeerOfDownload> {
        let now = self.now.monotonic;
        let row = |(node, peer): (&p2p_proto::id::NodeId, &SwarmPeer)| {
            let hint = peer.queue.hint(now).unwrap_or_default();
            PeerOfDownload {
                node: *node,
                user: peer.user.clone(),
                connected: self.peers.get(node).is_some_and(|known| known.connection().is_some()),
                pieces: peer.have.as_ref().map(|have| have.len()),
                requests: peer.outstanding,
                rate: peer.pace.bytes_per_second(now).unwrap_or(0),
                waiting: hint.waiting,
                ahead: hint.ahead,
                up_limit: hint.up_limit,
            }
        };
        transfer.peers.iter().map(row).collect()
    }

    /// `why` for a command.
    pub(super) fn begin_why(&self, id: DownloadId) -> Result<Why, Reject> {
        self.why(id).ok_or_else(|| Reject::new(ErrorCode::DOWNLOAD_NOT_FOUND, "the download is gone"))
    }
}

/// A moment so long before another.
fn before(moment: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(moment.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// A span of time as people say it, in its largest unit.
pub(super) fn in_words(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
