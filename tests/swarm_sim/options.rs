//! The command line of `swarm-sim`.

use std::time::Duration;

use p2p_tests::sim::Link;
use p2p_tests::sim::swarm::Spec;

/// How it is called.
const USAGE: &str = "\
usage: swarm-sim [OPTION VALUE]… [--json] [--thorough]

A swarm of real engines in virtual time. All nodes have the same link; what is not given is as shown.

  --seeders N      1         nodes that have the file when it begins
  --leechers N     50        nodes that want it
  --pieces N       512       pieces of the file, 512 KiB each
  --rate RATE      100MiB    bytes per second of a link, up and down
  --up RATE, --down RATE     … one direction
  --delay TIME     10ms      one way between any two nodes
  --loss SHARE     0         share of the packets that are lost, 0.01 for one in a hundred
  --churn TIME     never     how long a leecher stays on average; it is back after a quarter of that
  --liars N        0         of the leechers: send wrong pieces
  --silent N       0         of the leechers: take requests and never answer
  --slow N         0         of the leechers: send ten times slower
  --one-user N     1         of the leechers: belong to one user, the others to one each
  --seed N         1         repeats a run exactly
  --thorough                 look at every engine's invariants after everything that happens to it
  --json                     figures for programs";

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    pub spec: Spec,
    pub json: bool,
}

impl Options {
    /// The words of the command line, without the program's name. The error is what to print.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { spec: Spec::default(), json: false };
        let spec = &mut options.spec;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => {
                    options.json = true;
                    continue;
                }
                "--thorough" => {
                    spec.thorough = true;
                    continue;
                }
                _ => (),
            }
            let value = words.next().ok_or(USAGE)?;
            let known = match word.as_str() {
                "--seeders" => set(&mut spec.seeders, number(&value)),
                "--leechers" => set(&mut spec.leechers, number(&value)),
                "--pieces" => set(&mut spec.pieces, number(&value)),
                "--rate" => set(&mut spec.link, rate(&value).map(Link::both)),
                "--up" => set(&mut spec.link.up_rate, rate(&value)),
                "--down" => set(&mut spec.link.down_rate, rate(&value)),
                "--delay" => set(&mut spec.path.delay, time(&value)),
                "--loss" => set(&mut spec.path.loss, number(&value).filter(|loss| (0.0..1.0).contains(loss))),
                "--churn" => set(&mut spec.churn, time(&value).map(Some)),
                "--liars" => set(&mut spec.liars, number(&value)),
                "--silent" => set(&mut spec.silent, number(&value)),
                "--slow" => set(&mut spec.slow, number(&value)),
                "--one-user" => set(&mut spec.one_users_nodes, number(&value)),
                "--seed" => set(&mut spec.seed, number(&value)),
                _ => None,
            };
            known.ok_or_else(|| format!("{word} {value} is not understood\n\n{USAGE}"))?;
        }
        let whole = spec.seeders > 0 && spec.leechers > 0 && spec.pieces > 0;
        if whole { Ok(options) } else { Err(format!("a swarm needs a seeder, a leecher and a piece\n\n{USAGE}")) }
    }
}

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// `100MiB`, `512KiB`, `1000000`: bytes per second, above 0.
fn rate(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|rate| *rate > 0)
}

/// `10ms`, `5s`, `2m`.
fn time(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_given_is_taken_and_the_rest_is_as_shown() {
        let options =
            parse("--leechers 9 --rate 10MiB --up 1MiB --delay 3ms --churn 2m --loss 0.5 --json").expect("a line");
        let Spec { seeders, leechers, link, path, churn, .. } = options.spec;
        assert_eq!((seeders, leechers, link.up_rate, link.down_rate), (1, 9, 1 << 20, 10 << 20));
        assert_eq!((path.delay, path.loss, churn), (Duration::from_millis(3), 0.5, Some(Duration::from_secs(120))));
        assert!(options.json);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_the_usage() {
        for line in ["--rate 0", "--rate 1TB", "--loss 1", "--delay 5", "--nodes 3", "--seed", "--leechers 0"] {
            assert!(parse(line).expect_err(line).contains("usage:"), "{line}");
        }
    }
}
