//! Slow peers: they help as far as they can, and nobody waits for them when others could bring what they owe.

use std::time::Duration;

use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_tests::sim::{DEADLINE, Link, World};

/// Bytes per second of every link but those of the slow ones.
const RATE: u64 = 12_500_000;

/// Pieces of the file.
const PIECES: u64 = 256;

/// Nobody else has anything to do while a slow one is waited for, for no longer than this: until it is certain that it is
/// slow, and another has sent the piece.
const ALONE_MAX: Duration = Duration::from_millis(500);

/// One downloads from seeders of which some are slower so many times; how long these were waited for alone at a time, and
/// how long all took.
fn download(seed: u64, fast: usize, slow: usize, times: u64) -> (Duration, Duration) {
    println!("seed {seed}: {fast} fast, {slow} {times} times slower");
    let seeders = fast + slow;
    let mut world = World::of_members(seed, seeders, Link::both(RATE));
    let content = world.upload(0, PIECES * PIECE_BYTES_MIN, "f");
    for place in 1..seeders {
        world.start_download(place, "f");
    }
    world.complete_all(1..seeders, content);
    for place in fast..seeders {
        world.nodes[place].link.up_rate = RATE / times;
    }
    let leecher = world.add_member(Link::both(RATE * seeders as u64), "leecher");
    let began = world.time();
    world.start_download(leecher, "f");
    let (mut alone_since, mut longest) = (None, Duration::ZERO);
    let done = world.run_until(began + DEADLINE, |world| {
        let of_slow = world.waits_for(leecher).filter(|server| *server >= fast).count();
        let alone = of_slow > 0 && world.waits_for(leecher).count() == of_slow;
        let since = alone.then(|| *alone_since.get_or_insert(world.time()));
        longest = longest.max(since.map_or(Duration::ZERO, |since| world.time() - since));
        alone_since = since;
        world.holds(leecher, content)
    });
    assert!(done, "not done");
    let took = world.time() - began;
    println!("took {took:?}, of which at most {longest:?} at a time for slow ones alone");
    (longest, took)
}

#[test]
fn a_slow_peer_never_holds_a_piece_that_others_could_bring() {
    let ideal = |fast: u64| Duration::from_secs_f64((PIECES * PIECE_BYTES_MIN) as f64 / (RATE * fast) as f64);
    for (seed, (fast, slow, times)) in (60..).zip([(3, 1, 10), (2, 4, 10), (1, 1, 10), (3, 3, 40), (1, 3, 100)]) {
        let (alone, took) = download(seed, fast, slow, times);
        assert!(alone < ALONE_MAX, "{alone:?}");
        // It takes no longer than without them.
        let most = ideal(fast as u64).mul_f64(1.05) + ALONE_MAX;
        assert!(took < most, "{took:?}, {most:?} are allowed");
    }
}
