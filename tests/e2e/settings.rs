//! Settings: a file under flags and environment, refused by its line, read again on SIGHUP; logs as JSON.

use std::path::Path;
use std::process::{Command, Output};

use p2p_tests::binaries::Binaries;
use p2p_tests::process::{Process, clean_command};
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{number, text};

/// A program that has `home` and nothing else said to it.
fn program(world: &World, name: &str, home: &Path) -> Command {
    let mut command = clean_command(&Binaries::get().path(name), world.folder());
    command.arg("--home").arg(home);
    command
}

fn check(world: &World, name: &str, home: &Path) -> Output {
    program(world, name, home).arg("--check-config").output().expect("runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The settings file of a program in a home, which begins to exist.
fn settings(home: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = home.join("config").join(name);
    std::fs::create_dir_all(home.join("config")).expect("a folder");
    std::fs::write(&path, text).expect("writes");
    path
}

/// The down and up limits that a daemon goes by.
fn limits(daemon: &Daemon) -> Value {
    let limits = daemon.json(&["limit"]);
    json!([limits["up_limit"], limits["down_limit"]])
}

#[test]
fn a_file_says_what_flags_and_environment_do_not() {
    let world = World::new();
    let address = world.tracker.address;
    let home = world.path("d");
    settings(
        &home,
        "p2pd.toml",
        &format!("listen = \"{}:0\"\ntrackers = [\"{address}\"]\nup_limit = \"1MB\"", address.ip()),
    );
    let line = |process: &Process| process.ready_line.clone();
    let start = |command, log: &str| Process::start("p2pd", command, world.path(log), "p2pd ready ").expect("ready");
    let filed = start(program(&world, "p2pd", &home), "filed.log");
    assert!(line(&filed).contains(&format!(" {}:", address.ip())), "{}", line(&filed));
    let daemon = world.resting_daemon("d");
    assert_eq!(limits(&daemon), json!([1_000_000, 0]));
    eventually("the file's tracker answers", || {
        (daemon.json(&["status"])["trackers"][0]["state"] == "ok").then_some(())
    });
    drop(filed);
    let mut command = program(&world, "p2pd", &home);
    command.env("P2P_LISTEN", "127.0.0.1:0").env("P2P_UP_LIMIT", "2MB").args(["--up-limit", "3MB"]);
    let flagged = start(command, "flagged.log");
    assert!(line(&flagged).contains(" 127.0.0.1:"), "the environment is over the file: {}", line(&flagged));
    assert_eq!(limits(&daemon), json!([3_000_000, 0]), "a flag is over both");

    let home = world.path("t");
    settings(&home, "tracker.toml", &format!("listen = \"{}:0\"", address.ip()));
    let command = program(&world, "tracker", &home);
    let tracker = Process::start("tracker", command, world.path("t.log"), "tracker ready ").expect("ready");
    assert!(line(&tracker).contains(&format!(" {}:", address.ip())), "{}", line(&tracker));
}

#[test]
fn settings_that_are_wrong_are_refused_by_their_line_and_nothing_is_made() {
    let world = World::new();
    for (name, file) in [("p2pd", "p2pd.toml"), ("tracker", "tracker.toml")] {
        let home = world.path(&format!("{name} alone"));
        assert_eq!(check(&world, name, &home).status.code(), Some(0), "{name} needs no file");
        let path = settings(&home, file, "\n# where\nlisten = \"127.0.0.1:0\"\nlog_level = \"warn\"\n");
        for output in [check(&world, name, &home), program(&world, name, &home).output().expect("runs")] {
            assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
            let expected = format!("{name}: {}: line 4: there is no setting `log_level`\n", text(&path));
            assert_eq!(said(&output), format!("{expected}hint: did you mean `log`?\n"), "{name}");
        }
        assert_eq!(std::fs::read_dir(&home).expect("a folder").count(), 1, "{name} has made nothing but read");
        settings(&home, file, "listen = \"127.0.0.1:0\"\nlog = \"warn\"\n");
        let output = check(&world, name, &home);
        assert_eq!(
            (output.status.code(), said(&output)),
            (Some(0), format!("{}: the settings are right\n", text(&path)))
        );
        let output = program(&world, name, &home).args(["--config", "/nonexistent.toml"]).output().expect("runs");
        assert_eq!(output.status.code(), Some(9), "{name}: {}", said(&output));
    }
    let home = world.path("p2pd alone");
    settings(&home, "p2pd.toml", "on_complete = \"/nonexistent\"");
    assert_eq!(check(&world, "p2pd", &home).status.code(), Some(9));
}

#[test]
fn a_daemon_reads_its_settings_again_and_keeps_what_it_has_where_they_are_wrong() {
    let world = World::new();
    let mut daemon = world.resting_daemon("alice");
    daemon.write_settings("up_limit = \"1MB\"\ndown_limit = \"2MB\"\n");
    daemon.restart();
    assert_eq!(limits(&daemon), json!([1_000_000, 2_000_000]));
    let reload = |daemon: &mut Daemon, settings: &str, known: usize, line: &str| {
        daemon.write_settings(settings);
        daemon.process().signal(Signal::HUP);
        daemon.process().logs(known, line)
    };

    let right =
        "up_limit = \"1MB\"\ndown_limit = \"3MB\"\nactive_downloads = 2\nlog_format = \"json\"\nlog = \"debug\"\n";
    let line = reload(&mut daemon, right, 0, "settings reloaded");
    assert!(line.contains("changed=\"down_limit, active_downloads, log\" needs_restart=\"log_format\""), "{line}");
    eventually("the limit holds", || (limits(&daemon) == json!([1_000_000, 3_000_000])).then_some(()));

    // What a command has said since is left alone by a file that says nothing new of it.
    daemon.run(&["limit", "--up", "5MB"]);
    let line = reload(&mut daemon, &right.replace("active_downloads = 2\n", ""), 1, "settings reloaded");
    assert!(line.contains("changed=\"active_downloads\" "), "{line}");
    assert_eq!(limits(&daemon), json!([5_000_000, 3_000_000]));

    let line = reload(&mut daemon, "down_limit = \"4MB\"\nuplimit = \"1MB\"\n", 0, "settings not reloaded");
    assert!(line.contains("nothing has changed") && line.contains("p2pd.toml: line 2: there is no setting"), "{line}");
    assert!(line.contains("ERROR") && line.contains("did you mean `up_limit`?"), "{line}");
    assert_eq!(limits(&daemon), json!([5_000_000, 3_000_000]));

    daemon.write_settings(right);
    daemon.stop();
    daemon.restart();
    assert_eq!(limits(&daemon), json!([1_000_000, 3_000_000]), "at a start the settings hold");
}

#[test]
fn a_tracker_reads_its_settings_again_while_daemons_are_connected() {
    let mut world = World::new();
    let alice = world.user("alice");
    world.tracker.write_settings("grant_life = 60\nlog = \"warn,audit=info\"\nlisten = \"127.0.0.1:1\"\n");
    world.tracker.process().signal(Signal::HUP);
    let line = world.tracker.process().logs(0, "settings reloaded");
    // Where it listens is said on its command line, whatever the file says.
    assert!(line.ends_with("changed=\"grant_life, log\""), "{line}");
    alice.run(&["create_group", "photos"]);
    world.tracker.process().logs(0, "audit: action=create_group");
    world.tracker.write_settings("grant_life = 6\n");
    world.tracker.process().signal(Signal::HUP);
    let line = world.tracker.process().logs(0, "settings not reloaded");
    assert!(line.contains("tracker.toml: line 1: ") && line.contains("10 to 600"), "{line}");
    world.tracker.write_settings("grant_life = 60\n");
    world.tracker.process().signal(Signal::HUP);
    let line = world.tracker.process().logs(1, "settings reloaded");
    assert!(line.contains("changed=\"log\""), "{line}");
    assert_eq!(alice.json(&["status"])["trackers"][0]["state"], "ok");
}

#[test]
fn a_log_in_json_is_one_document_a_line_with_nothing_unseen_in_it() {
    let mut world = World::with_tracker(&["--log-format", "json"]);
    let mut alice = world.resting_daemon("alice");
    alice.write_settings("log_format = \"json\"\n");
    alice.restart();
    alice.become_known_as("alice");
    let file = p2p_tests::file::random_file(world.folder(), "a\u{202e}b", 10);
    alice.run(&["create_group", "photos"]);
    alice.run(&["upload_file", text(&file), "photos", "--name", "plain"]);
    std::fs::remove_file(&file).expect("removes");
    eventually("the file is missed", || (number(&alice.json(&["status"]), "shares_stopped") == 1).then_some(()));
    for (log, word) in [(alice.process().log(), "a\\u202eb"), (world.tracker.process().log(), "\"target\":\"audit\"")] {
        // The ready line is for whoever started the program, on its standard output.
        let lines = log.lines().filter(|line| !line.starts_with("p2pd ready ") && !line.starts_with("tracker ready "));
        for line in lines {
            let document: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(document["level"].is_string() && document["timestamp"].is_string(), "{line}");
        }
        assert!(log.contains(word) && !log.contains('\u{202e}'), "{word}: {log}");
    }
}
