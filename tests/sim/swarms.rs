//! Swarms as `swarm-sim` shows them: how soon the last one is done, and what it costs.

use std::time::Duration;

use p2p_tests::sim::Link;
use p2p_tests::sim::swarm::{Outcome, Spec};

/// A link of 100 Mbit/s.
const LINK: u64 = 100_000_000 / 8;

/// Lets a swarm run until all are done.
fn run(spec: Spec) -> Outcome {
    println!("{spec:?}");
    let outcome = spec.run();
    let of_ideal = |time: &Duration| time.as_secs_f64() / outcome.ideal.as_secs_f64();
    println!(
        "last {:?} × file ÷ rate, {:.3} copies from seeders, {:.3} % twice",
        outcome.completions.last().map(of_ideal),
        outcome.seeder_copies,
        outcome.duplicates * 100.0
    );
    assert_eq!(outcome.unfinished, 0);
    outcome
}

/// The same for one in which nobody comes and goes: little is asked for twice.
fn run_calm(spec: Spec) -> Outcome {
    let outcome = run(spec);
    assert!(outcome.duplicates <= 0.01, "{} of the bytes were not needed", outcome.duplicates);
    outcome
}

#[test]
fn one_seeder_and_fifty_leechers_take_little_longer_than_one_copy() {
    let outcome = run_calm(Spec { link: Link::both(LINK), ..Spec::default() });
    let last = outcome.completions.last().copied();
    assert!(last.is_some_and(|last| last <= outcome.bound), "{last:?}, {:?} are allowed", outcome.bound);
    assert!(outcome.seeder_copies < 1.25, "{} copies", outcome.seeder_copies);
}

/// Its file has fewer pieces, so that what is lost until all have something to give weighs more.
#[test]
fn one_seeder_and_twenty_leechers_take_little_longer_than_one_copy() {
    for seed in [1, 2] {
        let outcome = run_calm(Spec { leechers: 20, pieces: 256, link: Link::both(LINK), seed, ..Spec::default() });
        let last = outcome.completions.last().copied();
        assert!(last.is_some_and(|last| last <= outcome.bound), "{last:?}, {:?} are allowed", outcome.bound);
    }
}

#[test]
fn one_seeder_and_four_leechers_take_little_longer_than_one_copy() {
    let outcome = run_calm(Spec { leechers: 4, link: Link::both(2 * LINK), ..Spec::default() });
    let last = outcome.completions.last().copied();
    assert!(last.is_some_and(|last| last <= outcome.bound), "{last:?}, {:?} are allowed", outcome.bound);
    assert!(outcome.seeder_copies < 1.1, "{} copies", outcome.seeder_copies);
}

#[test]
fn liars_silent_and_slow_ones_do_not_keep_the_others() {
    let spec = Spec { leechers: 20, pieces: 256, link: Link::both(LINK), ..Spec::default() };
    for (liars, silent, slow) in [(4, 0, 0), (0, 4, 0), (0, 0, 4)] {
        let outcome = run_calm(Spec { liars, silent, slow, ..spec.clone() });
        // What a fifth of the swarm was to bring has to come from the rest.
        let last = outcome.completions.last().copied().unwrap_or(Duration::MAX);
        assert!(last < outcome.ideal * 2, "{last:?}");
    }
}

/// A thousand take minutes: `cargo swarm-sim --leechers 999 --pieces 16 --rate 12MiB --churn 10s`.
#[test]
fn two_hundred_nodes_that_come_and_go_complete() {
    let outcome = run(Spec {
        leechers: 199,
        pieces: 16,
        link: Link::both(LINK),
        churn: Some(Duration::from_secs(10)),
        ..Spec::default()
    });
    assert!(outcome.departures > 100, "{} came and went", outcome.departures);
}
