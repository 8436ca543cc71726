//! The core of the daemon: decides everything, touches nothing.
//!
//! # How to drive it
//!
//! 1. [`Engine::new`] with what the store remembered.
//! 2. Forever: [`Engine::handle`] what happened, then perform [`Engine::poll_output`] until it is `None`, then wait
//!    for the next thing to happen, but not longer than until [`Engine::next_deadline`]; when that has come,
//!    [`Engine::tick`] and perform the outputs again.
//!
//! No clock, randomness, file, socket or task: time is an argument and chance comes from a seed, so that a test drives
//! many engines through years in seconds and a failing run is repeated from its seed.
//!
//! # Where is what
//!
//! Tables with rules of their own stand alone: [`picker`], [`timers`], [`rate`], [`pace`], [`token_bucket`], `uploads`,
//! `fair_shares`, `shares`. The rest are parts of [`Engine`], one file a concern; commands begin in `commands` and go on in `steps`
//! (lists: `pages`) when answers come.

mod access;
mod account;
mod announce;
mod choice;
mod commands;
mod copies;
mod devices;
mod disk_room;
mod download_changes;
mod download_table;
mod downloads;
mod events;
mod fair_shares;
mod file_info;
mod grants;
pub mod input;
mod join_requests;
mod load;
pub mod output;
pub mod pace;
mod pages;
mod peers;
pub mod pick;
pub mod picker;
mod problems;
mod public;
mod publications;
mod queue;
mod queue_hint;
pub mod rate;
mod rate_limits;
pub mod record;
mod report;
mod scheduler;
mod serving;
mod share_groups;
mod shares;
mod sharing;
mod steps;
mod streams;
mod swarm;
mod swarm_peer;
pub mod timers;
pub mod token_bucket;
mod trackers;
mod transfer;
mod uploads;
mod verify;
mod why;

pub use input::{Input, Now};
pub use output::Output;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use p2p_proto::control::Answer;
use p2p_proto::id::{ContentId, DownloadId, NodeId};
use p2p_proto::name::GroupName;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::Standing;

use access::Revoked;
use copies::CopyWaits;
use devices::Devices;
use disk_room::RoomWaits;
use download_table::DownloadTable;
use downloads::Download;
use events::Listeners;
use grants::GroupGrant;
use input::{AskId, CommandId, ConnectionId, FetchId, InterestId, ServedId, TrackerId};
use join_requests::JoinRequests;
use peers::Peer;
use problems::{Cause, Problems};
use publications::Publications;
use queue::Places;
use rate::RateMeter;
use rate_limits::Rates;
use record::{Account, Restored};
use scheduler::Fetch;
use serving::Served;
use share_groups::ShareGroups;
use shares::Shares;
use steps::Step;
use streams::Stream;
use timers::Timers;
use trackers::{PendingCall, Tracker};
use transfer::Transfer;
use uploads::Uploads;

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Name and version of the program.
    pub software: String,
    /// Addresses of the trackers; their places are the [`input::TrackerId`]s.
    pub trackers: Vec<String>,
    /// Seed of every choice by chance; drawn at random outside tests.
    pub seed: u64,
    /// Process id that is told when the daemon ends.
    pub process_id: u32,
    /// Where parts lie that go with their command: a folder of the daemon's own, which is empty when it starts.
    pub streams_folder: PathBuf,
    /// Where commands put what came from standard input: shared from there, and by nobody else.
    pub uploads_folder: PathBuf,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of the engine's own making; those of the wire are in [`p2p_proto::limit`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes asked of peers and not here yet, over all downloads. No more than the buffers that they are read into.
    pub fetch_bytes_max: u64,
    /// Downloads that receive at once; the rest are queued. So each of them has room for six of the pieces that may be asked
    /// for, which keeps a fast peer busy; more would only thin out each other's.
    pub active_downloads_max: usize,
    /// Downloads that wait for a seeder at once, beside those that receive: each asks the tracker now and then.
    pub lonely_downloads_max: usize,
    /// Pieces being sent at once, over all peers: no more of the usual ones than there are buffers for. Where several nodes
    /// read there are fewer, so that each is done soon.
    pub uploads_active_max: usize,
    /// Pieces being sent at once to one user: enough to fill a link, and others find places whatever this one does.
    pub uploads_per_user_max: usize,
    /// Requests for pieces that wait for their turn, over all peers; more are told to come back.
    pub uploads_queued_max: usize,
    /// Interests of peers here; more are told to come back.
    pub served_max: usize,
    /// Nodes remembered with their addresses; more are not learned while all are in use.
    pub peers_max: usize,
    /// Commands that wait for a tracker to answer again.
    pub held_calls_max: usize,
    /// Commands that follow downloads: fewer than may be connected, so that others always find a place.
    pub followers_max: usize,
    /// Commands that follow what happens, likewise; each may have a long queue.
    pub listeners_max: usize,
    /// Commands that a file is streamed to, likewise; each may have a piece in memory, and a whole file on the disk.
    pub streams_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            fetch_bytes_max: 24 << 20,
            active_downloads_max: 8,
            lonely_downloads_max: 500,
            uploads_active_max: 20,
            uploads_per_user_max: 16,
            uploads_queued_max: 4096,
            served_max: 4096,
            peers_max: 1024,
            held_calls_max: 64,
            followers_max: 48,
            listeners_max: 16,
            streams_max: 8,
        }
    }
}

/// What may be due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A call to a tracker has waited for one long enough.
    Held(AskId),
    /// A tracker has not answered a question that another one can answer as well.
    AskAnother(AskId),
    /// Trackers that knew no majority are asked whether they do now.
    Stale,
    /// What changed is announced.
    Announce,
    /// A tracker is told all of it again, which it had no room for.
    AnnounceAgain(TrackerId),
    /// Providers of a content are looked up again.
    Lookup(ContentId),
    /// A group's grant is renewed, or asked for again.
    Grant(GroupName),
    /// The grant that a peer has shown may have ended.
    GrantEnd(ServedId),
    /// A peer that did not answer is dialled again.
    Dial(NodeId),
    /// A connection that nothing uses is closed.
    Idle(NodeId),
    /// New pieces of a content are told to those who download it.
    Have(ContentId),
    /// How busy this node is is told to those who download from it.
    Load,
    /// A user who was held back may be sent another piece.
    Uploads,
    /// A transfer is looked over: interests to open again, slow peers to overtake.
    Review(ContentId),
    /// Those who follow a download are told how far it is.
    Progress,
    /// Those who follow what happens are told of downloads whose state has changed by itself.
    Events,
    /// Those who asked for the status have waited for the tracker long enough.
    Devices,
    /// Transfers that a limit held back may ask for more.
    Limit,
    /// Those whose requests wait here are told so.
    Queue,
    /// A full disk is looked at again.
    Room(DownloadId),
    /// Those who wait for copies of what they uploaded are told how many there are.
    Copies,
    /// What waits to be published is tried again.
    Publish,
}

/// The daemon's core. See the module for the order of calls.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    now: Now,
    started: UnixMillis,
    random: fastrand::Rng,
    outputs: VecDeque<Output>,
    timers: Timers<Timer>,
    next_number: u64,
    ending: bool,

    trackers: Vec<Tracker>,
    /// The furthest place of the trackers' log that one of them has told of.
    seen_place: u64,
    calls: BTreeMap<AskId, PendingCall>,
    steps: BTreeMap<AskId, Step>,
    followers: BTreeMap<CommandId, DownloadId>,
    listeners: Listeners,
    /// Commands that are connected.
    connected_commands: BTreeSet<CommandId>,
    told_when_announced: Vec<(CommandId, Answer)>,

    account: Option<Account>,
    devices: Devices,
    /// What a tracker's clock said at a moment of ours.
    tracker_clock: Option<(UnixMillis, Duration)>,
    grants: BTreeMap<GroupName, GroupGrant>,
    join_requests: JoinRequests,
    shares: Shares,
    publications: Publications,
    downloads: DownloadTable,
    streams: BTreeMap<DownloadId, Stream>,
    transfers: BTreeMap<ContentId, Transfer>,

    peers: BTreeMap<NodeId, Peer>,
    connections: BTreeMap<ConnectionId, NodeId>,
    interests: BTreeMap<InterestId, (ContentId, NodeId)>,
    fetches: BTreeMap<FetchId, Fetch>,
    fetch_bytes: u64,
    served: BTreeMap<ServedId, Served>,
    served_by: BTreeMap<(ConnectionId, ContentId), ServedId>,
    /// Groups that this user has left, or that have ended, since the login: nobody is served through them.
    left_groups: BTreeSet<GroupName>,
    share_groups: ShareGroups,
    /// Where trackers said last that this user stands.
    told_standings: BTreeMap<GroupName, Standing>,
    revoked: Revoked,
    uploads: Uploads,
    rates: Rates,
    places: Places,
    room_waits: RoomWaits,
    copy_waits: CopyWaits,

    down_rate: RateMeter,
    up_rate: RateMeter,
    problems: Problems,
}

impl Engine {
    /// An engine that remembers what `restored` holds; call [`Engine::poll_output`] next.
    pub fn new(config: Config, restored: Restored, now: Now) -> Engine {
        let trackers = config.trackers.iter().map(|address| Tracker::new(address.clone(), now.wall)).collect();
        let mut engine = Engine {
            now,
            started: now.wall,
            random: fastrand::Rng::with_seed(config.seed),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            next_number: 1,
            ending: false,
            trackers,
            seen_place: 0,
            calls: BTreeMap::new(),
            steps: BTreeMap::new(),
            followers: BTreeMap::new(),
            listeners: Listeners::default(),
            connected_commands: BTreeSet::new(),
            told_when_announced: Vec::new(),
            account: None,
            devices: Devices::default(),
            tracker_clock: None,
            grants: BTreeMap::new(),
            join_requests: JoinRequests::default(),
            shares: Shares::new(restored.shares),
            publications: Publications::new(restored.publications),
            downloads: DownloadTable::default(),
            streams: BTreeMap::new(),
            transfers: BTreeMap::new(),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            interests: BTreeMap::new(),
            fetches: BTreeMap::new(),
            fetch_bytes: 0,
            served: BTreeMap::new(),
            served_by: BTreeMap::new(),
            left_groups: BTreeSet::new(),
            share_groups: ShareGroups::default(),
            told_standings: BTreeMap::new(),
            revoked: Revoked::default(),
            uploads: Uploads::new(
                config.limits.uploads_active_max,
                config.limits.uploads_per_user_max,
                config.limits.uploads_queued_max,
            ),
            rates: Rates::default(),
            places: Places::default(),
            room_waits: RoomWaits::default(),
            copy_waits: CopyWaits::default(),
            down_rate: RateMeter::default(),
            up_rate: RateMeter::default(),
            problems: Problems::default(),
            config,
        };
        for record in restored.downloads {
            engine.downloads.insert(Download::restored(record));
        }
        engine.set_limits(restored.limits);
        engine.wait_for_room_again();
        engine.adopt_account(restored.account);
        engine
    }

    /// Takes in what happened. Never fails: what does not fit (an answer to a question that no longer matters) is
    /// passed over.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Command(command, request) => self.begin_command(command, request),
            Input::CommandGone(command) => self.command_gone(command),
            Input::Terminate => self.end(),
            Input::Tuned { up_limit, down_limit, active_downloads_max } => {
                self.tuned(up_limit, down_limit, active_downloads_max);
            }

            Input::Watched(folder, Some(problem)) => self.note_problem(Cause::Watched(folder), problem),
            Input::Watched(folder, None) => self.problem_over(Cause::Watched(folder)),

            Input::TrackerConnected { tracker, node, ack, round_trip, key_exchange } => {
                self.tracker_connected(tracker, node, ack, round_trip, key_exchange);
            }
            Input::TrackerLost { tracker, state, reason } => self.tracker_lost(tracker, state, reason),
            Input::TrackerEvent(tracker, event) => self.tracker_event(tracker, event),
            Input::TrackerAnswered { ask, tracker, reply, knowledge } => {
                self.tracker_answered(ask, tracker, reply, knowledge);
            }

            Input::PeerConnected { connection, node, dialled, instance } => {
                self.peer_connected(connection, node, dialled, instance);
            }
            Input::PeerLost { connection, busy } => self.peer_lost(connection, busy),
            Input::DialFailed { node, busy, .. } => self.dial_failed(node, busy),
            Input::Offered(interest, message) => self.offered(interest, message),
            Input::InterestClosed(interest, reason) => self.interest_closed(interest, reason),
            Input::InterestOpened { served, connection, interest } => self.serve_interest(served, connection, interest),
            Input::InterestRenewed(served, grant) => self.renew_served(served, &grant),
            Input::ServedClosed(served) => self.served_closed(served),
            Input::PieceRequested(upload, connection, request) => self.piece_requested(upload, connection, &request),
            Input::ManifestRequested(upload, connection, content) => {
                self.manifest_requested(upload, connection, content);
            }
            Input::UploadEnded(upload, sent_bytes) => self.upload_ended(upload, sent_bytes),
            Input::ManifestFetched(fetch, result) => self.manifest_fetched(fetch, result),
            Input::PieceFetched { fetch, received_bytes, round_trip, result } => {
                self.piece_fetched(fetch, received_bytes, round_trip, result);
            }

            Input::PieceStreamed(download, result) => self.piece_streamed(download, result),
            Input::StreamChecked(download, result) => self.stream_checked(download, result),

            Input::PiecesDurable(download, pieces) => self.pieces_durable(download, &pieces),
            Input::SyncFailed(download, reject) => self.sync_failed(download, reject),
            Input::SourceChanged(content, path, reject) => self.source_broken(content, path, reject),
            Input::SourceBack(content, path) => self.source_back(content, path),
            Input::JournalLost(reject) => {
                self.dismiss_commands();
                self.outputs.push_back(Output::Exit(Err(reject)));
            }
            Input::ImportProgress { ask, done_bytes, length } => self.import_progress(ask, done_bytes, length),
            Input::Imported(ask, result) => self.imported(ask, result),
            Input::PartOpened(download, result) => self.part_opened(download, result),
            Input::PartFinished(download, result) => self.part_finished(download, result),
            Input::PartVerified(ask, download, result) => self.part_verified(ask, download, result),
            Input::RoomLookedFor(download, is_room) => self.room_looked_for(download, is_room),
            Input::PartDiscarded(download, result) => self.part_discarded(download, result),
            Input::Remembered(ask, result) => self.remembered(ask, result),
            Input::Described(ask, result) => self.described(ask, result),
            Input::DestinationResolved(ask, result) => self.destination_resolved(ask, result),
            Input::DiskMeasured(ask, free_bytes) => self.disk_measured(ask, free_bytes),
            Input::MtorrentRead(ask, result) => self.mtorrent_read(ask, result),
            Input::MtorrentWritten(ask, result) => self.mtorrent_written(ask, result),
        }
        self.run_timers();
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.run_timers();
    }

    /// The next thing to perform, in order; `None` when there is nothing more to do now.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Engine::tick`] is due, as [`Now::monotonic`]; `None` while nothing waits.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// What must hold after every step; says what does not. For tests: costs a walk over all that is known.
    pub fn invariant(&self) -> Result<(), String> {
        self.downloads.invariant()?;
        self.announcements_invariant()?;
        for (content, transfer) in &self.transfers {
            transfer.invariant().map_err(|broken| format!("transfer {}: {broken}", content.short()))?;
            for node in transfer.peers.keys() {
                if !self.peers.contains_key(node) {
                    return Err(format!("transfer {} knows a peer that the engine does not", content.short()));
                }
            }
        }
        let asked: u64 = self.fetches.values().map(|fetch| fetch.bytes).sum();
        if asked != self.fetch_bytes {
            return Err(format!("{asked} bytes are asked for, {} are counted", self.fetch_bytes));
        }
        for (interest, (content, node)) in &self.interests {
            let known = self.transfers.get(content).and_then(|transfer| transfer.peers.get(node));
            if known.and_then(|peer| peer.interest) != Some(*interest) {
                return Err(format!("interest {} belongs to nobody", interest.0));
            }
        }
        if self.served.len() != self.served_by.len() {
            return Err("a connection has two interests in one content".to_owned());
        }
        self.uploads.invariant(|served| self.served.contains_key(&served))
    }

    /// Does everything that is due.
    fn run_timers(&mut self) {
        while let Some(timer) = self.timers.take_due(self.now.monotonic) {
            match timer {
                Timer::Held(ask) => self.held_too_long(ask),
                Timer::AskAnother(ask) => self.ask_another(ask),
                Timer::Stale => self.ask_stale(),
                Timer::Announce => self.announce(),
                Timer::AnnounceAgain(tracker) => self.announce_again(tracker),
                Timer::Lookup(content) => {
                    self.look_up(content);
                    // A transfer that waits for a seeder gives its place to one that does not.
                    self.start_downloads();
                }
                Timer::Grant(group) => self.ask_grant(group),
                Timer::GrantEnd(served) => self.grant_ended(served),
                Timer::Dial(node) => self.connect(node),
                Timer::Idle(node) => self.close_if_idle(node),
                Timer::Have(content) => self.tell_have(content),
                Timer::Load => self.tell_load(),
                Timer::Uploads => self.start_uploads(),
                Timer::Review(content) => self.review(content),
                Timer::Progress => self.tell_progress(),
                Timer::Events => self.look_over_states(),
                Timer::Devices => self.tell_waiting_statuses(),
                Timer::Limit => self.go_on_under_limit(),
                Timer::Queue => self.tell_queue(),
                Timer::Room(download) => self.look_for_room(download),
                Timer::Copies => self.tell_copies(),
                Timer::Publish => self.publish_next(),
            }
        }
    }

    /// A moment from now, for a timer.
    fn after(&self, delay: Duration) -> Duration {
        self.now.monotonic.saturating_add(delay)
    }

    /// The tracker's time, as well as it is known here: grants begin and end by it.
    fn tracker_time(&self) -> UnixMillis {
        match self.tracker_clock {
            // By our monotonic clock, so that a step of the wall clock changes nothing.
            Some((time, at)) => time.plus(self.now.monotonic.saturating_sub(at)),
            None => self.now.wall,
        }
    }

    /// A number that no other thing of this engine has.
    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Ends the daemon: counts are kept, then the shells stop.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ending, true) {
            self.dismiss_commands();
            self.keep_counts();
            self.outputs.push_back(Output::Exit(Ok(())));
        }
    }
}
