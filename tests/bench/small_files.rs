//! Many small files: a command for each, several at a time; and then a daemon that has them all: its start, its `status`, and
//! what it takes when nobody asks for anything.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use p2p_tests::{Binaries, Daemon, World, file, usage, wait};
use serde::Serialize;

use crate::figures::Spread;
use crate::limit::text;
use crate::meter::{Meter, Run};
use crate::{Common, Outcome, parse_size};

/// Commands that run at the same time.
const COMMANDS: usize = 8;

/// How long an idle daemon is looked at.
const IDLE: Duration = Duration::from_secs(10);

/// How often `status` is asked for.
const STATUS_RUNS: u32 = 50;

/// The command line.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// How many files.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: u32,
    /// Bytes of each.
    #[arg(long, default_value = "16KiB", value_parser = parse_size)]
    size: u64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct SmallFiles {
    files: u32,
    bytes_each: u64,
    upload: Run,
    download: Run,
    status_ms: Vec<f64>,
    start_ms: Vec<f64>,
    idle_processor_percent: Option<f64>,
    idle_resident_mib: Option<f64>,
}

/// Measures all of it.
pub fn run(options: &Options) -> Outcome<()> {
    options.common.use_folder()?;
    let world = World::at([127, 0, 0, 1].into(), Binaries::build(Stdio::inherit())?)?;
    let (mut seeder, mut downloader) = (world.user("seeder"), world.user("downloader"));
    seeder.run(&["create_group", "group", "--policy", "public"]);
    let (originals, copies) = (world.path("originals"), world.path("copies"));
    [&originals, &copies].into_iter().try_for_each(std::fs::create_dir)?;
    let names: Vec<String> = (0..options.files).map(|number| format!("{number:06}.bin")).collect();
    for name in &names {
        file::write_random(&originals.join(name), options.size, fastrand::u64(..))?;
    }
    let original = |name: &String| originals.join(name);
    let upload = commands(&mut seeder, true, &names, |name| ["upload_file".into(), original(name), "group".into()])?;
    let copy = |name: &String| ["download_file".into(), "group".into(), name.into(), copies.join(name)];
    let download = commands(&mut downloader, false, &names, copy)?;
    for name in &names {
        if !file::equal(&originals.join(name), &copies.join(name))? {
            return Err(format!("the copy of {name} differs").into());
        }
    }

    let mut status_ms = Vec::new();
    for _ in 0..STATUS_RUNS {
        let start = Instant::now();
        seeder.run(&["status"]);
        status_ms.push(milliseconds(start));
    }
    let mut start_ms = Vec::new();
    for _ in 0..options.common.runs {
        seeder.kill();
        let start = Instant::now();
        seeder.restart();
        start_ms.push(milliseconds(start));
    }
    // What it does after its start is not idleness yet.
    wait::remain(IDLE);
    let process = seeder.process().id();
    let before = usage::processor_time(process);
    wait::remain(IDLE);
    let spent = usage::processor_time(process).zip(before).map(|(now, before)| now.saturating_sub(before));
    report(
        &SmallFiles {
            files: options.files,
            bytes_each: options.size,
            upload,
            download,
            status_ms,
            start_ms,
            idle_processor_percent: spent.map(|spent| spent.as_secs_f64() / IDLE.as_secs_f64() * 100.0),
            idle_resident_mib: usage::resident_bytes(process).map(|bytes| bytes as f64 / f64::from(1 << 20)),
        },
        &options.common,
    )
}

/// Gives a daemon a command for each name, [`COMMANDS`] at a time.
fn commands<const N: usize>(
    daemon: &mut Daemon,
    sends: bool,
    names: &[String],
    words: impl Fn(&String) -> [PathBuf; N] + Sync,
) -> Outcome<Run> {
    let process = daemon.process().id();
    let daemon = &*daemon;
    let next = AtomicU32::new(0);
    let work = || -> Outcome<()> {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let words = words(name);
            daemon.run(&words.iter().map(|word| text(word)).collect::<Outcome<Vec<_>>>()?);
        }
        Ok(())
    };
    let meter = if sends { Meter::start(&[process], &[]) } else { Meter::start(&[], &[process]) };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..COMMANDS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a command failed")?)
    })?;
    Ok(meter.stop())
}

fn report(figures: &SmallFiles, common: &Common) -> Outcome<()> {
    let SmallFiles { files, bytes_each, upload, download, status_ms, start_ms, .. } = figures;
    println!("{files} files of {bytes_each} bytes, a command for each, {COMMANDS} commands at a time");
    for (verb, run, daemon) in
        [("upload_file", upload, upload.seeders), ("download_file", download, download.downloaders)]
    {
        let rate = f64::from(*files) / run.wall_s;
        println!("{verb}: {:.2} s, {rate:.0} files/s, peak {:.0} MiB", run.wall_s, daemon.peak_mib);
    }
    for (what, figures) in [("status, whole command", status_ms), ("start until ready, killed before", start_ms)] {
        if let Some(Spread { least, median, most }) = Spread::of(figures.iter().copied()) {
            println!("{what}: {median:.1} ms ({least:.1}–{most:.1})");
        }
    }
    if let (Some(percent), Some(mib)) = (figures.idle_processor_percent, figures.idle_resident_mib) {
        println!("idle with {files} shares: {percent:.2} % of a processor, {mib:.0} MiB");
    }
    common.write_json(figures)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
