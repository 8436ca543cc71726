//! How fast the programs are, beside the least that the same work costs here, and beside other programs.
//!
//! Everything is taken in one run, in turn, so that a machine that is faster now than an hour ago is faster for all: only
//! the ratios within a run mean anything elsewhere.

mod end;
mod figures;
mod limit;
mod limit_ends;
mod meter;
mod peer;
mod product;
mod settings;
mod small_files;
mod transfer;
mod upload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use p2p_tests::size;

use crate::limit_ends::{FetchArguments, ServeArguments};

/// What a bench fails with.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures the programs of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo measure", bin_name = "cargo measure")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// A file over bare QUIC, checked and written: the least that a transfer costs here.
    Limit(transfer::LimitOptions),
    /// A file from seeders to downloaders by the real programs, with `limit` in turn, and other programs.
    Transfer(transfer::Options),
    /// Publishing a file, with the hash alone in turn.
    Upload(upload::Options),
    /// Many small files up and down; then the start, the `status` and the idleness of a daemon that has them.
    SmallFiles(small_files::Options),
    #[command(hide = true)]
    ServeLimit(ServeArguments),
    #[command(hide = true)]
    FetchLimit(FetchArguments),
}

/// What every bench is told.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Runs that count, of everything in turn; one more before them does not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Where files and homes lie: in memory where the machine has /dev/shm, so that no disk is measured.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Writes every run's figures there, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().bench {
        Bench::Limit(options) => transfer::run_limit(&options),
        Bench::Transfer(options) => transfer::run(&options),
        Bench::Upload(options) => upload::run(&options),
        Bench::SmallFiles(options) => small_files::run(&options),
        Bench::ServeLimit(arguments) => limit_ends::serve(&arguments),
        Bench::FetchLimit(arguments) => limit_ends::fetch(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    /// Writes figures where they are wanted.
    fn write_json(&self, figures: &impl serde::Serialize) -> Outcome<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(figures)?;
        Ok(std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// Makes all that is temporary from now on in the folder asked for.
    fn use_folder(&self) -> Outcome<()> {
        let memory = PathBuf::from("/dev/shm");
        let folder = self.folder.clone().or_else(|| memory.is_dir().then_some(memory));
        match folder {
            Some(folder) => tempfile::env::override_temp_dir(&folder)
                .map_err(|other| format!("temporary files lie in {} already", other.display()).into()),
            None => Ok(()),
        }
    }
}

/// A size on the command line.
fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text).filter(|bytes| *bytes > 0).ok_or_else(|| "not a size; 64MiB, 1GiB, …".to_owned())
}
