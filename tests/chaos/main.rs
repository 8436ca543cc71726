//! Kills, cuts off and restarts a cluster of three trackers under load, and tells what it answered meanwhile.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use p2p_tests::Binaries;
use p2p_tests::chaos::{Plan, run};
use p2p_tests::namespace::Loopback;

/// Kills, cuts off and restarts three trackers under load, and holds every answer against every other. Needs root.
#[derive(Debug, Parser)]
struct Options {
    /// How long trackers are killed, in seconds.
    #[arg(long, default_value_t = 600)]
    kill_seconds: u32,
    /// Seconds from one kill to the next; half of them the tracker is away.
    #[arg(long, default_value_t = 20)]
    kill_every: u32,
    /// How often the leader is cut off; every other time from the daemons too.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Seconds that it is cut off each time.
    #[arg(long, default_value_t = 15)]
    partition_seconds: u32,
    /// Daemons that change and look.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// For what is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let plan = Plan {
        kills: options.kill_seconds / options.kill_every.max(1),
        kill_every: Duration::from_secs(options.kill_every.into()),
        partitions: options.partitions,
        partition: Duration::from_secs(options.partition_seconds.into()),
        clients: options.clients,
        transfer_rate: 1 << 20,
        seed: options.seed,
    };
    let done = Binaries::build(std::process::Stdio::inherit()).and_then(|_| Loopback::new()).and_then(|network| {
        run(&plan, &network).map_err(|violations| violations.iter().map(ToString::to_string).collect::<String>())
    });
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
