//! Scenarios of several real engines in virtual time. A failing one prints its seed; the seed repeats it.

mod fairness;
mod limits;
mod queue;
mod revocation;
mod shares;
mod slow_peers;
mod small_worlds;
mod swarms;

use std::time::Duration;

use p2p_proto::control::{Answer, DownloadState, Request};
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::reject::ErrorCode;
use p2p_tests::sim::{DEADLINE, Link, World, download_request};

/// Bytes per second of a link in most scenarios.
const RATE: u64 = 50 << 20;

/// A world of nodes, each with its user, all members of one group.
fn members(seed: u64, count: usize) -> World {
    World::of_members(seed, count, Link::both(RATE))
}

#[test]
fn a_file_of_any_size_reaches_the_other_node() {
    for (seed, length) in (1..).zip([0, 1, PIECE_BYTES_MIN - 1, PIECE_BYTES_MIN, PIECE_BYTES_MIN + 1, 40 << 20]) {
        let mut world = members(seed, 2);
        let content = world.upload(0, length, "f");
        match world.ask(1, download_request(false, "f")) {
            Ok(Answer::Downloaded(done)) => assert_eq!((done.length, done.fetched_bytes), (length, length)),
            other => panic!("{length} bytes: {other:?}"),
        }
        assert!(world.holds(1, content));
        assert_eq!(world.nodes[0].served_bytes, length);
        assert_eq!(world.download_state(1).0, DownloadState::Seeding);
    }
}

#[test]
fn five_nodes_share_what_one_has() {
    let mut world = members(11, 5);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    let began = world.time();
    for place in 1..5 {
        world.start_download(place, "f");
    }
    world.complete_all(1..5, content);
    let took = world.time() - began;
    let once = Duration::from_secs_f64(length as f64 / RATE as f64);
    let served: Vec<u64> = world.nodes.iter().map(|node| node.served_bytes).collect();
    println!("took {took:?} where one copy takes {once:?}, served {served:?}");
    assert!(served[0] < 3 * length, "the seeder sent {} bytes, the leechers did not share", served[0]);
    assert!((1..5).all(|place| served[place] > 0));
    assert!((1..5).all(|place| world.nodes[place].fetched_twice == 0));
}

#[test]
fn a_download_that_waits_goes_on_when_a_seeder_comes_back() {
    let mut world = members(12, 2);
    let content = world.upload(0, 16 << 20, "f");
    world.kill(0);
    world.start_download(1, "f");
    world.run_for(Duration::from_secs(30));
    let (waiting, reason) = world.download_state(1);
    assert_eq!(waiting, DownloadState::Waiting);
    assert!(reason.is_some_and(|reason| reason.contains("no seeder online")));
    world.start(0);
    world.complete_all(1..2, content);
}

#[test]
fn a_seeder_killed_in_the_middle_and_back_loses_nothing() {
    let mut world = members(13, 2);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > length / 2);
    world.kill(0);
    world.run_for(Duration::from_secs(100));
    assert!(!world.holds(1, content));
    world.start(0);
    world.complete_all(1..2, content);
    assert_eq!(world.nodes[1].fetched_twice, 0);
}

#[test]
fn a_downloader_killed_in_the_middle_goes_on_and_fetches_nothing_durable_again() {
    let mut world = members(14, 2);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > length / 2);
    world.kill(1);
    world.run_for(Duration::from_secs(5));
    world.start(1);
    world.complete_all(1..2, content);
    let again = world.nodes[0].served_bytes - length;
    // What was on the way, and what a tenth of a second brings before it is synced.
    assert!(again <= (24 << 20) + RATE / 10, "{again} bytes were sent again");
}

#[test]
fn pieces_come_from_every_peer_that_has_them() {
    let mut world = members(15, 3);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.complete_all(1..2, content);
    let before = world.nodes[0].served_bytes;
    world.start_download(2, "f");
    world.complete_all(2..3, content);
    let (first, second) = (world.nodes[0].served_bytes - before, world.nodes[1].served_bytes);
    assert!(first > length / 4 && second > length / 4, "{first} and {second} bytes of {length}");
}

#[test]
fn a_liar_is_banned_and_the_file_still_comes() {
    let mut world = members(16, 3);
    let content = world.upload(0, 32 << 20, "f");
    world.start_download(1, "f");
    world.complete_all(1..2, content);
    world.nodes[1].liar = true;
    world.start_download(2, "f");
    world.complete_all(2..3, content);
    // At most a window of pieces is asked of it before its second lie is known.
    assert!(world.nodes[1].served_bytes <= 8 * PIECE_BYTES_MIN, "{} bytes", world.nodes[1].served_bytes);
}

#[test]
fn a_silent_peer_is_overtaken() {
    let mut world = members(17, 3);
    let content = world.upload(0, 32 << 20, "f");
    world.start_download(1, "f");
    world.complete_all(1..2, content);
    world.nodes[1].silent = true;
    world.start_download(2, "f");
    let began = world.time();
    world.complete_all(2..3, content);
    assert!(world.time() - began < Duration::from_secs(10), "took {:?}", world.time() - began);
}

#[test]
fn transfers_go_on_while_the_tracker_is_down() {
    let mut world = members(18, 2);
    let content = world.upload(0, 256 << 20, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > 0);
    world.set_tracker(false);
    world.complete_all(1..2, content);
}

#[test]
fn a_paused_download_rests_until_it_is_resumed() {
    let mut world = members(19, 2);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    let id = world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > length / 4);
    world.ask(1, Request::Pause { id: id.clone() }).expect("pauses");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.download_state(1).0, DownloadState::Paused);
    assert!(!world.holds(1, content));
    world.ask(1, Request::Resume { id }).expect("resumes");
    world.complete_all(1..2, content);
}

#[test]
fn a_logout_rests_everything_until_the_next_login() {
    let mut world = members(20, 2);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > length / 4);
    match world.ask(1, Request::Logout) {
        Ok(Answer::LoggedOut(rests)) => assert_eq!(rests.downloads, 1),
        other => panic!("{other:?}"),
    }
    world.run_for(Duration::from_secs(60));
    assert!(!world.holds(1, content));
    assert_eq!(world.ask(1, Request::ShowDownloads).expect_err("nobody is logged in").code, ErrorCode::LOGIN_NEEDED);
    world.log_in(1, "user1");
    world.complete_all(1..2, content);
    assert_eq!(world.nodes[1].fetched_twice, 0);
}

#[test]
fn shares_are_announced_again_after_a_logout_and_a_login() {
    let mut world = members(21, 2);
    let content = world.upload(0, 4 << 20, "f");
    world.ask(0, Request::Logout).expect("logs out");
    world.log_in(0, "user0");
    world.start_download(1, "f");
    world.complete_all(1..2, content);
}

#[test]
fn a_group_is_the_same_in_every_spelling() {
    let mut world = members(22, 2);
    let content = world.upload(0, 4 << 20, "f");
    let Request::DownloadFile { file, destination, force, detach, .. } = download_request(false, "f") else {
        unreachable!()
    };
    let group = "G".parse().expect("a good name");
    world
        .ask(1, Request::DownloadFile { group, file, destination, force, detach, only: Vec::new() })
        .expect("downloads");
    assert!(world.holds(1, content));
}

#[test]
fn every_command_on_one_download_is_answered_whatever_comes_first() {
    for seed in 200..260 {
        let mut world = members(seed, 2);
        let length = 32 << 20;
        let content = world.upload(0, length, "f");
        let id = world.start_download(1, "f");
        let pause = Duration::from_millis(world.random.u64(0..300));
        world.run_for(pause);
        let commands: Vec<_> = (0..6)
            .map(|_| {
                let id = id.clone();
                let request = match world.random.u8(0..4) {
                    0 => Request::Pause { id },
                    1 => Request::Resume { id },
                    2 => Request::Wait { id },
                    _ => Request::Cancel { id, delete_data: false },
                };
                world.run_for(Duration::from_micros(50));
                world.command(1, request)
            })
            .collect();
        world.run_for(Duration::from_secs(60));
        let paused = matches!(world.ask(1, Request::ShowDownloads), Ok(Answer::Downloads(list))
            if list.downloads.iter().any(|download| download.state == DownloadState::Paused));
        let answered = commands.iter().filter(|command| world.result(1, **command).is_some()).count();
        assert_eq!(answered, commands.len(), "seed {seed}, paused {paused}");
        // Whatever became of it, the content can be had.
        if world.ask(1, Request::Cancel { id, delete_data: false }).is_ok() || !world.holds(1, content) {
            world.start_download(1, "f");
        }
        world.complete_all(1..2, content);
    }
}

#[test]
fn downloads_without_a_seeder_do_not_hold_up_one_that_has_one() {
    let mut world = members(23, 3);
    for number in 0..20 {
        world.upload(0, 1 << 20, &format!("gone {number}"));
    }
    let content = world.upload(2, 4 << 20, "f");
    world.kill(0);
    for number in 0..20 {
        world.start_download(1, &format!("gone {number}"));
    }
    world.start_download(1, "f");
    world.complete_all(1..2, content);
}

#[test]
fn small_worlds_with_kills_at_random_moments_complete() {
    for seed in 100..160 {
        let mut world = members(seed, 4);
        let length = world.random.u64(0..24 << 20);
        let content = world.upload(0, length, "f");
        for place in 1..4 {
            world.start_download(place, "f");
        }
        for _ in 0..6 {
            let (place, pause) = (world.random.usize(0..4), Duration::from_millis(world.random.u64(1..400)));
            world.run_for(pause);
            world.kill(place);
            let down = Duration::from_millis(world.random.u64(1..3000));
            world.run_for(down);
            world.start(place);
        }
        world.complete_all(1..4, content);
    }
}
