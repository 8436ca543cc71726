//! `cargo demo`: the quick start with the real programs, as a transcript that a newcomer can read and repeat.

mod options;
mod transcript;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use p2p_tests::{Binaries, Daemon, World, file};
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;
use crate::transcript::Transcript;

/// The password of both people in the story.
const PASSWORD: &str = "open-sesame";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    eprintln!("Building tracker, p2pd and p2pctl (the first time takes minutes) …");
    let binaries = Binaries::build(Stdio::inherit())?;
    // Ctrl-C reaches the programs; they end, and this one goes on to tidy up after them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let _guard = runtime.enter();
    let _interrupts = signal(SignalKind::interrupt()).map_err(text)?;

    let mut world = World::at(Ipv4Addr::LOCALHOST.into(), binaries.clone())?;
    let shared = shared_file(options, &world)?;
    let length = shared.metadata().map_err(|error| format!("{}: {error}", shared.display()))?.len();
    let name = shared.file_name().and_then(|name| name.to_str()).ok_or("the file's name is not text")?.to_owned();

    let mut say = Transcript::new();
    say.title(&format!("Two people, one tracker, and {} to share: {name}", transcript::size(length)));
    say.note("The tracker knows who belongs to which group. It never sees a file or a password.");
    say.background(&format!("tracker {}", world.tracker.address), &world.tracker.process().ready_line);
    let mut alice = person(&world, "alice", &mut say)?;
    let mut bob = person(&world, "bob", &mut say)?;

    say.note("Alice makes a group that everybody may read, and shares the file from where it lies.");
    say.command("alice", &alice, &["create_user", "alice", PASSWORD])?;
    say.command("alice", &alice, &["login", "alice", PASSWORD])?;
    say.command("alice", &alice, &["create_group", "photos", "--policy", "public"])?;
    let path = shared.to_str().ok_or("the file's path is not text")?;
    let hashing = say.command("alice", &alice, &["upload_file", path, "photos"])?;

    say.note("Bob finds it and downloads it from Alice: encrypted, and every piece verified.");
    say.command("bob", &bob, &["create_user", "bob", PASSWORD])?;
    say.command("bob", &bob, &["login", "bob", PASSWORD])?;
    say.command("bob", &bob, &["list_groups"])?;
    say.command("bob", &bob, &["list_files", "photos"])?;
    let copy = world.path(&format!("bob-{name}"));
    let mut download = vec!["download_file", "photos", &name, copy.to_str().ok_or("the folder's path is not text")?];
    if name.contains(':') {
        // Else what stands before it would be taken for the owner.
        download.extend(["--owner", "alice"]);
    }
    let transfer = say.command("bob", &bob, &download)?;
    say.command("bob", &bob, &["show_downloads"])?;

    if !file::equal(&shared, &copy).map_err(text)? {
        return Err(format!("{} and {} differ", shared.display(), copy.display()));
    }
    say.result(length, hashing, transfer);
    if options.keep {
        leave_running(&mut world, &mut [&mut alice, &mut bob], &binaries);
    }
    Ok(())
}

/// The file given, or random bytes made on the spot.
fn shared_file(options: &Options, world: &World) -> Result<PathBuf, String> {
    if let Some(path) = &options.file {
        return std::path::absolute(path).map_err(text);
    }
    let path = world.path("holiday.mp4");
    eprintln!("Making {} of random bytes …", transcript::size(options.size));
    file::write_random(&path, options.size, fastrand::u64(..)).map_err(text)?;
    Ok(path)
}

/// A daemon of that name, which is ready.
fn person(world: &World, name: &str, say: &mut Transcript) -> Result<Daemon, String> {
    let mut daemon = world.resting_daemon(name);
    daemon.start()?;
    let command = format!("p2pd --tracker {}", world.tracker.address);
    say.background_of(name, &command, &daemon.process().ready_line);
    Ok(daemon)
}

/// Says how to go on and how to stop.
fn leave_running(world: &mut World, daemons: &mut [&mut Daemon], binaries: &Binaries) {
    let mut process_ids = vec![world.tracker.process().id()];
    world.tracker.process().leave_running();
    for daemon in daemons.iter_mut() {
        daemon.process().leave_running();
        process_ids.push(daemon.process().id());
    }
    let folder = world.keep();
    let p2pctl = binaries.path("p2pctl");
    println!("\nAll of it goes on running in {}. Try:\n", folder.display());
    let command = |daemon: &Daemon, words: &str| println!("  {} --home {} {words}", show(&p2pctl), show(&daemon.home));
    for daemon in daemons.iter() {
        command(daemon, "status");
    }
    println!("\nTo stop it and to delete everything:\n");
    let process_ids: Vec<String> = process_ids.iter().map(u32::to_string).collect();
    println!("  kill {}; rm -r {}", process_ids.join(" "), show(&folder));
}

/// A path as a shell takes it.
fn show(path: &Path) -> String {
    transcript::quoted(&path.to_string_lossy())
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
