//! How long it takes until somebody who is removed from a group is cut off: real programs, the same thing many times.
//!
//! A run: alice shares a file, bob downloads it, and at a random moment in the middle alice removes him. Two things are
//! timed from the moment that `p2pctl remove_member` was started, and from when it returned: when bob's
//! `p2pctl download_file` had ended (with exit code 5, or the run fails), and when alice's daemon read the last piece
//! that it served.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use p2p_tests::{Binaries, Daemon, World, file, size};

/// How it is called.
const USAGE: &str = "\
usage: cargo run --release -p p2p-tests --bin revocation-time -- [--runs N] [--size SIZE]

Removes somebody from a group in the middle of a download, N times (20), of a file of SIZE (1GiB),
and prints how long it took until the download had ended and until nothing was served any more.";

/// Bytes that alice's daemon reads for one piece; what it reads for itself is far less.
const PIECE_BYTES: u64 = 512 << 10;

/// How often alice's daemon is looked at: the error of what is measured.
const SAMPLE: Duration = Duration::from_micros(500);

/// How long nothing may be read before the last piece was the last one.
const SILENCE: Duration = Duration::from_millis(1_500);

/// No run takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// What one run has shown. Times from the start of `remove_member`.
struct Run {
    /// Bytes that bob had when it was started.
    have_bytes: u64,
    returned: Duration,
    download_ended: Duration,
    /// `None` where nothing was read any more.
    last_piece: Option<Duration>,
}

fn main() -> ExitCode {
    let Some((runs, length)) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match measure(runs, length) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Number of runs, bytes of the file.
fn parse(mut words: impl Iterator<Item = String>) -> Option<(usize, u64)> {
    let (mut runs, mut length) = (20, 1 << 30);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => runs = words.next()?.parse().ok().filter(|runs| *runs > 0)?,
            "--size" => length = size::parse(&words.next()?).filter(|bytes| *bytes >= 64 << 20)?,
            _ => return None,
        }
    }
    Some((runs, length))
}

fn measure(runs: usize, length: u64) -> Result<(), String> {
    let binaries = Binaries::build(Stdio::inherit())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let shared = folder.path().join("holiday.mp4");
    file::write_random(&shared, length, fastrand::u64(..)).map_err(|error| error.to_string())?;
    println!("all times in milliseconds, from the start of `remove_member` and from its return");
    println!("run   had MiB  returned   download ended         last piece served");
    let mut done = Vec::new();
    for number in 1..=runs {
        let run = run(&binaries, &shared, length).map_err(|error| format!("run {number}: {error}"))?;
        println!("{}", line(&number.to_string(), Some(run.have_bytes >> 20), &figures(&run)));
        done.push(run);
    }
    println!();
    for (name, share) in [("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0)] {
        let all: Vec<[Option<f64>; 5]> = done.iter().map(figures).collect();
        let column = |place: usize| at_share(all.iter().filter_map(|run| run[place]).collect(), share);
        println!("{}", line(name, None, &std::array::from_fn(column)));
    }
    Ok(())
}

/// Returned; the download's end from start and return; the last piece from start and return.
fn figures(run: &Run) -> [Option<f64>; 5] {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let returned = ms(run.returned);
    let ended = ms(run.download_ended);
    let last = run.last_piece.map(ms);
    [Some(returned), Some(ended), Some(ended - returned), last, last.map(|last| last - returned)]
}

fn line(name: &str, have_mib: Option<u64>, figures: &[Option<f64>; 5]) -> String {
    let mut line = format!("{name:<6}{:>7}", have_mib.map_or(String::new(), |mib| mib.to_string()));
    for figure in figures {
        // Writing to a string does not fail.
        let _ = match figure {
            Some(ms) => write!(line, "{ms:>11.1}"),
            None => write!(line, "{:>11}", "-"),
        };
    }
    line
}

/// The figure that this share of them does not exceed (nearest rank).
fn at_share(mut figures: Vec<f64>, share: f64) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let rank = (share * figures.len() as f64).ceil() as usize;
    figures.get(rank.saturating_sub(1)).copied()
}

/// One removal.
fn run(binaries: &Binaries, shared: &Path, length: u64) -> Result<Run, String> {
    let world = World::at(Ipv4Addr::LOCALHOST.into(), binaries.clone())?;
    let (mut alice, bob) = (world.user("alice"), world.user("bob"));
    let path = shared.to_str().ok_or("the file's path is not text")?;
    alice.run(&["create_group", "photos", "--policy", "open"]);
    alice.run(&["upload_file", path, "photos"]);
    bob.run(&["join_group", "photos"]);
    let reads = Reads::of(alice.process().id())?;

    let copy = world.path("copy");
    let copy = copy.to_str().ok_or("the folder's path is not text")?;
    let download = start(&bob, &["download_file", "photos", "holiday.mp4", copy], Stdio::piped())?;
    let waiting = std::thread::spawn(move || (download.wait_with_output(), Instant::now()));
    let wanted = (length as f64 * (0.1 + 0.5 * fastrand::f64())) as u64;
    let have_bytes = wait_for(&bob, wanted)?;

    let removal = Instant::now();
    let status = start(&alice, &["remove_member", "photos", "bob"], Stdio::null())?.wait();
    let returned = removal.elapsed();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return Err(format!("remove_member ended with {status:?}"));
    }
    let (output, ended) = waiting.join().map_err(|_| "the download's thread has died")?;
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(5) || !said.contains("no longer a member of photos") {
        return Err(format!("the download ended with {}: {said}", output.status));
    }
    let last_piece = reads.last(removal)?;
    Ok(Run { have_bytes, returned, download_ended: ended - removal, last_piece })
}

/// Runs a command in the background.
fn start(daemon: &Daemon, words: &[&str], stderr: Stdio) -> Result<Child, String> {
    let mut command = daemon.command_in_its_home();
    command.args(words).stdout(Stdio::null()).stderr(stderr).spawn().map_err(|error| error.to_string())
}

/// Waits until bob has so many bytes; how many he has then.
fn wait_for(bob: &Daemon, wanted: u64) -> Result<u64, String> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        let downloads = bob.json(&["show_downloads"]);
        let have = downloads["downloads"][0]["have_bytes"].as_u64().unwrap_or(0);
        if have >= wanted {
            return Ok(have);
        }
    }
    Err("the download does not get on".to_owned())
}

/// What a process reads from files, looked at all the time.
struct Reads {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Instant>>,
}

impl Reads {
    fn of(process_id: u32) -> Result<Reads, String> {
        let mut counted = bytes_read(process_id).ok_or("this system does not tell what a process reads")?;
        let done = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut pieces = Vec::new();
            while !asked.load(Ordering::Relaxed) {
                if let Some(bytes) = bytes_read(process_id).filter(|bytes| *bytes >= counted + PIECE_BYTES) {
                    counted = bytes;
                    pieces.push(Instant::now());
                }
                std::thread::sleep(SAMPLE);
            }
            pieces
        });
        Ok(Reads { done, thread })
    }

    /// When a piece was read last, from `start`; waits until none has been for a while.
    fn last(self, start: Instant) -> Result<Option<Duration>, String> {
        std::thread::sleep(SILENCE);
        self.done.store(true, Ordering::Relaxed);
        let pieces = self.thread.join().map_err(|_| "the thread that looks has died")?;
        match pieces.last() {
            Some(last) if last.elapsed() < SILENCE => Err("pieces are served still".to_owned()),
            Some(last) => Ok(last.checked_duration_since(start)),
            None => Err("no piece was seen to be served".to_owned()),
        }
    }
}

/// Bytes that a process has read so far (`proc_pid_io(5)`, rchar).
fn bytes_read(process_id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process_id}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
}
