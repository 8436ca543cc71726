//! The queue of downloads, and what `why` says of those in it and out of it.

use std::time::Duration;

use p2p_proto::control::{Answer, Bottleneck, Download, DownloadPrefix, DownloadState, Request, Why};
use p2p_tests::sim::{DEADLINE, World};

use crate::members;

/// Downloads that receive at once.
const PLACES: usize = 8;

fn downloads(world: &mut World, place: usize) -> Vec<Download> {
    match world.ask(place, Request::ShowDownloads) {
        Ok(Answer::Downloads(list)) => list.downloads,
        other => panic!("no list: {other:?}"),
    }
}

fn in_state(downloads: &[Download], state: DownloadState) -> Vec<&str> {
    downloads.iter().filter(|download| download.state == state).map(|download| download.name.as_str()).collect()
}

fn why(world: &mut World, place: usize, id: &DownloadPrefix) -> Why {
    match world.ask(place, Request::Why { id: id.clone() }) {
        Ok(Answer::Why(why)) => *why,
        other => panic!("no answer: {other:?}"),
    }
}

/// Names in the order of the alphabet.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:02}")).collect()
}

#[test]
fn the_oldest_receive_and_the_rest_wait_in_their_order() {
    let mut world = members(51, 2);
    let names = names(12);
    let contents: Vec<_> = names.iter().map(|name| world.upload(0, 40 << 20, name)).collect();
    let ids: Vec<_> = names
        .iter()
        .map(|name| {
            // A moment apart, so that it is known which is older.
            world.run_for(Duration::from_millis(10));
            world.start_download(1, name)
        })
        .collect();
    world.run_for(Duration::from_secs(2));
    let list = downloads(&mut world, 1);
    assert_eq!(in_state(&list, DownloadState::Downloading), names[..PLACES]);
    assert_eq!(in_state(&list, DownloadState::Queued), names[PLACES..]);
    assert_eq!(list[PLACES].reason.as_deref(), Some("next, 8 downloads receive"));
    assert_eq!(list[11].reason.as_deref(), Some("behind 3 others, 8 downloads receive"));
    let queued = why(&mut world, 1, &ids[11]);
    assert_eq!((queued.bottleneck, queued.active, queued.ahead), (Bottleneck::Queue, Some(8), Some(3)));
    // One that is paused gives its place to the next.
    world.ask(1, Request::Pause { id: ids[0].clone() }).expect("pauses");
    world.run_for(Duration::from_secs(1));
    let list = downloads(&mut world, 1);
    assert_eq!(in_state(&list, DownloadState::Downloading), names[1..=PLACES]);
    assert_eq!(why(&mut world, 1, &ids[0]).bottleneck, Bottleneck::Paused);
    world.ask(1, Request::Resume { id: ids[0].clone() }).expect("resumes");
    let deadline = world.time() + DEADLINE;
    let mut most = 0;
    while !contents.iter().all(|content| world.holds(1, *content)) {
        world.run_for(Duration::from_millis(500));
        assert!(world.time() < deadline, "not done: {:?}", downloads(&mut world, 1));
        most = most.max(in_state(&downloads(&mut world, 1), DownloadState::Downloading).len());
    }
    assert!(most <= PLACES, "{most} receive at once");
    assert_eq!(why(&mut world, 1, &ids[3]).bottleneck, Bottleneck::None);
}

#[test]
fn settings_let_more_receive_at_once_and_with_fewer_those_that_receive_go_on() {
    let mut world = members(53, 2);
    let names = names(20);
    for name in &names {
        world.upload(0, 40 << 20, name);
        world.start_download(1, name);
        world.run_for(Duration::from_millis(10));
    }
    world.run_for(Duration::from_secs(2));
    let receiving = |world: &mut World| in_state(&downloads(world, 1), DownloadState::Downloading).len();
    assert_eq!(receiving(&mut world), PLACES);
    world.allow_downloads(1, PLACES + 4);
    world.run_for(Duration::from_secs(1));
    assert_eq!(receiving(&mut world), PLACES + 4);
    world.allow_downloads(1, 2);
    world.run_for(Duration::from_secs(1));
    assert_eq!(receiving(&mut world), PLACES + 4, "nothing that has begun is held up");
    let deadline = world.time() + DEADLINE;
    let mut most = 0;
    while downloads(&mut world, 1).iter().any(|download| download.have_bytes < download.length) {
        world.run_for(Duration::from_millis(500));
        assert!(world.time() < deadline, "not done: {:?}", downloads(&mut world, 1));
        let list = downloads(&mut world, 1);
        // Once those that had begun are done.
        if list.iter().filter(|download| download.have_bytes == download.length).count() >= PLACES + 4 {
            most = most.max(in_state(&list, DownloadState::Downloading).len());
        }
    }
    assert_eq!(most, 2, "as many receive at once");
}

#[test]
fn who_waits_for_a_seeder_holds_no_place_and_gets_one_in_turn_when_it_comes() {
    let mut world = members(52, 3);
    let names = names(20);
    let contents: Vec<_> = names.iter().map(|name| world.upload(0, 10 << 20, name)).collect();
    let other = world.upload(2, 10 << 20, "other");
    world.kill(0);
    let ids: Vec<_> = names.iter().map(|name| world.start_download(1, name)).collect();
    world.run_for(Duration::from_secs(60));
    assert_eq!(in_state(&downloads(&mut world, 1), DownloadState::Waiting).len(), names.len());
    let lonely = why(&mut world, 1, &ids[0]);
    assert_eq!(lonely.bottleneck, Bottleneck::NoSeeder);
    assert!(lonely.waiting_since.is_some() && lonely.peers.is_empty());
    let Ok(Answer::Status(status)) = world.ask(1, Request::Status) else { panic!("no status") };
    assert!(status.problems[0].contains(" has waited 1m: no seeder online"), "{:?}", status.problems);
    world.start_download(1, "other");
    let deadline = world.time() + Duration::from_secs(30);
    assert!(world.run_until(deadline, |world| world.holds(1, other)), "those who wait are in nobody's way");
    world.start(0);
    let deadline = world.time() + DEADLINE;
    while !contents.iter().all(|content| world.holds(1, *content)) {
        world.run_for(Duration::from_millis(200));
        assert!(world.time() < deadline, "not done: {:?}", downloads(&mut world, 1));
        let receive = in_state(&downloads(&mut world, 1), DownloadState::Downloading).len();
        assert!(receive <= PLACES, "{receive} receive at once");
    }
}

#[test]
fn a_limit_is_named_as_the_bottleneck_by_whoever_has_it() {
    let mut world = members(53, 3);
    world.upload(0, 40 << 20, "f");
    world.ask(1, Request::Limit { up: None, down: Some(1_000_000) }).expect("limits");
    let own = world.start_download(1, "f");
    world.run_for(Duration::from_secs(10));
    let own = why(&mut world, 1, &own);
    assert_eq!((own.bottleneck, own.limit), (Bottleneck::OwnLimit, Some(1_000_000)));
    assert!((500_000..1_500_000).contains(&own.download.down_rate), "{}", own.download.down_rate);
    world.ask(1, Request::Limit { up: None, down: Some(0) }).expect("lifts");
    world.run_for(Duration::from_secs(60));
    // The seeder's: it says so itself.
    world.ask(0, Request::Limit { up: Some(2_000_000), down: None }).expect("limits");
    world.ask(1, Request::Limit { up: Some(3_000_000), down: None }).expect("limits");
    let slow = world.start_download(2, "f");
    world.run_for(Duration::from_secs(4));
    let slow = why(&mut world, 2, &slow);
    assert_eq!((slow.bottleneck, slow.limit), (Bottleneck::PeerLimit, Some(5_000_000)), "{slow:?}");
    assert!(slow.peers.iter().all(|peer| peer.connected && peer.rate > 0), "{slow:?}");
}

#[test]
fn a_tracker_that_is_away_is_named_and_so_is_a_request_in_a_queue() {
    let mut world = members(54, 2);
    world.upload(0, 10 << 20, "f");
    world.kill(0);
    let id = world.start_download(1, "f");
    world.run_for(Duration::from_secs(5));
    world.set_tracker(false);
    world.run_for(Duration::from_secs(5));
    assert_eq!(why(&mut world, 1, &id).bottleneck, Bottleneck::NoTracker);
}
