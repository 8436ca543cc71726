//! A world of real engines in virtual time: links with rate, delay and loss, a tracker, disks that survive crashes.
//!
//! Everything that happens is an event in one queue (`events`), and all chance comes from one seed: the same seed gives
//! the same world to the last event.

mod checks;
mod disk;
mod events;
mod links;
mod network;
mod people;
pub mod swarm;
mod tracker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use p2p_proto::control::{self, Answer, Frame};
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::version::SOFTWARE;
use p2pd::engine::input::{CommandId, FetchId};
use p2pd::engine::{Config, Engine, Input, Limits, Now, Output};

use checks::Asked;
use disk::Disk;
use events::{Event, Events};
use links::{Downlink, Uplink};
pub use links::{Link, Path};
pub use network::Dial;
use network::Network;
pub use people::{DEADLINE, download_request};
use tracker::Tracker;

/// When a simulated world begins, by the wall clock.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Between a piece being written and its being durable.
const SYNC_DELAY: Duration = Duration::from_millis(100);

/// Every message's way to the tracker, or back.
const TRACKER_DELAY: Duration = Duration::from_millis(5);

/// How long a node takes to notice that a peer was killed.
const DEATH_NOTICED: Duration = Duration::from_millis(300);

/// One simulated daemon.
pub struct Node {
    /// The engine; `None` while the node is down.
    engine: Option<Engine>,
    /// Counts its starts: what was under way for an earlier life is lost.
    life: u32,
    id: NodeId,
    disk: Disk,
    /// Frames told to each command.
    told: BTreeMap<CommandId, Vec<Frame>>,
    next_command: u64,
    /// When its engine is to be woken.
    wake_at: Option<Duration>,
    /// Its way into the network.
    pub link: Link,
    /// The limit that its engine has set for what it sends, in bytes per second; 0: none.
    up_limit: u64,
    uplink: Uplink,
    downlink: Downlink,
    /// Pieces that its engine waits for.
    asked: BTreeMap<FetchId, Asked>,
    /// Sends corrupt pieces.
    pub liar: bool,
    /// Takes requests and never answers.
    pub silent: bool,
    /// Bytes of pieces sent.
    pub served_bytes: u64,
    /// Of these, bytes that nobody needed: of pieces given up on the way, or come a second time.
    pub wasted_bytes: u64,
    /// Pieces that came again when they were here.
    pub fetched_twice: u64,
    /// Bytes of pieces received from each node that sent any, by place.
    pub received_bytes: BTreeMap<usize, u64>,
}

impl Node {
    /// Bytes per second that it sends now.
    fn up_rate(&self) -> u64 {
        if self.up_limit == 0 { self.link.up_rate } else { self.link.up_rate.min(self.up_limit) }
    }
}

/// The world.
pub struct World {
    now: Duration,
    events: Events,
    /// The nodes, by place.
    pub nodes: Vec<Node>,
    places: BTreeMap<NodeId, usize>,
    tracker: Tracker,
    network: Network,
    /// What lies between any two nodes.
    pub path: Path,
    /// All chance comes from here.
    pub random: fastrand::Rng,
    /// Whether the tracker answers.
    tracker_up: bool,
    /// Downloads that were put into their place: when, where, what.
    pub completed: Vec<(Duration, usize, ContentId)>,
    /// Whether every engine's own invariant is looked at after everything that happens to it: slow in large worlds.
    pub thorough: bool,
    /// Things that happened to engines.
    pub engine_events: u64,
    /// Real time that engines took for them; not part of the simulated world.
    pub engine_time: Duration,
}

impl World {
    /// An empty world with a tracker.
    pub fn new(seed: u64) -> World {
        World {
            now: Duration::from_secs(1),
            events: Events::default(),
            nodes: Vec::new(),
            places: BTreeMap::new(),
            tracker: Tracker::new(),
            network: Network::default(),
            path: Path::default(),
            random: fastrand::Rng::with_seed(seed),
            tracker_up: true,
            completed: Vec::new(),
            thorough: true,
            engine_events: 0,
            engine_time: Duration::ZERO,
        }
    }

    /// A new node with an empty disk, connected to the tracker; its place.
    pub fn add_node(&mut self, link: Link) -> usize {
        let place = self.nodes.len();
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.random.u64(..).to_be_bytes());
        self.nodes.push(Node {
            engine: None,
            life: 0,
            id: NodeId(id),
            disk: Disk::default(),
            told: BTreeMap::new(),
            next_command: 1,
            wake_at: None,
            link,
            up_limit: 0,
            uplink: Uplink::default(),
            downlink: Downlink::default(),
            asked: BTreeMap::new(),
            liar: false,
            silent: false,
            served_bytes: 0,
            wasted_bytes: 0,
            fetched_twice: 0,
            received_bytes: BTreeMap::new(),
        });
        self.places.insert(NodeId(id), place);
        let [_, a, b, c] = u32::try_from(place).unwrap_or(u32::MAX).to_be_bytes();
        self.tracker.addresses.insert(NodeId(id), vec![SocketAddr::from(([10, a, b, c], 4433))]);
        self.start(place);
        place
    }

    /// Starts a node from what its disk remembers.
    pub fn start(&mut self, place: usize) {
        let now = self.now();
        let seed = self.random.u64(..);
        let node = &mut self.nodes[place];
        node.life += 1;
        let config = Config {
            node: node.id,
            software: SOFTWARE.to_owned(),
            trackers: vec!["tracker:9000".to_owned()],
            seed,
            process_id: 1,
            streams_folder: "/streams".into(),
            uploads_folder: "/uploads".into(),
            limits: Limits::default(),
        };
        node.engine = Some(Engine::new(config, node.disk.restored(), now));
        self.drain(place);
        if self.tracker_up {
            self.connect_tracker(place);
        }
    }

    /// Ends a node as a kill does: what was not on disk is lost, its peers notice after a while.
    pub fn kill(&mut self, place: usize) {
        self.end(place, DEATH_NOTICED);
    }

    /// Ends a node as its owner does: its peers hear of it.
    pub fn leave(&mut self, place: usize) {
        self.tell(place, Duration::ZERO, Input::Terminate);
    }

    /// Whether a node runs.
    pub fn is_up(&self, place: usize) -> bool {
        self.nodes[place].engine.is_some()
    }

    fn end(&mut self, place: usize, noticed_after: Duration) {
        let node = &mut self.nodes[place];
        node.engine = None;
        node.told.clear();
        node.asked.clear();
        node.disk.crash();
        self.tracker.disconnected(node.id);
        self.cut_connections(place, noticed_after);
    }

    /// Whether the tracker answers from now on.
    pub fn set_tracker(&mut self, up: bool) {
        self.tracker_up = up;
        for place in 0..self.nodes.len() {
            if up {
                self.connect_tracker(place);
            } else {
                self.cut_tracker(place);
            }
        }
    }

    /// Gives a node a command; its number.
    pub fn command(&mut self, place: usize, request: control::Request) -> CommandId {
        let node = &mut self.nodes[place];
        let command = CommandId(node.next_command);
        node.next_command += 1;
        node.told.insert(command, Vec::new());
        self.tell(place, Duration::ZERO, Input::Command(command, request));
        command
    }

    /// Has a daemon's settings say that so many downloads may receive at once.
    pub fn allow_downloads(&mut self, place: usize, active_downloads_max: usize) {
        self.tell(place, Duration::ZERO, Input::Tuned { up_limit: None, down_limit: None, active_downloads_max });
    }

    /// Gives a node a command and runs the world until it has its answer.
    ///
    /// # Panics
    /// Where none comes within an hour of virtual time.
    pub fn ask(&mut self, place: usize, request: control::Request) -> Result<Answer, Reject> {
        let shown = format!("{request:?}");
        let command = self.command(place, request);
        let deadline = self.now + Duration::from_secs(3600);
        let answered = self.run_until(deadline, |world| world.result(place, command).is_some());
        assert!(answered, "no answer to {shown}");
        self.result(place, command).expect("just seen")
    }

    /// The answer that a command has got.
    pub fn result(&self, place: usize, command: CommandId) -> Option<Result<Answer, Reject>> {
        match self.nodes[place].told.get(&command)?.last()? {
            Frame::Result(result) => Some(result.clone()),
            _ => None,
        }
    }

    /// All frames that a command has got.
    pub fn frames(&self, place: usize, command: CommandId) -> &[Frame] {
        self.nodes[place].told.get(&command).map_or(&[], Vec::as_slice)
    }

    /// Runs until `done` says so; false if `deadline` comes first.
    pub fn run_until(&mut self, deadline: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            match self.events.next_at() {
                Some(at) if at <= deadline => self.step(),
                _ => {
                    self.now = deadline;
                    return done(self);
                }
            }
        }
    }

    /// Runs for a while.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span, |_| false);
    }

    /// Virtual time since the world began.
    pub fn time(&self) -> Duration {
        self.now
    }

    /// A content for the world: made on a node's disk as if the file lay there; its path.
    pub fn make_file(&mut self, place: usize, length: u64) -> std::path::PathBuf {
        let seed = self.random.u64(..);
        self.nodes[place].disk.make_file(length, seed)
    }

    /// Whether a node's disk holds a content, complete and in its place.
    pub fn holds(&self, place: usize, content: ContentId) -> bool {
        self.nodes[place].disk.holds(content)
    }

    /// Handles the next event.
    fn step(&mut self) {
        let Some((at, event)) = self.events.next() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Tell(place, life, input) if self.nodes[place].life == life => {
                if let Input::PieceFetched { fetch, .. } = *input {
                    self.nodes[place].asked.remove(&fetch);
                }
                self.drive(place, |engine, now| engine.handle(now, *input));
            }
            Event::Wake(place) if self.nodes[place].wake_at.is_some_and(|due| due <= self.now) => {
                self.nodes[place].wake_at = None;
                self.drive(place, Engine::tick);
            }
            Event::Tell(..) | Event::Wake(_) => (),
            Event::Uplink(place) => self.uplink_due(place),
            Event::Arrive(server, upload) => self.arrived(server, upload),
            Event::Unwanted(server, upload) => self.unwanted(server, upload),
            Event::Silence(server, upload) => self.gave_no_answer(server, upload),
            Event::Sync(place, life, content, piece) => {
                if self.nodes[place].life == life && self.nodes[place].disk.sync(content, piece) {
                    let download = self.nodes[place].disk.download_of(content);
                    self.tell(place, Duration::ZERO, Input::PiecesDurable(download, vec![piece]));
                }
            }
        }
    }

    /// Has a node's engine, if it runs, do something, and performs what it asks for.
    fn drive(&mut self, place: usize, what: impl FnOnce(&mut Engine, Now)) {
        let now = self.now();
        let Some(engine) = &mut self.nodes[place].engine else { return };
        let began = Instant::now();
        what(engine, now);
        self.engine_time += began.elapsed();
        self.engine_events += 1;
        self.drain(place);
    }

    /// Performs what a node's engine asks for, checks it, and notes when it wants to be woken.
    fn drain(&mut self, place: usize) {
        while let Some(output) = self.nodes[place].engine.as_mut().and_then(Engine::poll_output) {
            self.check(place, &output);
            self.perform(place, output);
        }
        let Some(engine) = &self.nodes[place].engine else { return };
        if self.thorough
            && let Err(broken) = engine.invariant()
        {
            panic!("at {:?} in node {place}: {broken}", self.now);
        }
        if let Some(deadline) = engine.next_deadline()
            && self.nodes[place].wake_at.is_none_or(|at| at > deadline)
        {
            let at = deadline.max(self.now);
            self.nodes[place].wake_at = Some(at);
            self.put(at, Event::Wake(place));
        }
    }

    /// Performs one output.
    fn perform(&mut self, place: usize, output: Output) {
        match output {
            Output::Tell(command, frame) => {
                self.nodes[place].told.entry(command).or_default().push(frame);
            }
            Output::Note(_) | Output::Completed(_) | Output::WakeTrackers => (),
            Output::Exit(_) => self.end(place, self.path.delay),
            Output::AskTracker(..) | Output::Register(..) | Output::Login(..) | Output::ChangePassword(..) => {
                self.perform_tracker(place, output);
            }
            Output::Import { .. }
            | Output::OpenPart(_)
            | Output::FinishPart(_)
            | Output::CopyLocal(_)
            | Output::ClosePart(_)
            | Output::DiscardPart(..)
            | Output::VerifyPart(..)
            | Output::LookForRoom(_)
            | Output::Remember(..)
            | Output::DescribeContent(..)
            | Output::ResolveDestination { .. }
            | Output::MeasureDisk(_) => {
                let finished = match &output {
                    Output::FinishPart(record) | Output::CopyLocal(record) => Some(record.content),
                    _ => None,
                };
                if let Some(input) = self.nodes[place].disk.perform(output) {
                    self.tell(place, Duration::from_micros(100), input);
                }
                self.completed.extend(finished.map(|content| (self.now, place, content)));
            }
            _ => self.perform_network(place, output),
        }
    }

    /// Tells a node's engine something after a delay, unless it ends before.
    fn tell(&mut self, place: usize, delay: Duration, input: Input) {
        let life = self.nodes[place].life;
        self.put(self.now + delay, Event::Tell(place, life, Box::new(input)));
    }

    fn put(&mut self, at: Duration, event: Event) {
        self.events.put(at, event);
    }

    fn now(&self) -> Now {
        let elapsed_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        Now { monotonic: self.now, wall: UnixMillis(EPOCH_MS + elapsed_ms) }
    }

    /// The place of a node.
    fn place(&self, id: NodeId) -> Option<usize> {
        self.places.get(&id).copied()
    }
}
