//! Rules of the source tree that no compiler knows, read from the files themselves.

use std::fs;
use std::path::{Path, PathBuf};

use crate::binaries::workspace;
use crate::file::files_under;

/// The cores that get time and randomness as arguments and touch nothing.
const CORES: &[&str] = &["tracker/src/state", "daemon/src/engine"];

/// What a core must not name. An address (`SocketAddr`, `IpAddr`) is data, a socket is not; a generator with a seed is
/// an argument, one that seeds itself is not.
const FORBIDDEN_IN_CORES: &[&str] = &[
    "tokio",
    "quinn",
    "redb",
    "std::fs",
    "std::thread",
    "std::process",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant::now",
    "SystemTime::now",
    "Rng::new()",
    "Rng::default()",
    "fastrand::u",
    "fastrand::i",
    "fastrand::bool",
    "fastrand::choice",
    "fastrand::shuffle",
    "rand::rng",
    "thread_rng",
    "OsRng",
    "getrandom",
];

/// The parts of the daemon that do what the core decides, each without knowing the others.
const SHELLS: &[&str] = &["control", "hooks", "net", "store", "tracker_link"];

/// The folders of the workspace's crates.
const CRATES: &[&str] = &["proto", "proto/host", "tracker", "daemon", "ctl", "tests"];

/// A source file, by its path from the workspace's root.
struct Source {
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = workspace().join(folder);
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let files = if root.is_dir() { files_under(&root) } else { Vec::new() };
    let mut sources: Vec<Source> = files.into_iter().filter(is_rust).map(|path| read(&path)).collect();
    // A module may also be a file beside its folder.
    let beside = root.with_extension("rs");
    if beside.is_file() {
        sources.push(read(&beside));
    }
    sources
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("source is UTF-8");
    let path = path.strip_prefix(workspace()).unwrap_or(path).display().to_string();
    Source { path, text }
}

/// The lines that are code, numbered from 1: comments may name what they explain.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The code before a file's tests, and none of a file that holds only tests.
fn shipped(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let is_test = source.path.contains("/tests/") || source.path.ends_with("/tests.rs");
    let before = source.text.split("#[cfg(test)]\nmod tests {").next().filter(|_| !is_test);
    code_lines(before.unwrap_or_default())
}

fn faults_in(sources: &[Source], forbidden: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (number, line) in shipped(source) {
            faults.extend(
                forbidden
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{number}: `{word}` in `{}`", source.path, line.trim())),
            );
        }
    }
    faults
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_cores_touch_nothing_and_ask_nobody_for_time_or_chance() {
    for core in CORES {
        let sources = sources(core);
        assert!(!sources.is_empty(), "{core} is not there: has it moved?");
        assert_none(&faults_in(&sources, FORBIDDEN_IN_CORES));
    }
}

#[test]
fn the_daemons_shells_never_import_each_other() {
    for shell in SHELLS {
        let sources = sources(&format!("daemon/src/{shell}"));
        assert!(!sources.is_empty(), "{shell} is not there: has it moved?");
        let others = SHELLS.iter().filter(|other| *other != shell);
        let others: Vec<String> =
            others.flat_map(|other| [format!("crate::{other}"), format!("super::super::{other}")]).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        assert_none(&faults_in(&sources, &others));
    }
}

#[test]
fn every_source_file_begins_by_saying_what_it_owns() {
    let mut faults = Vec::new();
    for source in CRATES.iter().flat_map(|folder| sources(folder)) {
        let first = source.text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|sentence| sentence.trim().len() < 10) {
            faults.push(format!("{} begins with `{first}`", source.path));
        }
    }
    assert_none(&faults);
}

#[test]
fn no_test_is_ignored() {
    // Spelled in two halves, or this line would be found.
    let ignored = ["#[ign", "ore"].concat();
    let mut faults = Vec::new();
    for source in CRATES.iter().flat_map(|folder| sources(folder)) {
        faults.extend(
            code_lines(&source.text)
                .filter(|(_, line)| line.contains(&ignored))
                .map(|(number, _)| format!("{}:{number}", source.path)),
        );
    }
    assert_none(&faults);
}

#[test]
fn a_forbidden_word_would_be_found() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let found = |path: &str, text: &str| faults_in(&[source(path, text)], FORBIDDEN_IN_CORES).len();
    assert_eq!(found("engine/a.rs", "//! Owns.\nuse tokio::time;\nlet now = Instant::now();\n"), 2);
    assert_eq!(found("engine/a.rs", "//! Not tokio.\n    /// nor quinn\nuse std::net::SocketAddr;\n"), 0);
}
