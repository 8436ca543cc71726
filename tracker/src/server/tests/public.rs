//! The built-in group `public`, on folders new and old.

use p2p_proto::grant::GrantSigner;
use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::password::ServerSetup;
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Answer, Group, JoinPolicy, Request, Standing};

use super::harness::{Client, Tracker, named, run};
use crate::state::{Command, Entry, Setup};

const CONTENT: ContentId = ContentId([7; 32]);

fn lookup(group: &str) -> Request {
    Request::Lookup { group: named(group), content: CONTENT }
}

async fn public(client: &Client) -> Group {
    match client.ok(Request::GroupInfo { group: named("public") }).await {
        Answer::Groups(mut groups) => groups.pop().expect("one group"),
        other => panic!("not a group: {other:?}"),
    }
}

#[test]
fn a_content_is_announced_and_found_without_a_listing_in_the_public_group_alone() {
    let mut tracker = Tracker::start();
    for (round, end) in [Tracker::kill, Tracker::stop].into_iter().enumerate() {
        run(async {
            let new = |who: &str| format!("{who} {round}");
            let (alice, key) = Client::enter(tracker.address, &new("alice")).await;
            let (bob, _) = Client::enter(tracker.address, &new("bob")).await;
            assert!(public(&bob).await.is_built_in());
            let photos = new("photos");
            alice.create_group(&photos, JoinPolicy::Public).await;
            for group in ["public", &photos] {
                alice.announce(group, &[CONTENT], true).await.expect("noted");
            }
            let Answer::Providers(found) = bob.ok(lookup("Public")).await else { panic!("not providers") };
            assert_eq!(found.providers.iter().map(|provider| provider.node).collect::<Vec<_>>(), [key.node_id()]);
            assert_eq!(bob.refused(lookup(&photos)).await, ErrorCode::FILE_NOT_FOUND);
            assert!(matches!(bob.ok(Request::Grant { group: named("public") }).await, Answer::Grant(_)));
        });
        end(&mut tracker);
        tracker.start_again();
    }
    run(async {
        let stranger = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        assert_eq!(stranger.refused(lookup("public")).await, ErrorCode::LOGIN_NEEDED);
        assert_eq!(stranger.refused(Request::Grant { group: named("public") }).await, ErrorCode::LOGIN_NEEDED);
    });
}

/// A log as the version before the built-in group wrote it: alice is logged in on `node`, and whatever follows.
fn old_log(node: NodeId, more: Vec<Command>) -> Vec<Entry> {
    let setup = Setup {
        server_setup: ServerSetup::generate().to_bytes(),
        cluster_key: GrantSigner::generate_document().expect("made"),
    };
    let begin = [
        Command::Initialize(setup),
        Command::CreateUser { user: named("alice"), record: vec![1; 192] },
        Command::EnrolNode { user: named("alice") },
    ];
    let entry = |(number, command): (u8, Command)| {
        // The first request of a tracker has the id 0; those of others are drawn.
        Entry { request: RequestId([number * 16; 16]), actor: node, at: UnixMillis(u64::from(number)), command }
    };
    (0..).zip(begin.into_iter().chain(more)).map(entry).collect()
}

#[test]
fn a_folder_from_before_gets_the_built_in_group_at_its_next_start() {
    let key = Identity::generate().expect("made");
    let mut tracker = Tracker::with_log(&old_log(key.node_id(), Vec::new()));
    for _ in 0..2 {
        run(async {
            let alice = Client::connect(tracker.address, &key).await;
            assert!(public(&alice).await.is_built_in());
            alice.publish("public", "f", CONTENT).await.expect("published");
        });
        tracker.kill();
        tracker.start_again();
    }
}

#[test]
fn a_group_of_that_name_from_before_keeps_what_it_has_until_it_ends() {
    let key = Identity::generate().expect("made");
    let theirs = vec![
        Command::CreateGroup { group: named("public"), policy: JoinPolicy::Approval },
        Command::Publish { group: named("public"), name: named("diary"), content: CONTENT, length: 10 },
    ];
    let mut tracker = Tracker::with_log(&old_log(key.node_id(), theirs));
    for end in [Tracker::kill, Tracker::stop] {
        run(async {
            let alice = Client::connect(tracker.address, &key).await;
            let standing = public(&alice).await;
            assert_eq!((standing.owner.as_str(), standing.standing, standing.files), ("alice", Standing::Owner, 1));
            let (bob, _) = Client::enter(tracker.address, &format!("bob {}", alice.ack.time.0)).await;
            assert_eq!(bob.refused(lookup("public")).await, ErrorCode::NOT_MEMBER);
        });
        end(&mut tracker);
        tracker.start_again();
    }
    run(async {
        let alice = Client::connect(tracker.address, &key).await;
        alice.ok(Request::DeleteGroup { group: named("public") }).await;
        assert!(public(&alice).await.is_built_in());
    });
    tracker.kill();
    tracker.start_again();
    run(async {
        let alice = Client::connect(tracker.address, &key).await;
        assert_eq!((public(&alice).await.is_built_in(), public(&alice).await.files), (true, 0));
        assert_eq!(alice.refused(Request::DeleteGroup { group: named("public") }).await, ErrorCode::NOT_ALLOWED);
    });
}
