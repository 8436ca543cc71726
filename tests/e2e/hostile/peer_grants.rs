//! Peers with no grant, a wrong grant, or more requests than their grant covers: what a daemon serves to whom.

use std::time::Duration;

use p2p_proto::grant::{Grant, GrantBody, GrantSigner};
use p2p_proto::id::ContentId;
use p2p_proto::limit::{CLOCK_LEEWAY_SECONDS, GRANT_LIFE_SECONDS};
use p2p_proto::peer::{FromDownloader, FromProvider, stream_code};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::Request;
use p2p_tests::file::random_file;
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::peer::Served;
use p2p_tests::hostile::tracker::now;
use p2p_tests::hostile::{Client, Heard, Key, Peer, Stream};
use p2p_tests::wait;
use p2p_tests::world::PASSWORD;

use super::{Staged, photos, stranger, well};
use crate::{MIB, NAME, Shared, text};

/// That it was refused with this code and these words, and got nothing.
fn assert_refused(what: &str, served: &Served, code: ErrorCode, words: &str) {
    match served {
        Served::Refused(refused, message) if *refused == code && message.contains(words) => {}
        other => panic!("{what}: {other:?} instead of {code:?} with `{words}`"),
    }
}

/// The refusal that ends an interest, behind whatever else is told on it.
async fn refusal_on(interest: &mut Stream) -> Reject {
    loop {
        match interest.hear::<FromProvider>().await {
            Heard::Message(FromProvider::Refused(reject)) => return reject,
            Heard::Message(_) => {}
            other => panic!("no refusal: {other:?}"),
        }
    }
}

#[test]
fn every_wrong_grant_meets_its_own_refusal() {
    let mut staged = Staged::new(64 * MIB);
    let download = staged.download();
    let (key, other) = (Key::new(), Key::new());
    let own = GrantSigner::from_document(&GrantSigner::generate_document().expect("a key")).expect("a key");
    let body = staged.tracker.body(key.node, "mallory", &photos());
    let sign = |change: &dyn Fn(&mut GrantBody)| {
        let mut changed = body.clone();
        change(&mut changed);
        staged.tracker.signer.sign(&changed)
    };
    let honest = sign(&|_| {});
    let at = |seconds: u64| Duration::from_secs(seconds);
    let ago = |seconds: u64| UnixMillis(now().0 - seconds * 1000);
    let flip = |mut bytes: Vec<u8>, place: usize| {
        bytes[place] ^= 1;
        bytes
    };
    let middle = honest.body.len() / 2;
    let table: Vec<(&str, Grant, &str)> = vec![
        ("none", Grant { body: Vec::new(), signature: Vec::new() }, "malformed"),
        ("garbage", Grant { body: vec![0xff; 200], signature: vec![0xff; 64] }, "malformed"),
        ("of a later version", sign(&|body| body.version = 2), "malformed"),
        ("cut short", Grant { body: honest.body[..middle].to_vec(), ..honest.clone() }, "malformed"),
        ("of another cluster", own.sign(&GrantBody { cluster: own.public_key(), ..body.clone() }), "another cluster"),
        ("signed by its holder", own.sign(&body), "forged"),
        ("with a changed name", Grant { body: flip(honest.body.clone(), 70), ..honest.clone() }, "forged"),
        (
            "with a changed signature",
            Grant { signature: flip(honest.signature.clone(), 9), ..honest.clone() },
            "forged",
        ),
        ("without its signature", Grant { signature: Vec::new(), ..honest.clone() }, "forged"),
        ("of another node", staged.honest_grant(&other, "mallory"), "another node"),
        ("of another group", sign(&|body| body.group = named("books")), "another group"),
        ("from the future", sign(&|body| body.issued = now().plus(at(CLOCK_LEEWAY_SECONDS + 60))), "the future"),
        ("for too long", sign(&|body| body.expires = body.issued.plus(at(GRANT_LIFE_SECONDS + 1))), "longer than"),
        (
            "expired",
            sign(&|body| {
                body.issued = ago(GRANT_LIFE_SECONDS);
                body.expires = ago(1);
            }),
            "expired",
        ),
        ("that ends before it begins", sign(&|body| body.expires = UnixMillis(0)), "expired"),
    ];
    staged.runtime.block_on(async {
        let peer = staged.connect(&key).await.expect("its key is valid");
        for (what, grant, words) in &table {
            let refused = peer.interest(&photos(), staged.content, grant).await.expect_err(what);
            assert_refused(what, &refused, ErrorCode::GRANT_REFUSED, words);
            // A refused interest permits nothing.
            assert_refused(what, &peer.piece(staged.content, 0).await, ErrorCode::GRANT_REFUSED, "no grant");
            assert_refused(what, &peer.manifest(staged.content).await, ErrorCode::GRANT_REFUSED, "no grant");
        }
        // It was the grant that was wrong, and nothing else.
        let _interest = peer.interest(&photos(), staged.content, &honest).await.expect("an honest grant");
        assert_eq!(peer.piece(staged.content, 1).await, Served::Bytes(512 * 1024));
    });
    staged.finish(download);
}

#[test]
fn a_grant_covers_its_content_and_nothing_beside_it() {
    let mut staged = Staged::new(2 * MIB);
    let second = random_file(staged.folder.path(), "second", MIB);
    let second = staged.alice.json(&["upload_file", text(&second), "books"]);
    let second: ContentId = second["content"].as_str().expect("an id").parse().expect("an id");
    let key = Key::new();
    let photos_grant = staged.honest_grant(&key, "mallory");
    let books_grant = staged.tracker.signer.sign(&staged.tracker.body(key.node, "mallory", &named("books")));
    staged.runtime.block_on(async {
        let peer = staged.connect(&key).await.expect("its key is valid");
        let nothing = ContentId([7; 32]);
        for (what, group, content, grant) in [
            ("a content of another group", "photos", second, &photos_grant),
            ("the same the other way round", "books", staged.content, &books_grant),
            ("a content that is nowhere", "photos", nothing, &photos_grant),
        ] {
            let refused = peer.interest(&named(group), content, grant).await.expect_err(what);
            assert_refused(what, &refused, ErrorCode::CONTENT_NOT_FOUND, "not served here");
        }
        let first = peer.interest(&photos(), staged.content, &photos_grant).await.expect("an honest interest");
        for (what, content, piece, code, words) in [
            ("of a content without an interest", second, 0, ErrorCode::GRANT_REFUSED, "no grant"),
            ("of a content that is nowhere", nothing, 0, ErrorCode::GRANT_REFUSED, "no grant"),
            ("behind the last", staged.content, 4, ErrorCode::CONTENT_NOT_FOUND, "this piece is not here"),
            ("far behind the last", staged.content, 1 << 31, ErrorCode::CONTENT_NOT_FOUND, "this piece is not here"),
            (
                "with the largest number",
                staged.content,
                u32::MAX,
                ErrorCode::CONTENT_NOT_FOUND,
                "this piece is not here",
            ),
        ] {
            assert_refused(what, &peer.piece(content, piece).await, code, words);
        }
        assert_refused("a manifest", &peer.manifest(second).await, ErrorCode::GRANT_REFUSED, "no grant");

        // A second interest in the same content takes the first one's place, whose end changes nothing then.
        let mut first = first;
        let mut second = peer.interest(&photos(), staged.content, &photos_grant).await.expect("the same again");
        let told = refusal_on(&mut first).await;
        assert_eq!((told.code, told.message.contains("a newer interest")), (ErrorCode::BUSY, true), "{told}");
        drop(first);
        assert_eq!(peer.piece(staged.content, 3).await, Served::Bytes(512 * 1024));

        // A wrong grant in the place of the right one ends what the right one permitted.
        second.say(&FromDownloader::Renew(books_grant)).await;
        assert_eq!(refusal_on(&mut second).await.code, ErrorCode::GRANT_REFUSED);
        assert_refused("after that", &peer.piece(staged.content, 0).await, ErrorCode::GRANT_REFUSED, "no grant");
    });
    well(&mut staged.alice);
}

#[test]
fn what_a_grant_permitted_ends_with_it() {
    let mut staged = Staged::new(MIB);
    let key = Key::new();
    let mut body = staged.tracker.body(key.node, "mallory", &photos());
    body.expires = now().plus(Duration::from_secs(8));
    let grant = staged.tracker.signer.sign(&body);
    staged.runtime.block_on(async {
        let peer = staged.connect(&key).await.expect("its key is valid");
        let mut interest = peer.interest(&photos(), staged.content, &grant).await.expect("it holds still");
        assert_eq!(peer.piece(staged.content, 0).await, Served::Bytes(512 * 1024));
        let start = std::time::Instant::now();
        let end = loop {
            match peer.piece(staged.content, 0).await {
                Served::Bytes(_) => assert!(start.elapsed() < wait::DEADLINE, "served for ever"),
                other => break other,
            }
        };
        // In the middle of a piece, or before the next.
        let reset = Served::Reset(stream_code::REFUSED.into());
        assert!(end == reset || matches!(end, Served::Refused(ErrorCode::GRANT_REFUSED, _)), "{end:?}");
        let told = refusal_on(&mut interest).await;
        assert_eq!((told.code, told.message.as_str()), (ErrorCode::GRANT_REFUSED, "the grant has ended"));
        assert_refused("after that", &peer.piece(staged.content, 0).await, ErrorCode::GRANT_REFUSED, "no grant");
    });
    well(&mut staged.alice);
}

#[test]
fn interests_without_end_are_refused_beyond_a_few() {
    let mut staged = Staged::new(2 * MIB);
    let contents: Vec<ContentId> = (1..=80)
        .map(|length| {
            let file = random_file(staged.folder.path(), &format!("{length}"), length);
            let uploaded = staged.alice.json(&["upload_file", text(&file), "photos"]);
            uploaded["content"].as_str().expect("an id").parse().expect("an id")
        })
        .collect();
    let key = Key::new();
    let grant = staged.honest_grant(&key, "mallory");
    let memory = super::Memory::of(staged.alice.process());
    staged.runtime.block_on(async {
        let peer = staged.connect(&key).await.expect("its key is valid");
        for _ in 0..1_000 {
            peer.interest(&photos(), staged.content, &grant).await.expect("the newest counts");
        }
        let (mut open, mut refused) = (Vec::new(), 0);
        for content in &contents {
            match peer.interest(&photos(), *content, &grant).await {
                Ok(interest) => open.push(interest),
                Err(served) => {
                    assert_refused("too many", &served, ErrorCode::BUSY, "too many interests on one connection");
                    refused += 1;
                }
            }
        }
        assert!(open.len() >= 32 && refused > 0, "{} are open, {refused} are refused", open.len());
        drop(open);
    });
    memory.is_flat(staged.alice.process());
    let download = staged.download();
    staged.finish(download);
}

#[test]
fn an_account_without_membership_gets_nothing_of_a_real_trackers_group() {
    let shared = Shared::new(2 * MIB);
    shared.alice.run(&["create_group", "secret", "--policy", "open"]);
    shared.alice.run(&["upload_file", text(&shared.file), "secret", "--name", "secret.jpg"]);
    let files = shared.alice.json(&["list_files", "secret"]);
    let content: ContentId = files["files"][0]["content"].as_str().expect("an id").parse().expect("an id");
    let runtime = p2p_tests::hostile::runtime();
    let (key, here) = (Key::new(), stranger());
    runtime.block_on(async {
        let client = Client::enter(here, shared.world.tracker.address, &key, "mallory", PASSWORD).await;
        let request = Request::Grant { group: named("secret") };
        assert_eq!(client.ask(request).await.expect_err("not a member").code, ErrorCode::NOT_MEMBER);

        // An honest grant of the real tracker, for the group that anybody may read.
        let photos_grant = client.grant("photos").await;
        let peer = Peer::connect(here, shared.alice.address(), &key).await.expect("its key is valid");
        let refused = peer.interest(&named("secret"), content, &photos_grant).await.expect_err("of another group");
        assert_refused("of another group", &refused, ErrorCode::GRANT_REFUSED, "another group");

        // Its own second node has an honest grant, which is worth nothing in the hands of the first.
        let second = Key::new();
        let twin = Client::connect(here, shared.world.tracker.address, &second).await.expect("connects");
        twin.log_in("mallory", PASSWORD).await.expect("the same user on another node");
        let stolen = twin.grant("photos").await;
        let refused = peer.interest(&photos(), content, &stolen).await.expect_err("of another node");
        assert_refused("of another node", &refused, ErrorCode::GRANT_REFUSED, "another node");

        // A member for a while: what was granted then is void once alice has removed it.
        client.ask(Request::JoinGroup { group: named("secret") }).await.expect("an open group");
        let before = client.grant("secret").await;
        let mut interest = peer.interest(&named("secret"), content, &before).await.expect("a member");
        assert_eq!(peer.piece(content, 0).await, Served::Bytes(512 * 1024));
        shared.alice.run(&["remove_member", "secret", "mallory"]);
        refusal_on(&mut interest).await;
        let refused = peer.interest(&named("secret"), content, &before).await.expect_err("from before the removal");
        assert_refused("from before the removal", &refused, ErrorCode::GRANT_REFUSED, "");
        assert_refused("its pieces", &peer.piece(content, 0).await, ErrorCode::GRANT_REFUSED, "no grant");
    });
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
    p2p_tests::file::assert_equal(&shared.file, &shared.copy());
}
