//! What clients ask for meanwhile, and what they are told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::history::{Asked, Exchange, Outcome};
use super::{Phase, Plan, Stage};
use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::file::random_file;
use crate::wait::{eventually, remain};

/// The group that all list files in.
const FILES: &str = "files";

/// The group that all join and leave.
const ROOM: &str = "room";

/// Things of each kind that a client makes and takes away again and again: few, so that a change that comes late or twice
/// meets the next.
const THINGS: usize = 3;

/// Pause between two questions of a client: what many people ask, and not what one machine can.
const PAUSE: Duration = Duration::from_millis(50);

/// A daemon whose commands are refused with one of these does not know whether the change is made.
const UNKNOWN: [&str; 4] = ["no_majority", "no_tracker", "busy", "timed_out"];

/// What is there before anything happens: a daemon for each client, and two with a transfer between them.
pub(super) struct Scene {
    clients: Vec<Daemon>,
    downloader: Daemon,
    /// Shares what is downloaded.
    _seeder: Daemon,
    folder: PathBuf,
}

/// What one thread was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What can be held against the rest: everything but what was told to be old.
    pub exchanges: Vec<Exchange>,
    /// Each question: when in the plan, whether it was a change, how long until somebody answered, and how it ended.
    pub answers: Vec<Answered>,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub phase: Phase,
    pub is_change: bool,
    /// From the first question that nobody could answer to this answer.
    pub waited: Duration,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// For certain.
    Known,
    /// With what was known last.
    Stale,
    /// Nobody could.
    Not,
}

/// How a transfer went on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transfer {
    /// Bytes that came.
    pub bytes: u64,
    /// The longest time without one, as a command that is told once a second sees it.
    pub longest_pause: Duration,
}

impl Scene {
    /// Makes the daemons, their users and the two groups.
    pub fn new(plan: &Plan, cluster: &Cluster) -> Scene {
        let clients: Vec<Daemon> = (0..plan.clients).map(|client| cluster.user(&format!("client{client}"))).collect();
        let (seeder, downloader) = (cluster.user("seeder"), cluster.user("downloader"));
        seeder.run(&["create_group", FILES, "--policy", "open"]);
        // Whoever has left looks on.
        seeder.run(&["create_group", ROOM, "--policy", "public"]);
        for client in clients.iter().chain([&downloader]) {
            client.run(&["join_group", FILES]);
        }
        let faults = plan.kill_every * plan.kills + 2 * plan.partition * plan.partitions + plan.partition;
        // Enough for all that may come while it lasts, with starts and elections in between.
        let length = plan.transfer_rate * (2 * faults.as_secs() + 60);
        let file = random_file(cluster.folder(), "transfer", length);
        seeder.run(&["upload_file", path(&file), FILES]);
        downloader.run(&["limit", "--down", &format!("{}B/s", plan.transfer_rate)]);
        Scene { clients, downloader, _seeder: seeder, folder: cluster.folder().to_owned() }
    }
}

/// One kind of thing: how it is made and taken away, and what says that it is there already, or not there.
struct Kind {
    name: &'static str,
    exists: &'static str,
    missing: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { name: "group", exists: "group_exists", missing: "group_not_found" },
    Kind { name: "file", exists: "file_exists", missing: "file_not_found" },
    Kind { name: "member", exists: "already_member", missing: "not_member" },
];

/// A thing's name, by which the lists show it: `group client0-1`, `file client0-1`, `member client0`.
fn thing(kind: &str, client: usize, number: usize) -> String {
    match kind {
        "member" => format!("member client{client}"),
        _ => format!("{kind} client{client}-{number}"),
    }
}

/// Changes things of this client until it is over.
pub(super) fn change(scene: &Scene, client: usize, seed: u64, stage: &Stage) -> Told {
    let (daemon, mut random) = (&scene.clients[client], Rng::with_seed(seed ^ client as u64));
    let mut told = Told::default();
    let mut unanswered = None;
    // What this client believes to be there; mostly it asks for what can be done.
    let mut there = BTreeSet::new();
    while !stage.over.load(Ordering::Relaxed) {
        let (kind, number) = (&KINDS[random.usize(..KINDS.len())], random.usize(..THINGS));
        let thing = thing(kind.name, client, number);
        let makes = there.contains(&thing) == (random.u8(..10) == 0);
        let name = format!("client{client}-{number}");
        let file = scene.folder.join(format!("of {name}"));
        let words: Vec<&str> = match (kind.name, makes) {
            ("group", true) => vec!["create_group", &name, "--policy", "open"],
            ("group", false) => vec!["delete_group", &name],
            ("file", true) => {
                // Another content each time: the same listing again would be no change.
                std::fs::write(&file, random.u64(..).to_string()).expect("a file");
                vec!["upload_file", path(&file), FILES, "--name", &name]
            }
            ("file", false) => vec!["remove_file", FILES, &name],
            (_, true) => vec!["join_group", ROOM],
            (_, false) => vec!["leave_group", ROOM],
        };
        let began = stage.start.elapsed();
        let outcome = match daemon.ctl().outcome(&words) {
            Ok(_) => Outcome::Done,
            Err(code) if code == if makes { kind.exists } else { kind.missing } => Outcome::Refused,
            Err(code) if UNKNOWN.contains(&code.as_str()) => Outcome::Unknown,
            Err(code) => panic!("client {client}: {words:?} is refused: {code}"),
        };
        match (outcome, makes) {
            (Outcome::Done | Outcome::Refused, true) => _ = there.insert(thing.clone()),
            (Outcome::Done | Outcome::Refused, false) => _ = there.remove(&thing),
            (Outcome::Unknown, _) => {}
        }
        let how = if outcome == Outcome::Unknown { How::Not } else { How::Known };
        told.answered(stage, &mut unanswered, began, true, how);
        let asked = if makes { Asked::Make(outcome) } else { Asked::Take(outcome) };
        told.exchange(stage, client, thing, asked, began);
        remain(PAUSE);
    }
    told
}

/// Looks at all lists in turn through a client's daemon until it is over.
pub(super) fn look(scene: &Scene, client: usize, stage: &Stage) -> Told {
    let mut told = Told::default();
    let mut unanswered = None;
    for kind in KINDS.iter().cycle() {
        if stage.over.load(Ordering::Relaxed) {
            break;
        }
        look_at(scene, client, kind.name, stage, &mut told, &mut unanswered);
        remain(PAUSE);
    }
    told
}

/// Looks at all lists through every daemon, until each is told what is current.
pub(super) fn look_once(scene: &Scene, stage: &Stage) -> Vec<Told> {
    let mut all = Vec::new();
    for client in 0..scene.clients.len() {
        for kind in &KINDS {
            all.push(eventually("a list is current", || {
                let mut told = Told::default();
                look_at(scene, client, kind.name, stage, &mut told, &mut None);
                (!told.exchanges.is_empty()).then_some(told)
            }));
        }
    }
    all
}

fn look_at(
    scene: &Scene,
    client: usize,
    kind: &str,
    stage: &Stage,
    told: &mut Told,
    unanswered: &mut Option<Duration>,
) {
    let (words, list, column): (&[&str], _, _) = match kind {
        "group" => (&["list_groups"], "groups", "group"),
        "file" => (&["list_files", FILES], "files", "name"),
        _ => (&["list_members", ROOM], "members", "user"),
    };
    let began = stage.start.elapsed();
    let document = match scene.clients[client].ctl().outcome(words) {
        Ok(document) => document,
        Err(code) if UNKNOWN.contains(&code.as_str()) => {
            return told.answered(stage, unanswered, began, false, How::Not);
        }
        Err(code) => panic!("client {client}: {words:?} is refused: {code}"),
    };
    let how = if document["stale"] == true { How::Stale } else { How::Known };
    told.answered(stage, unanswered, began, false, how);
    if how == How::Stale {
        return;
    }
    let rows = document[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let seen: BTreeSet<&str> = rows.iter().filter_map(|row| row[column].as_str()).collect();
    for other in 0..scene.clients.len() {
        for number in 0..if kind == "member" { 1 } else { THINGS } {
            let name = if kind == "member" { format!("client{other}") } else { format!("client{other}-{number}") };
            let asked = Asked::Look(seen.contains(name.as_str()));
            told.exchange(stage, client, thing(kind, other, number), asked, began);
        }
    }
}

/// Downloads the large file until it is over.
pub(super) fn download(scene: &Scene, stage: &Stage) -> Transfer {
    let copy = scene.folder.join("copy");
    let mut transfer = Transfer::default();
    let mut last = Instant::now();
    let mut follower = scene.downloader.follow(&["download_file", FILES, "transfer", path(&copy)]);
    while !stage.over.load(Ordering::Relaxed) {
        let document: Value = follower.next_document().expect("the download goes on");
        let bytes = document["have_bytes"].as_u64().unwrap_or_else(|| panic!("it goes on: {document}"));
        if bytes > transfer.bytes || transfer.bytes == 0 {
            if transfer.bytes > 0 {
                transfer.longest_pause = transfer.longest_pause.max(last.elapsed());
            }
            (transfer.bytes, last) = (bytes, Instant::now());
        }
        assert_ne!(document["type"], "result", "the file is too short for all that happens");
    }
    transfer
}

impl Told {
    fn exchange(&mut self, stage: &Stage, client: usize, thing: String, asked: Asked, began: Duration) {
        let (client, ended) = (format!("client{client}"), stage.start.elapsed());
        self.exchanges.push(Exchange { thing, client, asked, began, ended });
    }

    /// Notes how long it took until somebody answered; `unanswered` is since when nobody does.
    fn answered(
        &mut self,
        stage: &Stage,
        unanswered: &mut Option<Duration>,
        began: Duration,
        is_change: bool,
        how: How,
    ) {
        let since = *unanswered.get_or_insert(began);
        if how != How::Not {
            *unanswered = None;
        }
        let phase = *stage.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = stage.start.elapsed().saturating_sub(since);
        self.answers.push(Answered { phase, is_change, waited, how });
    }
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of the tests' own making")
}
