//! What is shared from where, and when no longer: resting, waking, replacing and withdrawing.

use std::time::Duration;

use p2p_proto::control::{Answer, DownloadState, Event, Frame, Happening, LocalPath, Request, Share};
use p2p_proto::id::ContentId;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::FileSelector;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_tests::sim::{DEADLINE, World, download_request};

use super::members;

fn stop_share(world: &mut World, place: usize, until_requested: bool) {
    let (group, name) = ("g".parse().expect("a good name"), "f".parse().expect("a good name"));
    match world.ask(place, Request::StopShare { group, name, until_requested }) {
        Ok(Answer::ShareStopped(stopped)) => assert_eq!(stopped.until_requested, until_requested),
        other => panic!("not stopped: {other:?}"),
    }
}

/// Runs until these nodes hold the content, and share it.
fn all_done(world: &mut World, places: std::ops::Range<usize>, content: ContentId) {
    world.complete_all(places, content);
    world.run_for(Duration::from_secs(1));
}

fn shares(world: &mut World, place: usize) -> Vec<Share> {
    match world.ask(place, Request::ListShares) {
        Ok(Answer::Shares(list)) => list.shares,
        other => panic!("no list: {other:?}"),
    }
}

fn rests(world: &mut World, place: usize) -> bool {
    let shares = shares(world, place);
    assert_eq!(shares.len(), 1, "{shares:?}");
    assert_ne!(shares[0].seeding, shares[0].until_requested);
    shares[0].until_requested
}

/// Uploads a new file in the place of the one there is.
fn upload_anew(world: &mut World, place: usize, length: u64, force: bool) -> Result<ContentId, Reject> {
    let path = world.make_file(place, length);
    let request = Request::UploadFile {
        path: LocalPath(path),
        group: "g".parse().expect("a good name"),
        name: "f".parse().expect("a good name"),
        hash: HashAlgorithm::Blake3,
        whole_digest: false,
        force,
        wait_copies: 0,
        follow_links: false,
    };
    world.ask(place, request).map(|answer| match answer {
        Answer::Uploaded(uploaded) => uploaded.content,
        other => panic!("not uploaded: {other:?}"),
    })
}

fn remove_file(world: &mut World, place: usize) -> Result<bool, Reject> {
    let file = FileSelector { owner: None, name: "f".parse().expect("a good name") };
    let removed = world.ask(place, Request::RemoveFile { group: "g".parse().expect("a good name"), file });
    removed.map(|answer| match answer {
        Answer::FileRemoved(removed) => removed.unshared,
        other => panic!("not removed: {other:?}"),
    })
}

#[test]
fn a_share_that_was_stopped_stays_so_over_a_restart() {
    let mut world = members(300, 2);
    let content = world.upload(0, 1 << 20, "f");
    stop_share(&mut world, 0, false);
    world.kill(0);
    world.start(0);
    assert_eq!(shares(&mut world, 0), []);
    world.start_download(1, "f");
    world.run_for(Duration::from_secs(120));
    assert!(!world.holds(1, content));
    assert_eq!(world.download_state(1).0, DownloadState::Waiting);
}

#[test]
fn a_resting_share_comes_back_when_it_is_asked_for_and_stays() {
    let mut world = members(301, 2);
    let content = world.upload(0, 4 << 20, "f");
    stop_share(&mut world, 0, true);
    world.run_for(Duration::from_secs(60));
    assert!(rests(&mut world, 0), "nobody has asked");
    world.start_download(1, "f");
    all_done(&mut world, 1..2, content);
    assert!(!rests(&mut world, 0));
    world.kill(0);
    world.start(0);
    assert!(!rests(&mut world, 0), "also after a restart");
}

#[test]
fn a_share_goes_on_resting_over_restarts_and_comes_back_after_them() {
    let mut world = members(302, 2);
    let content = world.upload(0, 4 << 20, "f");
    stop_share(&mut world, 0, true);
    world.kill(0);
    world.start(0);
    world.run_for(Duration::from_secs(1));
    world.set_tracker(false);
    world.run_for(Duration::from_secs(1));
    world.set_tracker(true);
    world.run_for(Duration::from_secs(1));
    assert!(rests(&mut world, 0));
    world.start_download(1, "f");
    all_done(&mut world, 1..2, content);
}

#[test]
fn a_share_rests_while_somebody_else_has_it() {
    let mut world = members(303, 3);
    let content = world.upload(0, 4 << 20, "f");
    world.start_download(1, "f");
    all_done(&mut world, 1..2, content);
    stop_share(&mut world, 0, true);
    let served = world.nodes[0].served_bytes;
    world.start_download(2, "f");
    all_done(&mut world, 2..3, content);
    assert!(rests(&mut world, 0));
    assert_eq!(world.nodes[0].served_bytes, served);
}

#[test]
fn a_resting_share_comes_back_for_one_who_waited_before_it_was_online() {
    let mut world = members(304, 2);
    let content = world.upload(0, 4 << 20, "f");
    stop_share(&mut world, 0, true);
    world.kill(0);
    world.start_download(1, "f");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.download_state(1).0, DownloadState::Waiting);
    world.start(0);
    all_done(&mut world, 1..2, content);
}

#[test]
fn a_share_that_begins_to_rest_under_its_only_reader_comes_back_at_once() {
    let mut world = members(305, 2);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > length / 4);
    stop_share(&mut world, 0, true);
    all_done(&mut world, 1..2, content);
    assert!(!rests(&mut world, 0), "somebody asked, and nobody else had it");
}

#[test]
fn an_edited_file_takes_the_place_of_the_old_one() {
    let mut world = members(306, 3);
    let old = world.upload(0, 4 << 20, "f");
    world.start_download(1, "f");
    all_done(&mut world, 1..2, old);
    assert_eq!(upload_anew(&mut world, 0, 5 << 20, false).expect_err("refused").code, ErrorCode::FILE_EXISTS);
    assert_eq!(shares(&mut world, 0)[0].content, old, "nothing has changed");
    let new = upload_anew(&mut world, 0, 5 << 20, true).expect("replaced");
    assert_eq!(shares(&mut world, 0).len(), 1);
    assert_eq!(shares(&mut world, 0)[0].content, new);
    world.start_download(1, "f");
    all_done(&mut world, 1..2, new);
    assert_eq!(shares(&mut world, 1)[0].content, new, "who had the old one shares the new one now");
    world.kill(0);
    world.start_download(2, "f");
    all_done(&mut world, 2..3, new);
}

#[test]
fn what_is_withdrawn_is_no_longer_found_and_who_began_may_finish() {
    let mut world = members(307, 4);
    let length = 64 << 20;
    let content = world.upload(0, length, "f");
    world.start_download(1, "f");
    all_done(&mut world, 1..2, content);
    world.start_download(2, "f");
    world.run_until(DEADLINE, |world| world.nodes[1].served_bytes > length / 8);
    assert!(!world.holds(2, content));
    assert_eq!(remove_file(&mut world, 0), Ok(true));
    assert_eq!(shares(&mut world, 0), []);
    all_done(&mut world, 2..3, content);
    assert_eq!(world.ask(3, download_request(true, "f")).expect_err("not listed").code, ErrorCode::FILE_NOT_FOUND);
    assert_eq!(remove_file(&mut world, 0).expect_err("gone").code, ErrorCode::FILE_NOT_FOUND);
}

#[test]
fn a_download_of_what_is_withdrawn_says_why_it_waits() {
    let mut world = members(308, 2);
    world.upload(0, 64 << 20, "f");
    world.start_download(1, "f");
    world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > 8 << 20);
    remove_file(&mut world, 0).expect("withdrawn");
    world.run_for(Duration::from_secs(60));
    let (waiting, reason) = world.download_state(1);
    assert_eq!(waiting, DownloadState::Waiting);
    assert_eq!(reason.as_deref(), Some("no longer listed in the group, and nobody serves it"));
}

#[test]
fn who_follows_events_hears_of_downloads_and_shares() {
    let mut world = members(309, 2);
    let follower = world.command(1, Request::Events);
    let content = world.upload(0, 64 << 20, "f");
    world.start_download(1, "f");
    all_done(&mut world, 1..2, content);
    stop_share(&mut world, 1, false);
    world.run_for(Duration::from_secs(1));
    world.kill(0);
    world.set_tracker(false);
    world.run_for(Duration::from_secs(1));
    let mut told = world.frames(1, follower).iter();
    assert_eq!(told.next(), Some(&Frame::Following));
    let told: Vec<String> = told
        .map(|frame| match frame {
            Frame::Event(Event { what: Happening::Download(row), .. }) => format!("{:?}", row.state),
            Frame::Event(Event { what: Happening::ShareStarted { .. }, .. }) => "share started".to_owned(),
            Frame::Event(Event { what: Happening::ShareStopped { reason: None, .. }, .. }) => {
                "share stopped".to_owned()
            }
            Frame::Event(Event { what: Happening::Tracker { state, .. }, .. }) => format!("tracker {state:?}"),
            other => panic!("not expected: {other:?}"),
        })
        .collect();
    // What lasts less than half a second may be passed over, as `waiting` is while the seeder is looked up.
    let lasting: Vec<&str> = told.iter().map(String::as_str).filter(|it| *it != "Waiting").collect();
    let expected = ["Verifying", "Downloading", "share started", "Seeding", "share stopped", "Complete"];
    assert_eq!(lasting[..6], expected);
    assert_eq!(lasting[6..], ["tracker Unreachable"]);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.frames(1, follower).len(), told.len() + 1, "nothing happens, nothing is told");
}

#[test]
fn a_copy_that_was_in_its_place_first_is_not_called_cancelled() {
    let mut world = members(340, 1);
    world.upload(0, 1 << 20, "f");
    let id = world.start_download(0, "f");
    // Its end is on the way already.
    let refused = world.ask(0, Request::Cancel { id: id.clone(), delete_data: false });
    assert_eq!(refused.expect_err("it is complete").code, ErrorCode::WRONG_STATE);
    let complete = world.download_state(0).0;
    assert!(matches!(complete, DownloadState::Seeding | DownloadState::Complete), "{complete:?}");
    // Complete, it can be forgotten.
    world.ask(0, Request::Cancel { id, delete_data: false }).expect("forgotten");
}
