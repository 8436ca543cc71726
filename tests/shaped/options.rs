//! The benchmark's command line.

use std::ffi::OsString;

use p2p_tests::namespace::Rate;
use p2p_tests::size;

/// How it is called.
const USAGE: &str = "\
usage: cargo run --release -p p2p-tests --bin shaped -- [--downloaders N] [--rate RATE] [--size SIZE] [--runs N] [--peer libtorrent]

One seeder and N downloaders (4), each in a network namespace behind a link of RATE each way (200mbit, 1gbit, …), and a
file of SIZE (256MiB): how long until every downloader has all of it, as a multiple of file ÷ rate, in N runs (3).
--peer runs the same case beside it with a BitTorrent client, run for run: libtorrent, by Debian's python3-libtorrent.
Needs root, and the programs ip, tc and nft.";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Who downloads at the same time.
    pub downloaders: usize,
    /// Of every link, each way.
    pub rate: Rate,
    /// Bytes of the file.
    pub size: u64,
    /// How often it is done.
    pub runs: usize,
    /// Whether libtorrent is put beside it.
    pub libtorrent: bool,
}

impl Options {
    /// The words of the command line, without the program's name. The error is what to print.
    pub fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Options, String> {
        let mut options =
            Options { downloaders: 4, rate: Rate(200_000_000), size: 256 << 20, runs: 3, libtorrent: false };
        while let Some(option) = words.next() {
            let value = words.next().and_then(|value| value.into_string().ok()).ok_or(USAGE)?;
            let count = |max: usize| value.parse().ok().filter(|count| (1..=max).contains(count)).ok_or(USAGE);
            match option.to_str() {
                Some("--downloaders") => options.downloaders = count(64)?,
                Some("--runs") => options.runs = count(1000)?,
                Some("--size") => options.size = size::parse(&value).ok_or(USAGE)?,
                Some("--rate") => options.rate = parse_rate(&value).ok_or(USAGE)?,
                Some("--peer") if value == "libtorrent" => options.libtorrent = true,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// `200mbit`, as `tc` has it: bits per second.
fn parse_rate(text: &str) -> Option<Rate> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).map(Rate).filter(|rate| rate.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let usual = Options { downloaders: 4, rate: Rate(200_000_000), size: 256 << 20, runs: 3, libtorrent: false };
        assert_eq!(parse(""), Ok(usual));
        let other = Options { downloaders: 2, rate: Rate(1_000_000_000), size: 7, runs: 1, libtorrent: true };
        assert_eq!(parse("--downloaders 2 --rate 1gbit --size 7 --runs 1 --peer libtorrent"), Ok(other));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_the_usage() {
        for line in ["--rate 5", "--rate 0mbit", "--runs 0", "--runs", "--peer x", "--help", "file"] {
            assert!(parse(line).expect_err(line).contains("usage:"), "{line}");
        }
    }
}
