//! How close to what the links allow: one seeder, several downloaders, every link equally slow, in namespaces of this
//! machine; and the same with a BitTorrent client beside it.
//!
//! The bound is file ÷ rate: no downloader's link carries the file in less time, and where every downloader passes on what
//! it has, none needs more. The rate counts whole packets, of which headers, encryption and acknowledgements take 4–5 %.

mod bittorrent;
mod options;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use p2p_tests::namespace::{Network, Node, missing};
use p2p_tests::{Binaries, Daemon, World, file};

use crate::options::Options;

/// The file's name.
const NAME: &str = "file.bin";

fn main() -> ExitCode {
    let result = Options::parse(std::env::args_os().skip(1)).and_then(|options| run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Some(reason) = missing() {
        return Err(format!("cannot be measured here: {reason}"));
    }
    let binaries = Binaries::build(std::process::Stdio::inherit())?;
    let bound = options.rate.seconds(options.size);
    println!(
        "{} MiB from one seeder to {} downloaders, every link {} Mbit/s each way: bound {bound:.2} s",
        options.size >> 20,
        options.downloaders,
        options.rate.0 / 1_000_000,
    );
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 1..=options.runs {
        ours.push(report("p2pd", run, bound, &daemons(options, &binaries)?));
        if options.libtorrent {
            theirs.push(report("libtorrent", run, bound, &bittorrent::clients(options)?));
        }
    }
    summarize("p2pd", &mut ours);
    if options.libtorrent {
        summarize("libtorrent", &mut theirs);
    }
    Ok(())
}

/// One run of the product: when each downloader had the file.
fn daemons(options: &Options, binaries: &Binaries) -> Result<Vec<Duration>, String> {
    let shaped = Shaped::new(options)?;
    let tracker = shaped.network.node("tracker");
    let world = World::on(&tracker, binaries.clone())?;
    let seeder = world.user_on(&shaped.seeder, "seeder");
    let names: Vec<String> = (0..options.downloaders).map(|number| format!("downloader{number}")).collect();
    let users: Vec<Daemon> =
        names.iter().zip(&shaped.downloaders).map(|(name, node)| world.user_on(node, name)).collect();
    let original = random_file(world.folder(), options)?;
    seeder.run(&["create_group", "group", "--policy", "public"]);
    seeder.run(&["upload_file", text(&original), "group"]);

    let copies: Vec<PathBuf> = names.iter().map(|name| world.path(&format!("{name}'s copy"))).collect();
    let start = Instant::now();
    let times = std::thread::scope(|scope| {
        let downloads: Vec<_> = users
            .iter()
            .zip(&copies)
            .map(|(user, copy)| {
                scope.spawn(move || {
                    user.run(&["download_file", "group", NAME, text(copy)]);
                    start.elapsed()
                })
            })
            .collect();
        downloads.into_iter().map(|download| download.join().map_err(|_| "a download failed".to_owned())).collect()
    });
    check(&original, &copies)?;
    times
}

/// The nodes of one run, their links shaped.
struct Shaped {
    seeder: Node,
    downloaders: Vec<Node>,
    network: Network,
}

impl Shaped {
    fn new(options: &Options) -> Result<Shaped, String> {
        let network = Network::new()?;
        let seeder = network.node("seeder");
        let downloaders: Vec<Node> = (0..options.downloaders).map(|_| network.node("downloader")).collect();
        downloaders.iter().chain([&seeder]).for_each(|node| node.shape(options.rate));
        Ok(Shaped { seeder, downloaders, network })
    }
}

/// A file of the size asked for.
fn random_file(folder: &Path, options: &Options) -> Result<PathBuf, String> {
    let path = folder.join(NAME);
    file::write_random(&path, options.size, fastrand::u64(..))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// That every copy is what was shared.
fn check(original: &Path, copies: &[PathBuf]) -> Result<(), String> {
    for copy in copies {
        if !file::equal(original, copy).map_err(|error| format!("{}: {error}", copy.display()))? {
            return Err(format!("{} differs from what was shared", copy.display()));
        }
    }
    Ok(())
}

/// Prints a run; gives when the last was done, as a multiple of the bound.
fn report(who: &str, run: usize, bound: f64, times: &[Duration]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let shown: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
    let ratio = seconds.last().copied().unwrap_or_default() / bound;
    println!("{who:<10} run {run}: done after {} s, the last at {ratio:.3} × bound", shown.join(", "));
    ratio
}

/// Prints the median of all runs, with its spread.
fn summarize(who: &str, ratios: &mut [f64]) {
    ratios.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
        let median = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
        println!("{who:<10} median {median:.3} × bound ({least:.3}–{most:.3}, {} runs)", ratios.len());
    }
}

/// A path as a word of a command.
fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
