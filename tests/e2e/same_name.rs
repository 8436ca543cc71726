//! A group that is deleted and made again by somebody else under its old name: what was shared with the old one is not
//! served in the new one, whoever lists it there, and over restarts too.

use p2p_proto::id::ContentId;
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Answer, Request};
use p2p_tests::file::{assert_equal, random_file};
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::peer::Served;
use p2p_tests::hostile::{Client, Key, Peer, runtime};
use p2p_tests::wait::eventually;
use p2p_tests::world::{PASSWORD, own_address};
use p2p_tests::{Daemon, World};
use serde_json::Value;

use crate::{MIB, NAME, column, number, only_download, text};

const LENGTH: u64 = 8 * MIB;

/// A file that bob shared with alice's group `photos`, in which mallory was a member. The group is gone; mallory has
/// made one of that name and listed the file's id in it.
struct Remade {
    world: World,
    bob: Daemon,
    mallory: Daemon,
    /// A program of mallory's that speaks for itself.
    client: Client,
    key: Key,
    file: std::path::PathBuf,
    content: ContentId,
    runtime: tokio::runtime::Runtime,
}

impl Remade {
    /// `before` and `after`: what becomes of bob's daemon before the group is deleted, and once it is made again.
    fn new(policy: &str, before: fn(&mut Daemon), after: fn(&mut Daemon)) -> Remade {
        let world = World::new();
        let (alice, mut bob, mallory) = (world.user("alice"), world.user("bob"), world.user("mallory"));
        alice.run(&["create_group", "photos", "--policy", "open"]);
        bob.run(&["join_group", "photos"]);
        mallory.run(&["join_group", "photos"]);
        let file = random_file(world.folder(), NAME, LENGTH);
        bob.run(&["upload_file", text(&file), "photos"]);
        let listed = mallory.json(&["list_files", "photos"])["files"][0]["content"].clone();
        let content: ContentId = listed.as_str().expect("an id").parse().expect("an id");
        let (runtime, key) = (runtime(), Key::new());
        let (client, born_before) = runtime.block_on(async {
            let client = Client::connect(own_address(), world.tracker.address, &key).await.expect("connects");
            client.log_in("mallory", PASSWORD).await.expect("logged in");
            let born = match client.ask(Request::GroupInfo { group: named("photos") }).await {
                Ok(Answer::Groups(page)) => page[0].born,
                other => panic!("no group: {other:?}"),
            };
            (client, born)
        });
        before(&mut bob);
        alice.run(&["delete_group", "photos"]);
        mallory.run(&["create_group", "photos", "--policy", policy]);
        runtime.block_on(async {
            // What was prepared for the group before is not listed in this one.
            let publish = |born| Request::Publish {
                group: named("photos"),
                name: named(NAME),
                content,
                length: LENGTH,
                replace: false,
                born,
            };
            let refused = client.ask(publish(Some(born_before))).await.expect_err("meant for another group");
            assert_eq!(refused.code, ErrorCode::GROUP_NOT_FOUND, "{refused}");
            client.ask(publish(None)).await.expect("listing proves nothing, and is allowed");
        });
        after(&mut bob);
        Remade { world, bob, mallory, client, key, file, content, runtime }
    }

    /// Bob's daemon has announced what it shares, and has been told that this group is another one.
    fn bob_has_announced(&self) {
        eventually("bob's announcement was looked at", || {
            let status = self.bob.json(&["status"]);
            let problems = status["problems"].as_array().expect("a list").clone();
            let told =
                |problem: &Value| problem.as_str().is_some_and(|text| text.contains("another group has the name"));
            problems.iter().any(told).then_some(())
        });
    }

    /// Neither the tracker sends anybody to bob, nor does he serve who comes with a good grant.
    fn nothing_is_served(&self) {
        let info = self.mallory.json(&["file_info", "photos", NAME]);
        assert_eq!(number(&info["file"], "seeders"), 0, "{info}");
        assert_eq!(info["providers"], Value::Array(vec![]), "{info}");
        self.runtime.block_on(async {
            let grant = self.client.grant("photos").await;
            let peer = Peer::connect(own_address(), self.bob.address(), &self.key).await.expect("its key is valid");
            let refused = peer.interest(&named("photos"), self.content, &grant).await.expect_err("not served");
            assert!(matches!(refused, Served::Refused(ErrorCode::CONTENT_NOT_FOUND, _)), "{refused:?}");
            for answer in [peer.piece(self.content, 0).await, peer.manifest(self.content).await] {
                assert!(matches!(answer, Served::Refused(ErrorCode::GRANT_REFUSED, _)), "{answer:?}");
            }
        });
    }

    /// Mallory's download waits for somebody who has it.
    fn mallory_waits(&self) {
        let copy = self.copy();
        self.mallory.run(&["download_file", "--detach", "photos", NAME, text(&copy)]);
        let waiting = eventually("the download waits for a seeder", || {
            let download = only_download(&self.mallory);
            let reason = download["reason"].as_str().unwrap_or_default();
            reason.starts_with("no seeder online").then_some(download.clone())
        });
        self.nothing_is_served();
        assert_eq!((number(&waiting, "have_bytes"), number(&waiting, "fetched_bytes")), (0, 0), "{waiting}");
        let later = only_download(&self.mallory);
        assert_eq!((&later["state"], number(&later, "fetched_bytes")), (&"waiting".into(), 0), "{later}");
        assert!(!copy.exists());
    }

    fn copy(&self) -> std::path::PathBuf {
        self.world.path("mallory's copy")
    }
}

fn nothing(_: &mut Daemon) {}

fn restarts(bob: &mut Daemon) {
    bob.kill();
    bob.restart();
}

fn joins_again(bob: &mut Daemon) {
    bob.run(&["join_group", "photos"]);
    restarts(bob);
}

#[test]
fn a_share_is_not_served_in_a_public_group_that_got_its_groups_name() {
    let remade = Remade::new("public", nothing, restarts);
    remade.bob_has_announced();
    remade.mallory_waits();
}

#[test]
fn nor_by_who_was_away_meanwhile() {
    let remade = Remade::new("public", Daemon::kill, Daemon::restart);
    // Before bob has heard of anything, too.
    remade.nothing_is_served();
    remade.bob_has_announced();
    remade.mallory_waits();
}

#[test]
fn nor_in_an_open_group_that_is_joined_again_until_it_is_shared_there() {
    let remade = Remade::new("open", nothing, joins_again);
    remade.bob_has_announced();
    remade.mallory_waits();
    // What bob shares with the new group himself is served there.
    remade.bob.run(&["upload_file", text(&remade.file), "photos"]);
    let id = only_download(&remade.mallory)["id"].as_str().expect("an id").to_owned();
    remade.mallory.run(&["wait", &id]);
    assert_equal(&remade.file, &remade.copy());
}

#[test]
fn a_copy_of_what_another_group_has_is_not_shared_with_who_listed_its_id() {
    let world = World::new();
    let (alice, bob, mallory) = (world.user("alice"), world.user("bob"), world.user("mallory"));
    alice.run(&["create_group", "secret", "--policy", "open"]);
    bob.run(&["join_group", "secret"]);
    let file = random_file(world.folder(), NAME, LENGTH);
    alice.run(&["upload_file", text(&file), "secret"]);
    let secret = world.path("bob's secret");
    bob.run(&["download_file", "secret", NAME, text(&secret)]);
    let listed = bob.json(&["list_files", "secret"])["files"][0]["content"].clone();
    let content: ContentId = listed.as_str().expect("an id").parse().expect("an id");
    runtime().block_on(async {
        let client = Client::connect(own_address(), world.tracker.address, &Key::new()).await.expect("connects");
        client.log_in("mallory", PASSWORD).await.expect("logged in");
        let (group, name) = (named("public"), named("ubuntu.iso"));
        let publish = Request::Publish { group, name, content, length: LENGTH, replace: false, born: None };
        client.ask(publish).await.expect("listed");
    });
    let copy = world.path("ubuntu.iso");
    bob.run(&["download_file", "public", "ubuntu.iso", text(&copy)]);
    assert_equal(&file, &copy);
    assert_eq!(column(&bob.json(&["list"])["shares"], "group"), ["secret"]);
    let downloads = bob.json(&["show_downloads"]);
    let copied = crate::entry(&downloads["downloads"], "group", "public");
    assert_eq!(copied["state"], "complete");
    let reason = copied["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("shared with secret, not with public"), "{reason}");
    let info = mallory.json(&["file_info", "public", "ubuntu.iso"]);
    assert_eq!(number(&info["file"], "seeders"), 0, "{info}");
    // Who wants to share it does.
    bob.run(&["upload_file", text(&copy), "public"]);
    mallory.run(&["download_file", "public", "ubuntu.iso", text(&world.path("mallory's copy"))]);
}
