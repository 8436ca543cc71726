//! The programs under a service manager: readiness, watchdog, a socket that is bound for them, and the units themselves.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use p2p_tests::World;
use p2p_tests::binaries::Binaries;
use p2p_tests::process::{Process, clean_command};
use p2p_tests::wait::TRANSFER_DEADLINE;

/// What the manager's watchdog waits for, in microseconds: short, so that the test sees several pings.
const WATCHDOG_MICROSECONDS: &str = "200000";

/// The most that the tracker's unit may leave open, in tenths of `systemd-analyze security`'s points.
const TRACKER_EXPOSURE_MAX: &str = "15";

/// The socket at which a service manager is told.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(TRANSFER_DEADLINE)).expect("a time-out");
        Manager { socket, path }
    }

    /// `command` with what a manager sets.
    fn starts(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", WATCHDOG_MICROSECONDS);
        command
    }

    /// Waits until it is told `word`.
    fn is_told(&self, word: &str) {
        let mut message = [0; 512];
        loop {
            let bytes = self.socket.recv(&mut message).unwrap_or_else(|error| panic!("not told {word}: {error}"));
            if String::from_utf8_lossy(&message[..bytes]).lines().any(|line| line == word) {
                return;
            }
        }
    }

    /// The whole life of a program.
    fn sees(&self, mut process: Process) {
        self.is_told("READY=1");
        self.is_told("WATCHDOG=1");
        self.is_told("WATCHDOG=1");
        // A program that does nothing at all is found by its silence.
        process.signal(rustix::process::Signal::STOP);
        self.socket.set_nonblocking(true).expect("a socket");
        while self.socket.recv(&mut [0; 512]).is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket");
        process.signal(rustix::process::Signal::CONT);
        self.is_told("WATCHDOG=1");
        assert!(process.terminate().success());
        self.is_told("STOPPING=1");
    }
}

#[test]
fn a_service_manager_is_told_of_the_whole_life_of_both_daemons() {
    let world = World::new();
    let (folder, manager) = (world.folder(), Manager::new(world.folder()));
    let binaries = Binaries::get();
    let home = world.path("second tracker");
    let mut command = manager.starts(clean_command(&binaries.path("tracker"), folder));
    command.arg("--home").arg(home).arg("127.0.0.1:0");
    manager.sees(Process::start("tracker", command, world.path("second.log"), "tracker ready ").expect("ready"));

    let mut command = manager.starts(clean_command(&binaries.path("p2pd"), folder));
    command.arg("--home").arg(world.path("d")).args(["--listen", "127.0.0.1:0"]);
    command.args(["--tracker", &world.tracker.address.to_string()]);
    manager.sees(Process::start("p2pd", command, world.path("d.log"), "p2pd ready ").expect("ready"));
}

#[test]
fn a_command_at_the_managers_socket_starts_the_daemon_which_leaves_the_socket_there() {
    let program = Path::new("/usr/bin/systemd-socket-activate");
    if !program.exists() {
        eprintln!("skipped: systemd-socket-activate is not here");
        return;
    }
    let world = World::new();
    let daemon = world.resting_daemon("alice");
    let socket = daemon.socket();
    std::fs::create_dir_all(socket.parent().expect("a folder")).expect("a folder");
    let mut command = clean_command(program, world.folder());
    command.arg("-l").arg(&socket).arg(Binaries::get().path("p2pd")).arg("--home").arg(&daemon.home);
    command.args(["--listen", "127.0.0.1:0", "--tracker", &world.tracker.address.to_string()]);
    let mut process = Process::start("manager", command, world.path("manager.log"), "Listening on ").expect("listens");
    assert!(daemon.run(&["status"]).starts_with("not logged in"));
    daemon.become_known_as("alice");
    assert_eq!(daemon.json(&["status"])["user"], "alice");
    assert!(process.terminate().success());
    assert!(socket.exists(), "the manager goes on listening there");
}

/// The units as they are, but for the programs, which lie elsewhere in a test.
fn units(folder: &Path) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let programs = Binaries::get().folder();
    let mut units = Vec::new();
    for name in ["tracker.service", "p2pd.service", "p2pd.socket"] {
        let text = std::fs::read_to_string(source.join(name)).expect("reads");
        let tracker = format!("ExecStart={} ", programs.join("tracker").display());
        let text = text.replace("ExecStart=tracker ", &tracker).replace("Documentation=", "#");
        units.push(folder.join(name));
        std::fs::write(folder.join(name), text).expect("writes");
    }
    units
}

fn analyze(arguments: &[&str], unit: &Path) {
    let mut command = Command::new("systemd-analyze");
    // A user's manager wants to know where its sockets would be.
    command.args(arguments).arg(unit).env("XDG_RUNTIME_DIR", unit.parent().expect("a folder"));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: systemd-analyze is not here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} {}: {said}{errors}", unit.display());
    // Unknown keys are no error to it, only something that it says.
    assert_eq!(errors, "", "{arguments:?} {}", unit.display());
}

#[test]
fn the_units_are_understood_and_leave_little_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = units(folder.path());
    for unit in &units {
        let user = if unit.ends_with("tracker.service") { "--system" } else { "--user" };
        analyze(&["verify", "--recursive-errors=no", user], unit);
    }
    analyze(&["security", "--offline=true", &format!("--threshold={TRACKER_EXPOSURE_MAX}")], &units[0]);
}

#[test]
fn every_setting_of_a_unit_is_explained() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for name in ["tracker.service", "p2pd.service", "p2pd.socket"] {
        let text = std::fs::read_to_string(source.join(name)).expect("reads");
        let sections = text.split("\n\n").filter(|part| part.contains('=') && !part.contains("[Unit]"));
        for part in sections.filter(|part| !part.contains("[Install]")) {
            assert!(part.lines().any(|line| line.starts_with('#')), "{name}: {part}");
        }
    }
}

#[test]
fn manual_pages_and_completions_come_from_the_programs() {
    let world = World::new();
    let alice = world.user("alice");
    alice.run(&["create_group", "photos"]);
    let file = p2p_tests::file::random_file(world.folder(), "beach.jpg", 1000);
    alice.run(&["upload_file", crate::text(&file), "photos"]);

    let pages = world.path("pages");
    alice.run(&["man", crate::text(&pages)]);
    for page in ["p2pctl.1", "p2pctl-download_file.1", "p2pd.1", "tracker.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH "), "{page}");
    }
    assert!(alice.run(&["man"]).contains(".TH p2pctl 1"));
    for program in ["p2pd", "tracker"] {
        let mut command = clean_command(&Binaries::get().path(program), world.folder());
        let set = [("P2P_HOME", "/h"), ("P2P_TRACKER", "127.0.0.1:9"), ("P2P_LISTEN", "127.0.0.1:0")];
        let output = command.arg("--man").envs(set).output().expect("runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "{program}, whatever else is set");
    }

    // In a real shell, as Tab does it.
    let completed = |words: &[&str]| {
        let mut script = clean_command(Path::new("/bin/bash"), world.folder());
        let path = format!("{}:/usr/bin:/bin", Binaries::get().folder().display());
        script.env("PATH", path).env("P2P_HOME", &alice.home).arg("--norc").arg("-c").arg(
            "set -eu; eval \"$(p2pctl completions bash)\"; COMP_WORDS=(p2pctl \"$@\"); COMP_CWORD=$#; COMP_TYPE=9
             _clap_complete_p2pctl p2pctl \"${!#}\" p2pctl; printf '%s\\n' \"${COMPREPLY[@]}\"",
        );
        let output = script.arg("bash").args(words).output().expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed(&["downl"]), ["download_file", "download"]);
    assert_eq!(completed(&["list_files", "ph"]), ["photos"]);
    assert_eq!(completed(&["download_file", "photos", "be"]), ["beach.jpg"]);
    assert_eq!(completed(&["remove_member", "photos", "al"]), ["alice"]);
}
