//! `swarm-sim`: a swarm of real engines in virtual time, and what became of it.

mod options;

use std::process::ExitCode;
use std::time::Duration;

use p2p_tests::sim::swarm::{Outcome, Spec};
use serde_json::json;

use crate::options::Options;

/// Rows of the completion curve.
const CURVE_ROWS: usize = 25;

/// Characters of its bars.
const CURVE_WIDTH: usize = 50;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let outcome = options.spec.run();
    if options.json {
        println!("{}", figures(&options.spec, &outcome));
    } else {
        print(&options.spec, &outcome);
    }
    if outcome.unfinished == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(spec: &Spec, outcome: &Outcome) {
    let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
    let of_ideal = |time: Duration| time.as_secs_f64() / outcome.ideal.as_secs_f64();
    println!("{} → {}, {} pieces, seed {}", spec.seeders, spec.leechers, spec.pieces, spec.seed);
    curve(outcome, spec.leechers);
    println!();
    println!("file ÷ rate      {}", seconds(outcome.ideal));
    for (name, at) in [("first", 0), ("median", spec.leechers / 2), ("last", spec.leechers - 1)] {
        match outcome.completions.get(at) {
            Some(time) => println!("{name:<16} {}  {:.3} × file ÷ rate", seconds(*time), of_ideal(*time)),
            None => println!("{name:<16} never"),
        }
    }
    println!("bound            {}  {:.3} × file ÷ rate", seconds(outcome.bound), of_ideal(outcome.bound));
    println!("seeders sent     {:.3} copies", outcome.seeder_copies);
    println!("duplicates       {:.3} % of the bytes", outcome.duplicates * 100.0);
    println!("users            {:.2} to {:.2} of the mean, from the seeders", outcome.fairness.0, outcome.fairness.1);
    println!("departures       {}", outcome.departures);
    println!("engine           {} events, {:?} each", outcome.engine_events, outcome.engine_event_time);
}

/// Which share of all that is wanted was there when, and how many leechers were done.
fn curve(outcome: &Outcome, leechers: usize) {
    let every = outcome.arrivals.len().div_ceil(CURVE_ROWS).max(1);
    for (at, share) in outcome.arrivals.iter().step_by(every) {
        let done = outcome.completions.iter().filter(|time| *time <= at).count();
        let bar = "█".repeat((share * CURVE_WIDTH as f64) as usize);
        let percent = share * 100.0;
        println!("{:>10.3} s {bar:<CURVE_WIDTH$} {percent:>5.1} %, {done} of {leechers} done", at.as_secs_f64());
    }
}

fn figures(spec: &Spec, outcome: &Outcome) -> serde_json::Value {
    let seconds: Vec<f64> = outcome.completions.iter().map(Duration::as_secs_f64).collect();
    json!({
        "seeders": spec.seeders,
        "leechers": spec.leechers,
        "pieces": spec.pieces,
        "seed": spec.seed,
        "ideal_seconds": outcome.ideal.as_secs_f64(),
        "bound_seconds": outcome.bound.as_secs_f64(),
        "completion_seconds": seconds,
        "unfinished": outcome.unfinished,
        "seeder_copies": outcome.seeder_copies,
        "duplicate_share": outcome.duplicates,
        "user_share_least": outcome.fairness.0,
        "user_share_most": outcome.fairness.1,
        "departures": outcome.departures,
        "engine_events": outcome.engine_events,
        "engine_event_seconds": outcome.engine_event_time.as_secs_f64(),
    })
}
