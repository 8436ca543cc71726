//! Limits of rates in virtual time: they hold, are shared evenly, and are changed while pieces are on their way.

use std::time::Duration;

use p2p_proto::control::{Answer, DownloadState, Request};
use p2p_tests::sim::{DEADLINE, World};

use crate::members;

/// A limit, in bytes per second.
const RATE: u64 = 1_000_000;

fn limit(world: &mut World, place: usize, up: Option<u64>, down: Option<u64>) {
    assert!(matches!(world.ask(place, Request::Limit { up, down }), Ok(Answer::Limits(_))));
}

/// The bytes that are here of each download, in the order in which they were asked for.
fn have_bytes(world: &mut World, place: usize) -> Vec<u64> {
    match world.ask(place, Request::ShowDownloads) {
        Ok(Answer::Downloads(list)) => list.downloads.iter().map(|download| download.have_bytes).collect(),
        other => panic!("no list: {other:?}"),
    }
}

#[test]
fn what_comes_in_keeps_to_the_limit_and_is_no_slower() {
    let mut world = members(41, 3);
    let length = 30 << 20;
    let content = world.upload(0, length, "f");
    limit(&mut world, 1, None, Some(RATE));
    let begun = world.time();
    world.start_download(1, "f");
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.download_state(1).0, DownloadState::Downloading);
    world.complete_all(1..2, content);
    let seconds = (world.time() - begun).as_secs_f64();
    let expected = length as f64 / RATE as f64;
    assert!((expected - 1.0..expected * 1.03).contains(&seconds), "{seconds} s, {expected} s at the limit");
    assert_eq!((world.nodes[1].fetched_twice, world.nodes[0].served_bytes), (0, length));
}

#[test]
fn downloads_share_a_limit_evenly_and_a_change_holds_at_once() {
    let mut world = members(42, 2);
    let length = 40 << 20;
    let contents = ["a", "b", "c"].map(|name| world.upload(0, length, name));
    limit(&mut world, 1, None, Some(RATE));
    for name in ["a", "b", "c"] {
        world.start_download(1, name);
    }
    world.run_for(Duration::from_secs(60));
    let have = have_bytes(&mut world, 1);
    let all: u64 = have.iter().sum();
    assert!((55 * RATE..=62 * RATE).contains(&all), "{have:?}");
    assert!(have.iter().all(|one| (all / 4..=all / 2).contains(one)), "{have:?}");
    limit(&mut world, 1, None, Some(RATE / 10));
    world.run_for(Duration::from_secs(60));
    let slower = have_bytes(&mut world, 1).iter().sum::<u64>() - all;
    assert!((4 * RATE..=9 * RATE).contains(&slower), "{slower}");
    limit(&mut world, 1, None, Some(0));
    let begun = world.time();
    for content in contents {
        world.complete_all(1..2, content);
    }
    assert!(world.time() - begun < Duration::from_secs(10), "as fast as the link");
}

#[test]
fn a_seeder_slow_by_its_limit_serves_everybody_once_and_is_not_given_up() {
    let mut world = members(43, 5);
    let length = 8 << 20;
    let content = world.upload(0, length, "f");
    limit(&mut world, 0, Some(100_000), None);
    for place in 1..5 {
        world.start_download(place, "f");
    }
    world.complete_all(1..5, content);
    let served = world.nodes[0].served_bytes;
    assert!(served <= 2 * length, "pieces go on from one downloader to the next: {served} bytes served");
    // It is up again at the full rate as soon as it may.
    let second = world.upload(0, length, "second");
    world.start_download(1, "second");
    world.run_for(Duration::from_secs(20));
    assert!(!world.holds(1, second));
    limit(&mut world, 0, Some(0), None);
    let begun = world.time();
    let deadline = begun + DEADLINE;
    assert!(world.run_until(deadline, |world| world.holds(1, second)));
    assert!(world.time() - begun < Duration::from_secs(15), "{:?}", world.time() - begun);
}

#[test]
fn two_seeders_slow_by_their_limits_are_not_taken_for_silent() {
    let mut world = members(45, 4);
    let length = 8 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.complete_all(1..2, content);
    let before = world.nodes[0].served_bytes;
    for place in 0..2 {
        limit(&mut world, place, Some(100_000), None);
    }
    let begun = world.time();
    world.start_download(2, "f");
    world.complete_all(2..3, content);
    let served = world.nodes[0].served_bytes - before + world.nodes[1].served_bytes;
    assert!(served <= length + length / 8, "{served} bytes are served of {length}");
    let (seconds, expected) = ((world.time() - begun).as_secs_f64(), length as f64 / 200_000.0);
    assert!(seconds <= expected * 1.25, "{seconds} s, {expected} s with both at their limits");
}

#[test]
fn limits_outlive_a_kill() {
    let mut world = members(44, 2);
    limit(&mut world, 1, Some(RATE), Some(2 * RATE));
    limit(&mut world, 1, None, Some(3 * RATE));
    world.kill(1);
    world.start(1);
    let Ok(Answer::Limits(limits)) = world.ask(1, Request::Limit { up: None, down: None }) else { panic!() };
    assert_eq!((limits.up_limit, limits.down_limit), (RATE, 3 * RATE));
    assert_eq!(world.ask(1, Request::Limit { up: Some(1), down: Some(0) }).expect_err("too low").code.exit_code(), 2);
    let Ok(Answer::Limits(limits)) = world.ask(1, Request::Limit { up: None, down: None }) else { panic!() };
    assert_eq!((limits.up_limit, limits.down_limit), (RATE, 3 * RATE));
}
