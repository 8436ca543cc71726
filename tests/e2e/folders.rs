//! The programs' own folders: nothing is kept in, or read from, one that somebody else could have put there.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use p2p_tests::World;
use p2p_tests::binaries::Binaries;
use p2p_tests::file::mode;
use p2p_tests::process::{Process, clean_command};

use crate::refusals_files::set_mode;
use crate::text;

/// Some user of the machine who is not this one.
const SOMEBODY: u32 = 65_534;

/// Runs a program that ends by itself, on a home.
fn run(world: &World, program: &str, home: &Path, words: &[&str]) -> Output {
    let mut command = clean_command(&Binaries::get().path(program), world.folder());
    command.arg("--home").arg(home).args(words).output().expect("runs")
}

fn refused(output: &Output, exit_code: i32, message: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{said}");
    assert!(said.contains(message) && said.contains("hint: "), "{said}");
}

fn folder(world: &World, name: &str) -> PathBuf {
    let path = world.path(name);
    fs::create_dir(&path).expect("a folder");
    set_mode(&path, 0o755);
    path
}

/// A link that somebody else has made.
fn their_link(target: &Path, link: &Path) {
    symlink(target, link).expect("a link");
    lchown(link, Some(SOMEBODY), None).expect("root may");
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can make links for somebody else");
    }
    is_root
}

#[test]
fn a_home_that_others_may_write_in_is_refused() {
    let world = World::new();
    let home = folder(&world, "home");
    for open in [0o777, 0o770] {
        set_mode(&home, open);
        for (program, words) in [("p2pd", &["--listen", "127.0.0.1:0"][..]), ("tracker", &["127.0.0.1:0"])] {
            refused(&run(&world, program, &home, words), 9, &format!("`chmod go-w {}`", home.display()));
        }
        // It starts no daemon there, nor leaves a log.
        refused(&run(&world, "p2pctl", &home, &["status"]), 9, "others may change");
        assert_eq!(fs::read_dir(&home).expect("reads").count(), 0);
        assert_eq!(mode(&home), open);
    }
    let state = folder(&world, "home/state");
    set_mode(&home, 0o755);
    set_mode(&state, 0o775);
    refused(&run(&world, "p2pd", &home, &[]), 9, text(&state));
}

/// As in a container, where folders are often everybody's, and nobody else is there.
#[test]
fn a_folder_of_all_is_taken_where_all_are_trusted() {
    let world = World::new();
    let all = folder(&world, "all");
    set_mode(&all, 0o777);
    for (number, home) in [all.clone(), all.join("home")].into_iter().enumerate() {
        refused(&run(&world, "tracker", &home, &["127.0.0.1:0"]), 9, "P2P_TRUST_FOLDERS=1");
        let mut command = clean_command(&Binaries::get().path("tracker"), world.folder());
        command.arg("--home").arg(&home).arg("127.0.0.1:0").env("P2P_TRUST_FOLDERS", "1");
        let log = world.path(&format!("log-{number}"));
        Process::start("a trusting tracker", command, log, "tracker ready ").expect("starts");
        assert_eq!(mode(&home.join("tracker")), 0o700, "what it makes is its own all the same");
    }
}

#[test]
fn somebody_elses_link_in_the_place_of_a_folder_is_not_followed() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let (home, elsewhere) = (folder(&world, "home"), folder(&world, "elsewhere"));
    their_link(&elsewhere, &home.join("run"));
    refused(
        &run(&world, "p2pd", &home, &["--listen", "127.0.0.1:0"]),
        9,
        "is a symbolic link that user 65534 has made",
    );
    their_link(&elsewhere, &world.path("linked"));
    for (program, words) in [("p2pd", &["--listen", "127.0.0.1:0"][..]), ("tracker", &["127.0.0.1:0"])] {
        refused(&run(&world, program, &world.path("linked"), words), 9, "is a symbolic link");
    }
    assert_eq!((mode(&elsewhere), fs::read_dir(&elsewhere).expect("reads").count()), (0o755, 0), "left as it was");
    // Nor is a daemon believed that is found by one, though it is this user's own.
    let alice = world.daemon("alice");
    let other = folder(&world, "other");
    their_link(&alice.home.join("run"), &other.join("run"));
    refused(&run(&world, "p2pctl", &other, &["--no-start", "status"]), 7, "is a symbolic link");
}

#[test]
fn a_users_own_links_lead_on() {
    let world = World::new();
    let disk = folder(&world, "disk");
    symlink(&disk, world.path("alice")).expect("a link");
    for name in ["state", "run"] {
        fs::create_dir(disk.join(format!("real {name}"))).expect("a folder");
        symlink(format!("real {name}"), disk.join(name)).expect("a link");
    }
    let mut alice = world.user("alice");
    alice.run(&["create_group", "photos"]);
    assert!(disk.join("real state/identity.key").exists());
    assert_eq!(mode(&disk.join("real run")), 0o700);
    alice.stop();
    alice.restart();
    alice.run(&["status"]);
}
