//! What honest nodes do.

use std::collections::BTreeSet;

use p2p_proto::grant::GrantSigner;
use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::name::GroupName;
use p2p_proto::password::{self, ClientRegistration, ServerSetup};
use p2p_proto::peer::close_code;
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Announce, Answer, Event, JoinPolicy, Joined, Presence, Providers, Request, Standing};
use quinn::{ConnectionError, TransportConfig, VarInt};

use super::accounts::device;
use super::harness::{Client, Tracker, named, run, secret};
use crate::state::bound::NODES_PER_USER_MAX;
use crate::state::{Command, Entry, Setup};

const CONTENT: ContentId = ContentId([7; 32]);

fn lookup(group: &str) -> Request {
    Request::Lookup { group: named(group), content: CONTENT }
}

async fn providers(client: &Client, group: &str) -> Providers {
    match client.ok(lookup(group)).await {
        Answer::Providers(providers) => providers,
        other => panic!("not providers: {other:?}"),
    }
}

#[test]
fn a_second_node_finds_the_first_and_hears_of_it() {
    let tracker = Tracker::start();
    run(async {
        let (alice, alice_key) = Client::enter(tracker.address, "alice").await;
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("photos", JoinPolicy::Public).await;
        alice.publish("photos", "beach.jpg", CONTENT).await.expect("published");
        bob.announce("photos", &[CONTENT], false).await.expect("noted");
        assert!(providers(&bob, "photos").await.providers.is_empty());

        alice.announce("photos", &[CONTENT], true).await.expect("noted");
        let Event::Provider { provider, .. } = bob.event().await else { panic!("not a provider") };
        assert_eq!((provider.node, provider.user.as_str(), provider.complete), (alice_key.node_id(), "alice", true));
        let found = providers(&bob, "photos").await.providers;
        assert_eq!(found[0].addresses, [alice.endpoint.local_addr().expect("bound")]);
        let Answer::Files(files) = bob.ok(Request::ListFiles { group: named("photos"), after: None }).await else {
            panic!("not files")
        };
        assert_eq!((files[0].seeders, files[0].partial), (1, 1));

        alice.connection.close(VarInt::from_u32(close_code::DONE), b"");
        alice.endpoint.wait_idle().await;
        // The tracker notes the end by itself; a node that is back before is told of anew.
        while providers(&bob, "photos").await.last_seeder.is_none() {}
        let back = Client::connect(tracker.address, &alice_key).await;
        assert_eq!(back.ack.user, Some(named("alice")), "the enrolment outlives the connection");
        back.announce("photos", &[CONTENT], true).await.expect("noted");
        assert!(matches!(bob.event().await, Event::Provider { .. }), "the download that waits is told");
    });
}

#[test]
fn a_node_is_found_where_it_is_seen_now_though_it_asks_nothing() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("photos", JoinPolicy::Public).await;
        alice.publish("photos", "beach.jpg", CONTENT).await.expect("published");
        alice.announce("photos", &[CONTENT], true).await.expect("noted");
        let before = providers(&bob, "photos").await.providers.remove(0).addresses;
        // As if her router had got another address.
        alice.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").expect("a port")).expect("rebinds");
        let now = alice.endpoint.local_addr().expect("bound");
        assert_ne!(before, [now]);
        // The connection moves along within a round trip.
        while providers(&bob, "photos").await.providers.remove(0).addresses != [now] {}
    });
}

#[test]
fn a_grant_names_node_group_and_epoch() {
    let tracker = Tracker::start();
    run(async {
        let (alice, key) = Client::enter(tracker.address, "alice").await;
        alice.create_group("Photos", JoinPolicy::Approval).await;
        let Answer::Grant(grant) = alice.ok(Request::Grant { group: named("photos") }).await else {
            panic!("not a grant")
        };
        let now = UnixMillis::from(std::time::SystemTime::now());
        let body = grant.verify(&alice.ack.cluster, key.node_id(), &named("Photos"), now).expect("valid");
        assert_eq!((body.user.as_str(), body.epoch), ("alice", 0));
        let (bob, _) = Client::enter(tracker.address, "bob").await;
        assert_eq!(bob.refused(Request::Grant { group: named("photos") }).await, ErrorCode::NOT_MEMBER);
        assert_eq!(bob.refused(lookup("photos")).await, ErrorCode::NOT_MEMBER);
    });
}

#[test]
fn wrong_password_and_unknown_user_are_one_refusal() {
    let tracker = Tracker::start();
    run(async {
        let client = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        client.register("alice", "right").await.expect("registered");
        assert_eq!(client.register("ALICE", "other").await.expect_err("taken").code, ErrorCode::USER_EXISTS);
        let wrong = client.login("alice", "wrong").await.expect_err("refused");
        let unknown = client.login("nobody", "right").await.expect_err("refused");
        assert_eq!((wrong.code, &wrong), (ErrorCode::LOGIN_REFUSED, &unknown));
        assert_eq!(client.refused(Request::ListGroups { mine: false, after: None }).await, ErrorCode::LOGIN_NEEDED);
        client.login("Alice", "right").await.expect("logged in");
        client.register("bob", "right").await.expect("registered");
        assert_eq!(client.login("bob", "right").await.expect_err("refused").code, ErrorCode::ALREADY_LOGGED_IN);
        client.ok(Request::Logout).await;
        assert_eq!(client.refused(Request::Logout).await, ErrorCode::LOGIN_NEEDED);
        client.login("bob", "right").await.expect("logged in");
    });
}

#[test]
fn a_removed_member_is_told_and_so_are_those_who_serve() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, _) = Client::enter(tracker.address, "alice").await;
        let (mut bob, bob_key) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Approval).await;
        assert!(matches!(alice.event().await, Event::Membership { standing: Standing::Owner, .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        let joined = bob.ok(Request::JoinGroup { group: named("g") }).await;
        assert_eq!(joined, Answer::Joined(Joined::Waiting { owner: named("alice") }));
        assert_eq!(alice.event().await, Event::JoinRequested { group: named("g"), user: named("bob") });
        alice.ok(Request::AcceptRequest { group: named("g"), user: named("bob") }).await;
        for standing in [Standing::Requested, Standing::Member] {
            assert_eq!(bob.event().await, Event::Membership { group: named("g"), standing });
        }
        bob.announce("g", &[CONTENT], false).await.expect("noted");
        alice.ok(Request::RemoveMember { group: named("g"), user: named("bob") }).await;
        assert_eq!(alice.event().await, Event::Revoked { group: named("g"), node: Some(bob_key.node_id()), epoch: 1 });
        assert_eq!(bob.event().await, Event::Membership { group: named("g"), standing: Standing::None });
        assert_eq!(bob.refused(lookup("g")).await, ErrorCode::NOT_MEMBER);
        bob.announce("g", &[CONTENT], true).await.expect("passed over");
        assert!(providers(&alice, "g").await.providers.is_empty(), "who may not read is not told of");
    });
}

#[test]
fn a_reader_of_a_group_that_is_no_longer_public_is_told_and_so_are_those_who_serve() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, _) = Client::enter(tracker.address, "alice").await;
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Public).await;
        assert!(matches!(alice.event().await, Event::Membership { standing: Standing::Owner, .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        bob.announce("g", &[CONTENT], false).await.expect("noted");
        alice.ok(Request::SetPolicy { group: named("g"), policy: JoinPolicy::Open }).await;
        assert_eq!(alice.event().await, Event::Revoked { group: named("g"), node: None, epoch: 1 });
        assert_eq!(bob.event().await, Event::Membership { group: named("g"), standing: Standing::None });
        assert_eq!(bob.refused(lookup("g")).await, ErrorCode::NOT_MEMBER);
        assert_eq!(bob.refused(Request::Grant { group: named("g") }).await, ErrorCode::NOT_MEMBER);
        assert!(providers(&alice, "g").await.providers.is_empty());
    });
}

#[test]
fn who_is_on_standby_is_woken_and_told_of() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, alice_key) = Client::enter(tracker.address, "alice").await;
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Public).await;
        assert!(matches!(alice.event().await, Event::Membership { .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        let item = Presence { group: named("g"), content: CONTENT, complete: true, born: alice.born("g").await };
        let standby = Announce { replace: false, present: vec![item], withdrawn: Vec::new() };
        alice.ok(Request::Standby(standby)).await;
        assert!(providers(&bob, "g").await.providers.is_empty());
        bob.announce("g", &[CONTENT], false).await.expect("noted");
        assert_eq!(alice.event().await, Event::Wanted { group: named("g"), content: CONTENT });
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        let Event::Provider { provider, .. } = bob.event().await else { panic!("not a provider") };
        assert_eq!(provider.node, alice_key.node_id());
    });
}

#[test]
fn what_was_acknowledged_outlives_a_kill_and_a_stop() {
    let mut tracker = Tracker::start();
    let alice_key = run(async {
        let (alice, key) = Client::enter(tracker.address, "alice").await;
        alice.create_group("g", JoinPolicy::Open).await;
        alice.publish("g", "f", CONTENT).await.expect("published");
        key
    });
    let id = |client: &Client| (client.ack.cluster, client.ack.user.clone());
    let before = run(async { id(&Client::connect(tracker.address, &alice_key).await) });
    for end in [Tracker::kill, Tracker::stop] {
        end(&mut tracker);
        tracker.start_again();
        run(async {
            let alice = Client::connect(tracker.address, &alice_key).await;
            assert_eq!(id(&alice), before, "the same cluster, and logged in still");
            alice.announce("g", &[CONTENT], true).await.expect("noted");
            let (bob, _) = Client::enter(tracker.address, &format!("u{}", alice.ack.time.0)).await;
            bob.ok(Request::JoinGroup { group: named("g") }).await;
            assert_eq!(providers(&bob, "g").await.providers.len(), 1);
        });
    }
}

#[test]
fn a_client_learns_at_its_next_packet_that_the_tracker_was_killed() {
    let mut tracker = Tracker::start();
    let key = Identity::generate().expect("made");
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(None);
    let client = clients.block_on(Client::connect_with(tracker.address, &key, transport));
    tracker.kill();
    tracker.start_again();
    clients.block_on(async {
        // Without the reset, nothing would ever end this connection.
        if let Ok((mut send, _)) = client.connection.open_bi().await {
            let _ = send.write_all(&[0; 2000]).await;
        }
        assert_eq!(client.connection.closed().await, ConnectionError::Reset);
    });
}

#[test]
fn a_newer_connection_of_a_node_replaces_the_older() {
    let tracker = Tracker::start();
    run(async {
        let (older, key) = Client::enter(tracker.address, "alice").await;
        older.create_group("g", JoinPolicy::Open).await;
        let newer = Client::connect(tracker.address, &key).await;
        match older.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, VarInt::from_u32(close_code::DUPLICATE));
            }
            other => panic!("not closed by the tracker: {other}"),
        }
        let Answer::Members(members) = newer.ok(Request::ListMembers { group: named("g"), after: None }).await else {
            panic!("not members")
        };
        assert_eq!(members[0].nodes_online, 1, "the older one's end does not end the newer");
    });
}

#[test]
fn who_was_away_is_told_what_was_revoked_meanwhile_also_by_a_tracker_that_was() {
    let mut tracker = Tracker::start();
    let (alice_key, bob_key) = run(async {
        let (alice, alice_key) = Client::enter(tracker.address, "alice").await;
        let (bob, bob_key) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Open).await;
        alice.publish("g", "f", CONTENT).await.expect("published");
        bob.ok(Request::JoinGroup { group: named("g") }).await;
        // With nothing announced, neither is told of what comes.
        alice.ok(Request::RemoveMember { group: named("g"), user: named("bob") }).await;
        (alice_key, bob_key)
    });
    // From the log, then from the snapshot.
    for end in [Tracker::kill, Tracker::stop] {
        end(&mut tracker);
        tracker.start_again();
        run(async {
            let mut alice = Client::connect(tracker.address, &alice_key).await;
            alice.announce("g", &[CONTENT], true).await.expect("noted");
            let revoked = Event::Revoked { group: named("g"), node: Some(bob_key.node_id()), epoch: 1 };
            assert_eq!(alice.event().await, revoked);
            let mut bob = Client::connect(tracker.address, &bob_key).await;
            bob.announce("g", &[CONTENT, ContentId([8; 32])], true).await.expect("passed over");
            assert_eq!(bob.event().await, Event::Membership { group: named("g"), standing: Standing::None });
            // Told once, however much was announced: the next that each hears is something else.
            bob.announce("nowhere", &[CONTENT], true).await.expect("passed over");
            assert_eq!(bob.event().await, Event::Membership { group: named("nowhere"), standing: Standing::None });
            alice.announce("g", &[CONTENT], false).await.expect("noted");
            let (carol, _) = Client::enter(tracker.address, &format!("u{}", alice.ack.time.0)).await;
            carol.ok(Request::JoinGroup { group: named("g") }).await;
            carol.announce("g", &[CONTENT], true).await.expect("noted");
            assert!(matches!(alice.event().await, Event::Provider { .. }));
        });
    }
}

#[test]
fn who_comes_back_is_granted_what_holds() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, _) = Client::enter(tracker.address, "alice").await;
        let (bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Open).await;
        assert!(matches!(alice.event().await, Event::Membership { standing: Standing::Owner, .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        let mut epochs = Vec::new();
        for _ in 0..2 {
            bob.ok(Request::JoinGroup { group: named("g") }).await;
            let Answer::Grant(grant) = bob.ok(Request::Grant { group: named("g") }).await else { panic!("no grant") };
            let granted = grant.peek().expect("a grant").epoch;
            bob.ok(Request::LeaveGroup { group: named("g"), force: false }).await;
            let Event::Revoked { epoch: revoked, .. } = alice.event().await else { panic!("not told") };
            epochs.extend([granted, revoked]);
        }
        assert_eq!(epochs, [0, 1, 1, 2], "void is what was granted in an earlier epoch");
    });
}

#[test]
fn readers_of_a_public_group_are_told_of_its_end() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Public).await;
        alice.publish("g", "f", CONTENT).await.expect("published");
        bob.announce("g", &[CONTENT], false).await.expect("noted");
        alice.ok(Request::DeleteGroup { group: named("g") }).await;
        assert_eq!(bob.event().await, Event::Membership { group: named("g"), standing: Standing::None });
    });
}

#[test]
fn a_node_that_logs_out_is_revoked_in_public_groups_too() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, _) = Client::enter(tracker.address, "alice").await;
        let (bob, bob_key) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Public).await;
        assert!(matches!(alice.event().await, Event::Membership { standing: Standing::Owner, .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        bob.announce("g", &[CONTENT], false).await.expect("noted");
        bob.ok(Request::Logout).await;
        assert_eq!(alice.event().await, Event::LoggedOut { nodes: vec![(bob_key.node_id(), 1)] });
    });
}

#[test]
fn what_is_announced_of_another_group_of_the_name_does_not_count_and_is_answered() {
    let tracker = Tracker::start();
    run(async {
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        let (mallory, _) = Client::enter(tracker.address, "mallory").await;
        bob.create_group("g", JoinPolicy::Open).await;
        assert!(matches!(bob.event().await, Event::Membership { .. }));
        let old = bob.born("g").await;
        bob.ok(Request::DeleteGroup { group: named("g") }).await;
        assert!(matches!(bob.event().await, Event::Membership { .. }));
        mallory.create_group("g", JoinPolicy::Public).await;
        mallory.publish("g", "f", CONTENT).await.expect("listed");
        let now = mallory.born("g").await;
        assert!(old < now);
        let item = |born| Presence { group: named("g"), content: CONTENT, complete: true, born };
        let announce = |born| Announce { replace: false, present: vec![item(born)], withdrawn: Vec::new() };
        let told = Event::Born { group: named("g"), born: now.expect("it is there") };
        for born in [old, None] {
            bob.ok(Request::Announce(announce(born))).await;
            assert_eq!(bob.event().await, told);
            bob.ok(Request::Standby(announce(born))).await;
            assert_eq!(bob.event().await, told);
            assert!(providers(&mallory, "g").await.providers.is_empty());
        }
        bob.ok(Request::Announce(announce(now))).await;
        assert_eq!(providers(&mallory, "g").await.providers.len(), 1);
        // Who takes it back has no such content any more.
        bob.ok(Request::Announce(announce(old))).await;
        assert!(providers(&mallory, "g").await.providers.is_empty());
    });
}

#[test]
fn who_serves_what_is_not_listed_hears_what_is_revoked_before_and_after() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (bob, bob_key) = Client::enter(tracker.address, "bob").await;
        let (carol, _) = Client::enter(tracker.address, "carol").await;
        let (mallory, mallory_key) = Client::enter(tracker.address, "mallory").await;
        let (eve, eve_key) = Client::enter(tracker.address, "eve").await;
        alice.create_group("g", JoinPolicy::Open).await;
        for member in [&bob, &carol, &mallory, &eve] {
            member.ok(Request::JoinGroup { group: named("g") }).await;
        }
        carol.publish("g", "f", CONTENT).await.expect("published");
        bob.announce("g", &[CONTENT], true).await.expect("noted");
        bob.connection.close(VarInt::from_u32(close_code::DONE), b"");
        carol.ok(Request::LeaveGroup { group: named("g"), force: false }).await;
        alice.ok(Request::RemoveMember { group: named("g"), user: named("eve") }).await;
        // Nothing is listed any more, and he serves it all the same.
        let mut bob = Client::connect(tracker.address, &bob_key).await;
        bob.announce("g", &[CONTENT], true).await.expect("noted");
        let mut missed = BTreeSet::new();
        for _ in 0..2 {
            let Event::Revoked { node: Some(node), .. } = bob.event().await else { panic!("not a revocation") };
            missed.insert(node);
        }
        assert!(missed.contains(&eve_key.node_id()));
        alice.ok(Request::RemoveMember { group: named("g"), user: named("mallory") }).await;
        let revoked = Event::Revoked { group: named("g"), node: Some(mallory_key.node_id()), epoch: 3 };
        assert_eq!(bob.event().await, revoked);
        assert_eq!(alice.refused(lookup("g")).await, ErrorCode::FILE_NOT_FOUND, "nobody is sent to him");
    });
}

#[test]
fn who_serves_what_was_taken_out_hears_that_a_group_is_not_public_any_more() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (_, bob_key) = Client::enter(tracker.address, "bob").await;
        alice.create_group("g", JoinPolicy::Public).await;
        let mut bob = Client::connect(tracker.address, &bob_key).await;
        bob.ok(Request::JoinGroup { group: named("g") }).await;
        assert!(matches!(bob.event().await, Event::Membership { standing: Standing::Member, .. }));
        alice.publish("g", "f", CONTENT).await.expect("published");
        alice.ok(Request::Unpublish { group: named("g"), name: named("f"), owner: None }).await;
        bob.announce("g", &[CONTENT], true).await.expect("noted");
        alice.ok(Request::SetPolicy { group: named("g"), policy: JoinPolicy::Open }).await;
        assert_eq!(bob.event().await, Event::Revoked { group: named("g"), node: None, epoch: 1 });
    });
}

/// Whatever it was granted: that may have been by a tracker that has been restarted since, or by another one.
#[test]
fn a_node_that_logs_out_is_revoked_in_all_public_groups_though_it_announced_nothing_and_is_gone() {
    let tracker = Tracker::start();
    run(async {
        let (mut alice, alice_key) = Client::enter(tracker.address, "alice").await;
        let (mut carol, carol_key) = Client::enter(tracker.address, "carol").await;
        let (bob, _) = Client::enter(tracker.address, "bob").await;
        let (_, phone_key) = device(tracker.address, "bob", "a password").await;
        alice.create_group("g", JoinPolicy::Public).await;
        carol.create_group("closed", JoinPolicy::Approval).await;
        for client in [&mut alice, &mut carol] {
            assert!(matches!(client.event().await, Event::Membership { standing: Standing::Owner, .. }));
        }
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        alice.announce("public", &[CONTENT], true).await.expect("noted");
        carol.announce("closed", &[CONTENT], true).await.expect("noted");
        bob.ok(Request::WithdrawNode { node: phone_key.node_id() }).await;
        let logged_out = Event::LoggedOut { nodes: vec![(phone_key.node_id(), 1)] };
        assert_eq!(alice.event().await, logged_out, "once for both groups");
        // Who was away hears of it in the first public group that it serves, and nobody in one that bob is not in.
        drop((alice, carol));
        let mut alice = Client::connect(tracker.address, &alice_key).await;
        alice.announce("g", &[CONTENT], true).await.expect("noted");
        assert_eq!(alice.event().await, logged_out);
        let mut carol = Client::connect(tracker.address, &carol_key).await;
        carol.announce("closed", &[CONTENT], true).await.expect("noted");
        carol.announce("public", &[CONTENT], true).await.expect("noted");
        assert_eq!(carol.event().await, logged_out);
    });
}

/// Bob's nodes, as many as a user may have, all of them logged out of the groups that he shares with alice.
#[test]
fn who_serves_a_user_of_many_nodes_hears_of_all_of_them_at_once() {
    let (alice_key, bob_key) = (Identity::generate().expect("made"), Identity::generate().expect("made"));
    let groups: Vec<String> = (0..8).map(|number| format!("g{number}")).collect();
    let (setup, record) = (ServerSetup::generate(), ClientRegistration::start(&secret("a password")).expect("starts"));
    let challenge = password::register(&setup, &named("bob"), &record.1).expect("answers");
    let upload = record.0.finish(&named("bob"), &challenge).expect("finishes");
    let record = password::record_from_upload(&upload).expect("a record");
    let cluster_key = GrantSigner::generate_document().expect("made");
    let alice = alice_key.node_id();
    let bob = bob_key.node_id();
    let mut commands = vec![
        (alice, Command::Initialize(Setup { server_setup: setup.to_bytes(), cluster_key })),
        (alice, Command::CreateUser { user: named("alice"), record: vec![1; 192] }),
        (alice, Command::EnrolNode { user: named("alice") }),
        (bob, Command::CreateUser { user: named("bob"), record }),
        (bob, Command::EnrolNode { user: named("bob") }),
    ];
    for group in &groups {
        commands.push((alice, Command::CreateGroup { group: named(group), policy: JoinPolicy::Open }));
        commands.push((bob, Command::JoinGroup { group: named(group) }));
    }
    for number in 1..NODES_PER_USER_MAX {
        let mut node = [0; 32];
        node[..8].copy_from_slice(&number.to_le_bytes());
        commands.push((NodeId(node), Command::EnrolNode { user: named("bob") }));
    }
    let entries: Vec<Entry> = (1..)
        .zip(commands)
        .map(|(number, (actor, command))| Entry {
            request: RequestId(u128::to_le_bytes(number)),
            actor,
            at: UnixMillis(1),
            command,
        })
        .collect();
    let tracker = Tracker::with_log(&entries);
    run(async {
        let mut alice = Client::connect(tracker.address, &alice_key).await;
        for group in &groups {
            alice.announce(group, &[CONTENT], true).await.expect("noted");
        }
        let bob = Client::connect(tracker.address, &bob_key).await;
        bob.change_password(1, "bob", ["a password", "another"], true).await.expect("changed");
        let mut open: BTreeSet<GroupName> = groups.iter().map(|group| named(group)).collect();
        let mut named_nodes = 0;
        while !open.is_empty() {
            match alice.event().await {
                // For everybody: bob's nodes among them.
                Event::Revoked { group, node: None, .. } => assert!(open.remove(&group)),
                Event::Revoked { group, node: Some(_), .. } => {
                    named_nodes += 1;
                    if named_nodes % (NODES_PER_USER_MAX - 1) == 0 {
                        open.remove(&group);
                    }
                }
                other => panic!("not a revocation: {other:?}"),
            }
        }
        assert!(alice.connection.close_reason().is_none(), "she goes on");
    });
}
