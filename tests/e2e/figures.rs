//! Figures and health of both daemons over HTTP: what whoever watches them reads.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use p2p_tests::binaries::workspace;
use p2p_tests::file::random_file;
use p2p_tests::process::Process;
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use prometheus_parse::{Scrape, Value};

use crate::{MIB, text};

/// Where a program says that it tells its figures.
fn told_at(process: &Process) -> SocketAddr {
    let line = process.logs(0, "figures are told at ");
    let address = line.split("address=").nth(1).unwrap_or_else(|| panic!("no address: {line}"));
    address.trim().parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The status and body of an answer.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("one answer, then the end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

/// What is told at `/metrics`, which keeps the conventions of Prometheus.
struct Figures {
    text: String,
    scrape: Scrape,
}

impl Figures {
    fn of(process: &Process) -> Figures {
        let (status, text) = get(told_at(process), "/metrics");
        assert_eq!(status, 200, "{text}");
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("parses");
        let names: BTreeSet<&str> = scrape.samples.iter().map(|sample| sample.metric.as_str()).collect();
        for name in &names {
            assert!(scrape.docs.get(*name).is_some_and(|help| help.ends_with('.')), "{name} has no help");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} has no type");
            assert!(name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_'), "{name}");
        }
        for sample in &scrape.samples {
            let counts = matches!(sample.value, Value::Counter(_));
            assert_eq!(counts, sample.metric.ends_with("_total"), "{sample:?}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE ")).count(), names.len(), "each once");
        Figures { text, scrape }
    }

    /// The value of a figure, of the word of its label where it has one.
    fn value(&self, name: &str, word: &str) -> f64 {
        let of_word = |sample: &&prometheus_parse::Sample| {
            sample.metric == name && (word.is_empty() || sample.labels.values().any(|value| value == word))
        };
        let sample =
            self.scrape.samples.iter().find(of_word).unwrap_or_else(|| panic!("no {name} {word}: {}", self.text));
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) => value,
            ref other => panic!("{name}: {other:?}"),
        }
    }
}

/// The figures that the dashboard shows.
fn dashboard_names() -> BTreeSet<String> {
    let text = std::fs::read_to_string(workspace().join("systemd/grafana.json")).expect("reads");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let words = targets.flat_map(|target| {
        let word = |it: char| !it.is_ascii_alphanumeric() && it != '_';
        target["expr"].as_str().expect("an expression").split(word)
    });
    let names: BTreeSet<String> = words.filter(|word| word.starts_with("p2p")).map(str::to_owned).collect();
    assert!(names.len() > 15, "{names:?}");
    names
}

fn watched(world: &World, name: &str) -> Daemon {
    let mut daemon = world.resting_daemon(name);
    daemon.write_settings("metrics = \"127.0.0.1:0\"\n");
    daemon.restart();
    daemon.become_known_as(name);
    daemon
}

#[test]
fn figures_follow_what_happens_and_name_nobody() {
    let mut world = World::with_tracker(&["--metrics", "127.0.0.1:0"]);
    let (mut alice, mut bob) = (watched(&world, "alice"), watched(&world, "bob"));
    let length = 3 * MIB;
    let file = random_file(world.folder(), "beach.jpg", length);
    alice.run(&["create_group", "photos", "--policy", "public"]);
    alice.run(&["upload_file", text(&file), "photos"]);
    bob.run(&["download_file", "photos", "beach.jpg", text(&world.path("copy"))]);
    assert_eq!(bob.refusal(&["list_files", "ghosts"]).exit_code, 3);
    bob.run(&["limit", "--up", "1MB"]);

    let figures = Figures::of(bob.process());
    let value = |name: &str, word: &str| figures.value(name, word);
    assert_eq!(value("p2pd_received_bytes_total", ""), length as f64);
    assert_eq!(value("p2pd_pieces_fetched_total", "verified"), 6.0);
    assert_eq!(
        (value("p2pd_pieces_fetched_total", "corrupt"), value("p2pd_downloads_completed_total", "")),
        (0.0, 1.0)
    );
    assert_eq!((value("p2pd_trackers", "connected"), value("p2pd_trackers", "lost")), (1.0, 0.0));
    assert_eq!((value("p2pd_logged_in", ""), value("p2pd_downloads", "active")), (1.0, 0.0));
    assert_eq!(value("p2pd_limit_bytes_per_second", "up"), 1_000_000.0);
    assert!(value("p2pd_commands_total", "") >= 4.0);
    let mut all = figures.text;

    let figures = Figures::of(alice.process());
    assert!(figures.value("p2pd_sent_bytes_total", "") >= length as f64);
    assert_eq!(figures.value("p2pd_shares", "seeding"), 1.0);
    all.push_str(&figures.text);

    let figures = Figures::of(world.tracker.process());
    let value = |name: &str, word: &str| figures.value(name, word);
    assert_eq!((value("p2p_tracker_ready", ""), value("p2p_tracker_leader", "")), (1.0, 1.0));
    assert_eq!((value("p2p_tracker_users", ""), value("p2p_tracker_groups", "")), (2.0, 2.0));
    assert_eq!((value("p2p_tracker_listings", ""), value("p2p_tracker_nodes_connected", "")), (1.0, 2.0));
    assert_eq!(value("p2p_tracker_connection_attempts_total", "admitted"), 2.0);
    assert!(value("p2p_tracker_requests_total", "group_not_found") >= 1.0);
    assert!(value("p2p_tracker_requests_total", "done") >= 6.0);
    all.push_str(&figures.text);
    for name in dashboard_names() {
        assert!(all.contains(&format!("\n{name}")), "the dashboard shows {name}, which nobody tells");
    }
    for name in ["alice", "bob", "photos", "beach", "ghosts", &world.tracker.id[..8]] {
        assert!(!all.contains(name), "{name} in {all}");
    }
}

#[test]
fn health_says_what_is_wrong() {
    let mut world = World::with_tracker(&["--metrics", "127.0.0.1:0"]);
    let mut alice = watched(&world, "alice");
    let fine = "{\"schema\":1,\"type\":\"health\",\"ok\":true,\"reason\":null}\n";
    assert_eq!(get(told_at(world.tracker.process()), "/health"), (200, fine.to_owned()));
    let address = told_at(alice.process());
    assert_eq!(get(address, "/health"), (200, fine.to_owned()));
    world.tracker.stop();
    let said = eventually("it is noticed", || Some(get(address, "/health")).filter(|(status, _)| *status != 200));
    assert_eq!(said.0, 503);
    assert!(said.1.contains("\"ok\":false") && said.1.contains("no tracker answers"), "{}", said.1);
    world.tracker.restart();
    eventually("it is there again", || (get(address, "/health").0 == 200).then_some(()));
}

#[test]
fn a_place_that_is_taken_is_told_and_nothing_listens_where_nothing_was_said() {
    let world = World::with_tracker(&["--metrics", "127.0.0.1:0"]);
    let mut world = world;
    let taken = told_at(world.tracker.process());
    let mut alice = world.resting_daemon("alice");
    alice.write_settings(&format!("metrics = \"{taken}\"\n"));
    let refused = alice.start().expect_err("the port is taken");
    assert!(refused.contains(&format!("cannot listen for /metrics at {taken}")), "{refused}");
    alice.write_settings("");
    alice.restart();
    assert_eq!(alice.process().log_lines_with("figures are told at"), 0);
}
