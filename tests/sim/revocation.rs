//! Grants and their ends: renewed for as long as they hold, cut off at once when they are revoked, and by the clock when
//! no tracker answers.

use std::time::Duration;

use p2p_proto::control::{Answer, DownloadPrefix, DownloadState, Frame, Request};
use p2p_proto::id::ContentId;
use p2p_proto::limit::{GRANT_LIFE_SECONDS, PIECE_BYTES_MIN};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::JoinPolicy;
use p2p_tests::sim::{DEADLINE, Link, World, download_request};

/// Bytes per second of a link on which a file takes its time.
const SLOW: u64 = 64 << 10;

/// Longer than any message's way, and what "at once" means to a person.
const A_SECOND: Duration = Duration::from_secs(1);

/// Nodes of one group, all with slow links. The first has a file of so many bytes, which the second downloads; the
/// command that follows it.
fn slow_download(seed: u64, count: usize, length: u64) -> (World, ContentId, p2pd::engine::input::CommandId) {
    let mut world = World::of_members(seed, count, Link::both(SLOW));
    let content = world.upload(0, length, "f");
    let command = world.command(1, download_request(false, "f"));
    let begun = world.run_until(DEADLINE, |world| world.nodes[0].served_bytes > 4 * PIECE_BYTES_MIN);
    assert!(begun, "the download does not begin");
    (world, content, command)
}

/// How a command that follows a download was refused.
fn refusal(world: &World, command: p2pd::engine::input::CommandId) -> Reject {
    world.result(1, command).expect("the command has ended").expect_err("it was refused")
}

/// The only download of a node.
fn id_of(world: &mut World, place: usize) -> DownloadPrefix {
    match world.ask(place, Request::ShowDownloads) {
        Ok(Answer::Downloads(list)) => list.downloads[0].id.to_string().try_into().expect("an id is a prefix"),
        other => panic!("no list: {other:?}"),
    }
}

fn group() -> p2p_proto::name::GroupName {
    "g".parse().expect("a good name")
}

fn remove(place: usize) -> Request {
    Request::RemoveMember { group: group(), user: format!("user{place}").parse().expect("a good name") }
}

fn join(world: &mut World, place: usize) {
    world.ask(place, Request::CreateGroup { group: group(), policy: JoinPolicy::Open }).expect("is a member again");
}

/// Nothing is served from now on.
fn nothing_is_served(world: &mut World) {
    let before: Vec<u64> = world.nodes.iter().map(|node| node.served_bytes).collect();
    world.run_for(Duration::from_secs(60));
    let after: Vec<u64> = world.nodes.iter().map(|node| node.served_bytes).collect();
    assert_eq!(before, after, "bytes are served still");
}

#[test]
fn a_transfer_of_an_hour_goes_on_over_every_renewal() {
    let length = SLOW * 3600;
    let (mut world, content, command) = slow_download(300, 2, length);
    let mut served = 0;
    while world.result(1, command).is_none() {
        // Whatever grant it is by, the link is never idle. What it was given last takes its time.
        world.run_for(Duration::from_secs(20));
        assert!(world.nodes[0].served_bytes > served || served == length, "idle at {:?}", world.time());
        served = world.nodes[0].served_bytes;
    }
    assert!(world.time() > Duration::from_secs(3600));
    assert!(world.holds(1, content));
    assert_eq!((served, world.nodes[1].fetched_twice), (length, 0));
}

#[test]
fn with_the_tracker_down_serving_ends_with_the_grant_and_goes_on_with_the_next() {
    let (mut world, content, command) = slow_download(301, 2, SLOW * 1200);
    let granted = world.time();
    world.run_for(Duration::from_secs(60));
    world.set_tracker(false);
    let life = Duration::from_secs(GRANT_LIFE_SECONDS);
    // It was granted when it was begun, a while before the first pieces had come.
    let last_moment = granted + life - Duration::from_secs(60);
    world.run_until(last_moment, |_| false);
    let before = world.nodes[0].served_bytes;
    world.run_until(granted + life, |_| false);
    assert!(world.nodes[0].served_bytes > before, "served until then, also without a tracker");
    nothing_is_served(&mut world);
    let (waiting, reason) = world.download_state(1);
    assert_eq!(waiting, DownloadState::Waiting);
    assert_eq!(reason.as_deref(), Some("no grant to read g: no tracker answers at tracker:9000"));
    assert!(world.result(1, command).is_none(), "it may go on, so it has not ended");
    world.set_tracker(true);
    world.complete_all(1..2, content);
    assert_eq!(world.nodes[1].fetched_twice, 0);
}

#[test]
fn who_loses_access_is_cut_off_within_a_second_and_told_why() {
    let by_whom = [
        (0, remove(1), "no longer a member of g"),
        (1, Request::LeaveGroup { group: group(), force: false }, "no longer a member of g"),
        (0, Request::DeleteGroup { group: group() }, "group g has ended"),
        (1, Request::Logout, "user1 is no longer logged in here"),
    ];
    for (seed, (place, request, why)) in (310..).zip(by_whom) {
        let others_go_on = !matches!(request, Request::DeleteGroup { .. });
        let (mut world, content, command) = slow_download(seed, 3, SLOW * 300);
        world.start_download(2, "f");
        assert!(world.is_being_sent_to(1), "it is met in the middle");
        world.ask(place, request).expect("is done");
        world.run_for(A_SECOND);
        assert!(!world.is_being_sent_to(1), "a piece that was begun goes on");
        let reject = refusal(&world, command);
        assert_eq!(reject.code.exit_code(), 5, "{reject:?}");
        assert!(reject.message.contains(why) && !reject.hint.is_empty(), "{reject:?}");
        if others_go_on {
            world.complete_all(2..3, content);
        } else {
            assert_eq!(world.download_state(2).0, DownloadState::Error);
        }
        nothing_is_served(&mut world);
        assert!(!world.holds(1, content));
    }
}

#[test]
fn who_comes_back_goes_on_at_once_where_it_was() {
    for (seed, request) in [(320, remove(1)), (321, Request::LeaveGroup { group: group(), force: false })] {
        let (mut world, content, _) = slow_download(seed, 2, SLOW * 100);
        let place = usize::from(!matches!(request, Request::RemoveMember { .. }));
        world.ask(place, request).expect("is done");
        world.run_for(A_SECOND);
        join(&mut world, 1);
        let id = id_of(&mut world, 1);
        let stopped = |problem: &String| problem.starts_with("the download of f stopped: no longer a member of g");
        assert!(problems(&mut world, 1).iter().any(stopped));
        world.ask(1, Request::Resume { id }).expect("resumes");
        assert!(!problems(&mut world, 1).iter().any(stopped), "what is over is told no more");
        let before = world.nodes[0].served_bytes;
        world.run_for(A_SECOND);
        assert!(world.nodes[0].served_bytes > before, "served again within a second");
        world.complete_all(1..2, content);
        assert_eq!(problems(&mut world, 1), [""; 0]);
        assert_eq!(world.nodes[1].fetched_twice, 0);
    }
}

fn problems(world: &mut World, place: usize) -> Vec<String> {
    match world.ask(place, Request::Status) {
        Ok(Answer::Status(status)) => status.problems,
        other => panic!("no status: {other:?}"),
    }
}

#[test]
fn who_is_not_let_in_again_is_told_so_by_resume() {
    let (mut world, _, _) = slow_download(326, 2, SLOW * 100);
    world.ask(0, remove(1)).expect("is done");
    world.run_for(A_SECOND);
    let id = id_of(&mut world, 1);
    let reject = world.ask(1, Request::Resume { id }).expect_err("no member");
    assert_eq!(reject.code, ErrorCode::NOT_MEMBER);
    assert!(reject.hint.contains("`p2pctl join_group g`"), "{reject:?}");
    assert_eq!(world.download_state(1).0, DownloadState::Error);
}

#[test]
fn a_download_does_not_go_on_in_another_group_of_the_name() {
    let (mut world, content, command) = slow_download(325, 3, SLOW * 300);
    world.ask(0, Request::DeleteGroup { group: group() }).expect("is done");
    world.run_for(A_SECOND);
    assert!(refusal(&world, command).message.contains("group g has ended"));
    // Everybody joins the new one, and who has the file is there too.
    for place in [2, 1, 0] {
        join(&mut world, place);
    }
    let id = id_of(&mut world, 1);
    let before = world.nodes[0].served_bytes;
    let reject = world.ask(1, Request::Resume { id }).expect_err("not from this group");
    assert_eq!(reject.code, ErrorCode::NOT_MEMBER);
    assert!(reject.hint.contains("another group has its name"), "{reject:?}");
    world.run_for(A_SECOND);
    for place in 0..3 {
        world.kill(place);
        world.start(place);
    }
    nothing_is_served(&mut world);
    assert_eq!(world.nodes[0].served_bytes, before);
    assert!(!world.holds(1, content));
}

#[test]
fn a_seeder_that_was_away_learns_what_was_revoked_meanwhile() {
    let (mut world, content, command) = slow_download(330, 3, SLOW * 300);
    // Who downloads does not hear of it either, or it would stop by itself.
    world.cut_tracker(0);
    world.cut_tracker(1);
    world.run_for(A_SECOND);
    world.ask(2, remove(1)).expect("is done");
    let before = world.nodes[0].served_bytes;
    world.run_for(Duration::from_secs(30));
    assert!(world.nodes[0].served_bytes > before, "nobody has told the seeder");
    world.connect_tracker(0);
    world.run_for(A_SECOND);
    nothing_is_served(&mut world);
    let (waiting, reason) = world.download_state(1);
    assert_eq!(waiting, DownloadState::Waiting);
    assert!(reason.as_ref().is_some_and(|reason| reason.starts_with("no grant to read g: ")), "{reason:?}");
    world.connect_tracker(1);
    world.run_for(A_SECOND);
    assert_eq!(refusal(&world, command).code, ErrorCode::NOT_MEMBER);
    assert!(!world.holds(1, content));
}

#[test]
fn a_seeder_that_was_removed_while_it_was_away_stops_serving() {
    let (mut world, content, _) = slow_download(331, 3, SLOW * 300);
    world.cut_tracker(0);
    world.run_for(A_SECOND);
    world.ask(2, remove(0)).expect("is done");
    world.connect_tracker(0);
    world.run_for(A_SECOND);
    nothing_is_served(&mut world);
    join(&mut world, 0);
    world.complete_all(1..2, content);
}

#[test]
fn waiting_downloads_of_a_lost_group_end_too() {
    let mut world = World::of_members(340, 2, Link::both(SLOW));
    for number in 0..20 {
        world.upload(0, 4 << 20, &format!("f{number}"));
    }
    for number in 0..20 {
        world.start_download(1, &format!("f{number}"));
    }
    world.run_for(Duration::from_secs(10));
    world.ask(0, remove(1)).expect("is done");
    world.run_for(A_SECOND);
    match world.ask(1, Request::ShowDownloads) {
        Ok(Answer::Downloads(list)) => {
            assert!(list.downloads.iter().all(|download| download.error == Some(ErrorCode::NOT_MEMBER)), "{list:?}");
        }
        other => panic!("no list: {other:?}"),
    }
}

#[test]
fn a_logout_tells_who_follows_once_and_the_next_login_goes_on() {
    let (mut world, content, command) = slow_download(341, 2, SLOW * 100);
    world.ask(1, Request::Logout).expect("logs out");
    world.run_for(Duration::from_secs(30));
    assert_eq!(refusal(&world, command).code, ErrorCode::NOT_ALLOWED);
    let results = world.frames(1, command).iter().filter(|frame| matches!(frame, Frame::Result(_))).count();
    assert_eq!(results, 1);
    world.log_in(1, "user1");
    world.complete_all(1..2, content);
}

#[test]
fn comings_and_goings_at_random_moments_lose_nothing() {
    for seed in 350..390 {
        let mut world = World::of_members(seed, 4, Link::both(8 << 20));
        let content = world.upload(0, 24 << 20, "f");
        for place in 1..4 {
            world.start_download(place, "f");
        }
        for _ in 0..12 {
            let (place, pause) = (world.random.usize(1..4), Duration::from_millis(world.random.u64(1..600)));
            world.run_for(pause);
            match world.random.u8(0..7) {
                0 => drop(world.command(0, remove(place))),
                1 => drop(world.command(place, Request::LeaveGroup { group: group(), force: false })),
                2 => drop(world.command(place, Request::Logout)),
                3 => world.cut_tracker(place),
                4 => world.connect_tracker(place),
                5 => world.cut_tracker(0),
                _ => world.connect_tracker(0),
            }
        }
        world.set_tracker(true);
        world.run_for(Duration::from_secs(10));
        for place in 1..4 {
            world.log_in(place, &format!("user{place}"));
            join(&mut world, place);
            let id = id_of(&mut world, place);
            if !world.holds(place, content) {
                world.ask(place, Request::Resume { id }).expect("resumes");
            }
        }
        world.complete_all(1..4, content);
        assert!((1..4).all(|place| world.nodes[place].fetched_twice == 0), "seed {seed}");
    }
}
