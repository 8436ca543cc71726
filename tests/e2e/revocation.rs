//! Access that is lost in the middle of a download: who downloads is cut off and told why, others are not disturbed.
//!
//! Somebody is held with SIGSTOP where a test must meet a transfer in the middle, so that no transfer is too fast for it.

use std::time::{Duration, Instant};

use p2p_tests::file::{assert_equal, files_under, random_file};
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, Relay, World};
use rustix::process::Signal;
use serde_json::Value;

use crate::{MIB, NAME, number, only_download, text};

/// Long enough to be met in the middle.
const LENGTH: u64 = 256 * MIB;

/// What may be fetched twice: what was on its way or not yet synced when access was lost.
const WINDOW: u64 = 64 * MIB;

/// The life of a grant where a test waits for its end: as short as can be.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// Olga's group `photos`, in which alice shares a file and bob is a member.
struct Members {
    world: World,
    olga: Daemon,
    alice: Daemon,
    bob: Daemon,
    /// Between bob and the tracker.
    relay: Relay,
    file: std::path::PathBuf,
}

impl Members {
    fn new(world: World) -> Members {
        let (olga, alice) = (world.user("olga"), world.user("alice"));
        let relay = Relay::to(world.tracker.address);
        let mut bob = world.resting_daemon("bob").tracker_at(relay.address);
        bob.restart();
        bob.become_known_as("bob");
        let file = random_file(world.folder(), NAME, LENGTH);
        olga.run(&["create_group", "photos", "--policy", "open"]);
        for member in [&alice, &bob] {
            member.run(&["join_group", "photos"]);
        }
        alice.run(&["upload_file", text(&file), "photos"]);
        Members { world, olga, alice, bob, relay, file }
    }

    /// Bob downloads; returns with the transfer under way, however fast it is, and held at `held`.
    fn download_and_hold(&mut self, held: fn(&mut Members) -> &mut Daemon) -> p2p_tests::ctl::Follower {
        let copy = self.copy();
        let follower = self.bob.follow(&["download_file", "photos", NAME, text(&copy)]);
        eventually("the first pieces are here", || {
            let downloads = self.bob.json(&["show_downloads"]);
            let first = downloads["downloads"].get(0)?.clone();
            (number(&first, "have_bytes") > 0).then_some(())
        });
        held(self).process().signal(Signal::STOP);
        follower
    }

    fn copy(&self) -> std::path::PathBuf {
        self.world.path("bob's copy")
    }

    /// Bob's part file, which is kept.
    fn has_part_file(&self) -> bool {
        let files = files_under(self.world.folder());
        files.iter().any(|path| path.to_string_lossy().ends_with("bob's copy.part"))
    }

    /// Olga, whose access nobody touched, downloads all of it from alice.
    fn olga_downloads(&self) {
        let copy = self.world.path("olga's copy");
        self.olga.run(&["download_file", "photos", NAME, text(&copy)]);
        assert_equal(&self.file, &copy);
    }
}

/// How a command that follows a download was refused, which must be with exit code 5 and a hint.
fn refusal(follower: p2p_tests::ctl::Follower) -> (String, String) {
    let output = follower.finish();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{shown}");
    let error: Value = serde_json::from_str(shown.trim_end()).unwrap_or_else(|error| panic!("{error} in {shown:?}"));
    let text = |field: &str| error[field].as_str().unwrap_or_else(|| panic!("no {field} in {error}")).to_owned();
    assert!(!text("hint").is_empty());
    (text("code"), text("message"))
}

/// A removal, seen by bob alone: alice is held, and has to be told by nobody.
fn cut_off(mut members: Members, by: impl FnOnce(&Members)) -> (Members, String, String) {
    let follower = members.download_and_hold(|members| &mut members.alice);
    by(&members);
    let (code, message) = refusal(follower);
    assert!(!members.copy().exists() && members.has_part_file(), "what is here is kept, and not under its name");
    members.alice.process().signal(Signal::CONT);
    (members, code, message)
}

#[test]
fn a_removed_member_is_cut_off_and_goes_on_when_let_in_again() {
    let (members, code, message) =
        cut_off(Members::new(World::new()), |members| drop(members.olga.run(&["remove_member", "photos", "bob"])));
    assert_eq!((code.as_str(), message.contains("no longer a member of photos")), ("not_member", true), "{message}");
    let failed = only_download(&members.bob);
    assert_eq!((&failed["state"], &failed["error"]), (&"error".into(), &"not_member".into()));
    members.olga_downloads();
    // Back again, and served at once: by those who were told to void what was granted before, too.
    members.bob.run(&["join_group", "photos"]);
    let id = failed["id"].as_str().expect("an id");
    members.bob.run(&["resume", id]);
    let result = members.bob.json(&["wait", id]);
    assert_equal(&members.file, &members.copy());
    assert!(number(&result, "fetched_bytes") <= LENGTH + WINDOW, "{result}");
}

#[test]
fn who_leaves_a_group_in_the_middle_is_cut_off() {
    let (members, code, message) =
        cut_off(Members::new(World::new()), |members| drop(members.bob.run(&["leave_group", "photos"])));
    assert_eq!((code.as_str(), message.contains("no longer a member of photos")), ("not_member", true), "{message}");
    members.olga_downloads();
}

#[test]
fn a_group_that_is_deleted_takes_its_downloads_along() {
    let (members, code, message) =
        cut_off(Members::new(World::new()), |members| drop(members.olga.run(&["delete_group", "photos"])));
    assert_eq!((code.as_str(), message.contains("group photos has ended")), ("not_member", true), "{message}");
    // The same name is another group: nothing of the old one is served in it.
    members.bob.run(&["create_group", "photos", "--policy", "open"]);
    assert_eq!(members.bob.json(&["list_files", "photos"])["files"], Value::Array(vec![]));
}

#[test]
fn a_logout_in_the_middle_ends_the_command_and_the_next_login_goes_on() {
    let (members, code, message) = cut_off(Members::new(World::new()), |members| drop(members.bob.run(&["logout"])));
    assert_eq!((code.as_str(), message.contains("no longer logged in")), ("not_allowed", true), "{message}");
    members.olga_downloads();
    members.bob.run(&["login", "bob", PASSWORD]);
    let id = only_download(&members.bob)["id"].as_str().expect("an id").to_owned();
    members.bob.run(&["wait", &id]);
    assert_equal(&members.file, &members.copy());
}

/// Bob, whom nobody tells, is refused by alice until he learns why from the tracker.
fn refused_by_alice(members: &mut Members, follower: p2p_tests::ctl::Follower, code: &str) {
    members.bob.process().signal(Signal::CONT);
    let waiting = eventually("alice serves bob no longer", || {
        let download = only_download(&members.bob);
        let reason = download["reason"].as_str().unwrap_or_default();
        reason.starts_with("no grant to read photos").then_some(download.clone())
    });
    assert!(number(&waiting, "have_bytes") < LENGTH, "{waiting}");
    let later = only_download(&members.bob);
    assert_eq!(number(&later, "fetched_bytes"), number(&waiting, "fetched_bytes"), "nothing comes any more");
    members.olga_downloads();
    members.relay.mute(false);
    assert_eq!(refusal(follower).0, code);
    assert!(!members.copy().exists());
}

/// Another node of bob's.
fn bobs_phone(members: &Members) -> Daemon {
    let phone = members.world.daemon("phone");
    phone.run(&["login", "bob", PASSWORD]);
    phone
}

fn phone_logs_bobs_lost_node_out(members: &Members) {
    let phone = bobs_phone(members);
    let devices = phone.json(&["status"])["devices"].clone();
    let this = phone.json(&["status"])["node"].clone();
    let lost = devices.as_array().expect("a list").iter().find(|device| device["node"] != this).expect("bob's first");
    phone.run(&["logout", "--node", lost["node"].as_str().expect("an id")]);
}

fn phone_changes_bobs_password(members: &Members) {
    let passwords = members.world.path("passwords");
    std::fs::write(&passwords, format!("{PASSWORD}\nnew\n")).expect("writes");
    let passwords = std::fs::File::open(passwords).expect("opens");
    let phone = bobs_phone(members);
    let ctl = phone.ctl().with(|command| _ = command.stdin(passwords));
    ctl.run(&["passwd", "--log-out-everywhere", "--old-password-file", "-", "--password-file", "-"]);
}

fn olga_closes_a_public_group_to_bob(members: &Members) {
    members.olga.run(&["set_policy", "photos", "approval"]);
}

/// Bob reads what everybody may, as no member.
fn bob_is_no_member(world: World) -> Members {
    let members = Members::new(world);
    members.olga.run(&["set_policy", "photos", "public"]);
    members.bob.run(&["leave_group", "photos"]);
    members
}

#[test]
fn a_lost_device_that_is_logged_out_is_cut_off() {
    let (members, code, message) = cut_off(Members::new(World::new()), phone_logs_bobs_lost_node_out);
    assert_eq!((code.as_str(), message.contains("no longer logged in")), ("not_allowed", true), "{message}");
    members.olga_downloads();
}

#[test]
fn a_changed_password_that_logs_out_everywhere_cuts_off() {
    let (members, code, message) = cut_off(Members::new(World::new()), phone_changes_bobs_password);
    assert_eq!((code.as_str(), message.contains("no longer logged in")), ("not_allowed", true), "{message}");
    members.olga_downloads();
}

#[test]
fn a_group_that_is_public_no_more_cuts_off_who_is_no_member() {
    let (members, code, message) = cut_off(bob_is_no_member(World::new()), olga_closes_a_public_group_to_bob);
    assert_eq!(code, "not_member", "{message}");
    members.olga_downloads();
}

/// The other side of it: bob, whom nobody tells, is served no more by alice, who is told.
fn cut_off_by_alice(mut members: Members, by: fn(&Members), code: &str) {
    let follower = members.download_and_hold(|members| &mut members.bob);
    members.relay.mute(true);
    by(&members);
    refused_by_alice(&mut members, follower, code);
}

#[test]
fn alice_stops_serving_a_device_that_is_logged_out() {
    cut_off_by_alice(Members::new(World::new()), phone_logs_bobs_lost_node_out, "not_allowed");
}

#[test]
fn alice_stops_serving_after_a_changed_password() {
    cut_off_by_alice(Members::new(World::new()), phone_changes_bobs_password, "not_allowed");
}

#[test]
fn alice_stops_serving_who_may_not_read_a_group_any_more() {
    cut_off_by_alice(bob_is_no_member(World::new()), olga_closes_a_public_group_to_bob, "not_member");
}

#[test]
fn whoever_serves_stops_also_where_the_downloader_does_not_hear_of_it() {
    let mut members = Members::new(World::new());
    let follower = members.download_and_hold(|members| &mut members.bob);
    members.relay.mute(true);
    members.olga.run(&["remove_member", "photos", "bob"]);
    refused_by_alice(&mut members, follower, "not_member");
}

#[test]
fn whoever_serves_and_was_away_learns_it_from_a_tracker_that_was_restarted() {
    let mut members = Members::new(World::new());
    let follower = members.download_and_hold(|members| &mut members.bob);
    members.relay.mute(true);
    members.alice.process().signal(Signal::STOP);
    members.olga.run(&["remove_member", "photos", "bob"]);
    members.world.tracker.kill();
    members.world.tracker.restart();
    members.alice.process().signal(Signal::CONT);
    // Answered by the tracker that was restarted, so alice has announced to it or is about to.
    members.alice.run(&["list_files", "photos"]);
    eventually("alice has announced what she shares", || {
        let listed = members.olga.json(&["list_files", "photos"]);
        (number(&listed["files"][0], "seeders") == 1).then_some(())
    });
    refused_by_alice(&mut members, follower, "not_member");
}

#[test]
fn with_every_tracker_down_serving_ends_with_the_grant() {
    let mut members = Members::new(World::with_tracker(&["--grant-life", &SHORT_LIFE.as_secs().to_string()]));
    let _follower = members.download_and_hold(|members| &mut members.bob);
    members.world.tracker.kill();
    let last_grant_ends = Instant::now() + SHORT_LIFE;
    let before = {
        members.bob.process().signal(Signal::CONT);
        let before = number(&only_download(&members.bob), "have_bytes");
        let after = eventually("served without a tracker, by a grant that holds", || {
            let have = number(&only_download(&members.bob), "have_bytes");
            (have > before).then_some(have)
        });
        members.bob.process().signal(Signal::STOP);
        after
    };
    assert!(before < LENGTH, "too fast to be met in the middle");
    eventually("the last grant has ended", || (Instant::now() >= last_grant_ends).then_some(()));
    members.bob.process().signal(Signal::CONT);
    let waiting = eventually("the download waits and says why", || {
        let download = only_download(&members.bob);
        let reason = download["reason"].as_str().unwrap_or_default();
        reason.starts_with("no grant to read photos: no tracker answers").then_some(download.clone())
    });
    assert!(number(&waiting, "have_bytes") < LENGTH, "{waiting}");
    assert_eq!(waiting["state"], "waiting");
    members.world.tracker.restart();
    let id = waiting["id"].as_str().expect("an id").to_owned();
    members.bob.run(&["wait", &id]);
    assert_equal(&members.file, &members.copy());
}
