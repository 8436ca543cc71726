//! A file from who has it to who wants it: by the programs, by bare QUIC, and by other programs, in turn.

use clap::Args;
use p2p_tests::file;
use p2p_tests::namespace::{Network, Node, missing};

use crate::figures::{Figures, Program};
use crate::limit::Limit;
use crate::product::Product;
use crate::settings::Settings;
use crate::{Common, Outcome, parse_size, peer};

/// The command line of the bare transfer.
#[derive(Debug, Args)]
pub struct LimitOptions {
    #[command(flatten)]
    common: Common,
    /// Bytes of the file.
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// Other settings to take in turn with those below, as the words that would set them; may be given again.
    #[arg(long, value_name = "'WORDS'", allow_hyphen_values = true)]
    versus: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// The command line of the transfer.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Bytes of the file.
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// Daemons that have the file.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50))]
    seeders: u8,
    /// Daemons that want it, all at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50))]
    downloaders: u8,
    /// Every daemon in a network namespace of its own, behind a cable of MTU 1500 (root).
    #[arg(long)]
    network: bool,
    /// Another program in turn: a command whose last line of figures has `wall=SECONDS scpu=SECONDS ccpu=SECONDS
    /// hwm=MIB/MIB` for a file of the same size; may be given again.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = peer::split)]
    peer: Vec<(String, String)>,
    #[command(flatten)]
    settings: Settings,
}

/// On which node of a network each program runs; on none, where there is no network.
pub struct Places {
    pub tracker: Option<Node>,
    pub seeders: Vec<Option<Node>>,
    pub downloaders: Vec<Option<Node>>,
    _network: Option<Network>,
}

impl Places {
    fn new(options: &Options) -> Outcome<Places> {
        let network = match (options.network, missing()) {
            (true, Some(reason)) => return Err(format!("no network here: {reason}").into()),
            (true, None) => Some(Network::new()?),
            (false, _) => None,
        };
        let node = |name: &str| network.as_ref().map(|network| network.node(name));
        Ok(Places {
            tracker: node("tracker"),
            seeders: (0..options.seeders).map(|_| node("seeder")).collect(),
            downloaders: (0..options.downloaders).map(|_| node("downloader")).collect(),
            _network: network,
        })
    }
}

/// Measures the bare transfer alone.
pub fn run_limit(options: &LimitOptions) -> Outcome<()> {
    options.common.use_folder()?;
    let folder = tempfile::tempdir()?;
    let original = folder.path().join("original");
    file::write_random(&original, options.size, fastrand::u64(..))?;
    let mut programs: Vec<Program<'_>> = Vec::new();
    let others = options.versus.iter().map(|words| Ok((words.clone(), Settings::parse(words)?)));
    let all = [Ok(("limit".to_owned(), options.settings.clone()))].into_iter().chain(others);
    for named in all {
        let (name, settings) = named.map_err(|error: clap::Error| error.to_string())?;
        let mut limit = Limit::start(&settings, &original, folder.path(), None, vec![None])?;
        programs.push((name, Box::new(move || limit.run())));
    }
    let what = format!("{} MiB over bare QUIC", options.size >> 20);
    let figures = Figures::take(what, options.size, options.common.runs, &mut programs)?;
    figures.report(&options.common)
}

/// Measures the programs.
pub fn run(options: &Options) -> Outcome<()> {
    options.common.use_folder()?;
    let hash = options.settings.hash.word().ok_or("the programs always check what they receive")?;
    let places = Places::new(options)?;
    let mut product = Product::start(&places, options.size, hash)?;
    let downloaders = places.downloaders.iter().map(Option::as_ref).collect();
    let seeder = places.seeders.first().and_then(Option::as_ref);
    let mut limit = Limit::start(&options.settings, &product.original(), &product.folder(), seeder, downloaders)?;
    let mut programs: Vec<Program<'_>> =
        vec![("limit".to_owned(), Box::new(move || limit.run())), ("p2pd".to_owned(), Box::new(move || product.run()))];
    for (name, command) in &options.peer {
        programs.push((name.clone(), Box::new(move || peer::run(command))));
    }
    let what = format!(
        "{} MiB, {} seeder(s) to {} downloader(s){}, {hash}",
        options.size >> 20,
        options.seeders,
        options.downloaders,
        if options.network { ", each behind a cable of MTU 1500" } else { "" },
    );
    let figures = Figures::take(what, options.size, options.common.runs, &mut programs)?;
    figures.report(&options.common)
}
