//! A world of real engines in virtual time: links with rate and delay, a tracker, disks that survive crashes.
//!
//! Everything that happens is an [`Event`] in one queue, ordered by time and then by when it was put there, and all
//! chance comes from one seed: the same seed gives the same world to the last event.

mod disk;
mod network;
mod tracker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use p2p_proto::control::{self, Answer, Frame};
use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::version::SOFTWARE;
use p2pd::engine::input::CommandId;
use p2pd::engine::{Config, Engine, Input, Limits, Now, Output};

use disk::Disk;
use network::{Arrival, Network};
use tracker::Tracker;

/// When a simulated world begins, by the wall clock.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Between a piece being written and its being durable.
const SYNC_DELAY: Duration = Duration::from_millis(100);

/// Every message's way from one node to another, or to the tracker.
pub const LATENCY: Duration = Duration::from_millis(5);

/// What happens at some moment.
enum Event {
    /// A node's engine is told something, in that life of the node.
    Tell(usize, u32, Input),
    /// A node's engine asked to be woken.
    Wake(usize),
    /// What a node fetched comes in.
    Arrive(Arrival),
    /// A piece that a node wrote, in that life of it, is on disk.
    Sync(usize, u32, ContentId, PieceIndex),
}

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
    /// Bytes per second up, the link's rate.
    up_rate: u64,
    /// The limit that its engine has set for what it sends, in bytes per second; 0: none.
    up_limit: u64,
    /// When the uplink has sent what it was given.
    up_free_at: Duration,
    /// Sends corrupt pieces.
    pub liar: bool,
    /// Takes requests and never answers.
    pub silent: bool,
    /// Bytes of pieces sent.
    pub served_bytes: u64,
}

impl Node {
    /// Bytes per second that it sends now.
    fn rate_now(&self) -> u64 {
        if self.up_limit == 0 { self.up_rate } else { self.up_rate.min(self.up_limit) }
    }
}

/// The world.
pub struct World {
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    /// The nodes, by place.
    pub nodes: Vec<Node>,
    tracker: Tracker,
    network: Network,
    /// All chance comes from here.
    pub random: fastrand::Rng,
    /// Whether the tracker answers.
    tracker_up: bool,
}

impl World {
    /// An empty world with a tracker.
    pub fn new(seed: u64) -> World {
        World {
            now: Duration::from_secs(1),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            tracker: Tracker::new(),
            network: Network::default(),
            random: fastrand::Rng::with_seed(seed),
            tracker_up: true,
        }
    }

    /// A new node with an empty disk, connected to the tracker; its place.
    pub fn add_node(&mut self, up_rate: u64) -> usize {
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
            up_rate,
            up_limit: 0,
            up_free_at: Duration::ZERO,
            liar: false,
            silent: false,
            served_bytes: 0,
        });
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
        self.nodes[place].engine = None;
        self.nodes[place].told.clear();
        self.nodes[place].disk.crash();
        self.tracker.disconnected(self.nodes[place].id);
        self.cut_connections(place);
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
            match self.queue.peek() {
                Some(Reverse((at, _))) if *at <= deadline => self.step(),
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

    /// Pieces that a node was sent more than once after they had been verified there.
    pub fn fetched_twice(&self, place: usize) -> u64 {
        self.nodes[place].disk.fetched_twice
    }

    /// Handles the next event.
    fn step(&mut self) {
        let Some(Reverse((at, number))) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        let now = self.now();
        let place = match self.events.remove(&number) {
            Some(Event::Tell(place, life, input)) if self.nodes[place].life == life => {
                let Some(engine) = &mut self.nodes[place].engine else { return };
                engine.handle(now, input);
                place
            }
            Some(Event::Wake(place)) if self.nodes[place].wake_at.is_some_and(|due| due <= self.now) => {
                self.nodes[place].wake_at = None;
                let Some(engine) = &mut self.nodes[place].engine else { return };
                engine.tick(now);
                place
            }
            Some(Event::Arrive(arrival)) => return self.arrived(arrival),
            Some(Event::Sync(place, life, content, piece)) => {
                if self.nodes[place].life == life && self.nodes[place].disk.sync(content, piece) {
                    let download = self.nodes[place].disk.download_of(content);
                    self.tell(place, Duration::ZERO, Input::PiecesDurable(download, vec![piece]));
                }
                return;
            }
            _ => return,
        };
        self.drain(place);
    }

    /// Performs what a node's engine asks for, checks it, and notes when it wants to be woken.
    fn drain(&mut self, place: usize) {
        while let Some(output) = self.nodes[place].engine.as_mut().and_then(Engine::poll_output) {
            self.perform(place, output);
        }
        let Some(engine) = &self.nodes[place].engine else { return };
        if let Err(broken) = engine.invariant() {
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
            Output::Exit(_) => self.kill(place),
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
                if let Some(input) = self.nodes[place].disk.perform(output) {
                    self.tell(place, Duration::from_micros(100), input);
                }
            }
            _ => self.perform_network(place, output),
        }
    }

    /// Tells a node's engine something after a delay, unless it ends before.
    fn tell(&mut self, place: usize, delay: Duration, input: Input) {
        let life = self.nodes[place].life;
        self.put(self.now + delay, Event::Tell(place, life, input));
    }

    fn put(&mut self, at: Duration, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.events.insert(number, event);
        self.queue.push(Reverse((at, number)));
    }

    fn now(&self) -> Now {
        let elapsed_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        Now { monotonic: self.now, wall: UnixMillis(EPOCH_MS + elapsed_ms) }
    }

    /// The place of a node.
    fn place(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }
}
