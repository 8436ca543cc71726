//! Passwords and devices, and what is counted and told of those who try to get in.

use std::net::SocketAddr;

use p2p_proto::id::{ContentId, RequestId};
use p2p_proto::identity::Identity;
use p2p_proto::password::{ClientLogin, ClientRegistration};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, EnrolledNode, Envelope, Event, JoinPolicy, Reply, Request};
use p2p_proto::{codec, frame};

use super::harness::{Client, Tracker, named, round, round_of, run, secret};

/// A change of a password, up to its second round.
struct Change {
    client: ClientLogin,
    registration: ClientRegistration,
    start: Request,
}

impl Change {
    fn new(old: &str, new: &str) -> Change {
        let (client, login) = ClientLogin::start(&secret(old)).expect("starts");
        let (registration, message) = ClientRegistration::start(&secret(new)).expect("starts");
        Change { client, registration, start: Request::ChangePasswordStart { login, registration: message } }
    }
}

impl Client {
    /// Changes the password of `user`, all under one request id as a daemon does. Who finds the old one wrong sends a proof
    /// nevertheless.
    pub(super) async fn change_password(
        &self,
        id: u8,
        user: &str,
        [old, new]: [&str; 2],
        log_out_everywhere: bool,
    ) -> Reply {
        let Change { client, registration, start } = Change::new(old, new);
        let frame = |request| frame::encode(&Envelope { id: RequestId([id; 16]), seen: 0, request });
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        match round_of(&mut send, &mut recv, frame(start)).await? {
            Answer::PasswordChallenge { login, registration: response } => {
                let proof = client.finish(&named(user), &self.binding(), &login).unwrap_or(vec![0; 64]);
                let record = registration.finish(&named(user), &response).expect("finishes");
                let finish = Request::ChangePasswordFinish { proof, record, log_out_everywhere };
                round_of(&mut send, &mut recv, frame(finish)).await
            }
            answer => Ok(answer),
        }
    }

    /// Tries to log in with a proof that is none; the challenge's length and the refusal, as it came or before any.
    async fn try_login(&self, user: &str) -> (Option<usize>, Reject) {
        let (_, message) = ClientLogin::start(&secret("wrong")).expect("starts");
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        match round(&mut send, &mut recv, Request::LoginStart { user: named(user), message }).await {
            Ok(Answer::Challenge(challenge)) => {
                let reply = round(&mut send, &mut recv, Request::LoginFinish { proof: vec![7; 64] }).await;
                (Some(challenge.len()), reply.expect_err("no proof"))
            }
            Ok(other) => panic!("not a challenge: {other:?}"),
            Err(reject) => (None, reject),
        }
    }

    async fn nodes(&self) -> Vec<EnrolledNode> {
        match self.ok(Request::ListNodes).await {
            Answer::Nodes(nodes) => nodes,
            other => panic!("not nodes: {other:?}"),
        }
    }
}

/// Another node of a user.
pub async fn device(tracker: SocketAddr, user: &str, password: &str) -> (Client, Identity) {
    let identity = Identity::generate().expect("made");
    let client = Client::connect(tracker, &identity).await;
    client.login(user, password).await.expect("logged in");
    (client, identity)
}

#[test]
fn a_new_password_takes_the_place_of_the_old() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (phone, _) = device(tracker.address, "alice", "a password").await;
        let wrong = alice.change_password(1, "alice", ["wrong", "new"], true).await.expect_err("refused");
        assert_eq!(wrong.code, ErrorCode::LOGIN_REFUSED);
        assert_eq!(alice.change_password(2, "alice", ["a password", "new"], false).await, Ok(Answer::Done));
        phone.ok(Request::ListGroups { mine: true, after: None }).await;
        let other = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        assert_eq!(other.login("alice", "a password").await.expect_err("old").code, ErrorCode::LOGIN_REFUSED);
        other.login("alice", "new").await.expect("logged in");
        let stranger = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        let refused = stranger.change_password(3, "alice", ["new", "mine"], true).await.expect_err("refused");
        assert_eq!(refused.code, ErrorCode::LOGIN_NEEDED);
    });
}

#[test]
fn a_change_whose_answer_was_lost_is_made_once() {
    let mut tracker = Tracker::start();
    let key = run(async {
        let (alice, key) = Client::enter(tracker.address, "alice").await;
        alice.change_password(1, "alice", ["a password", "second"], true).await.expect("changed");
        key
    });
    tracker.kill();
    tracker.start_again();
    run(async {
        let alice = Client::connect(tracker.address, &key).await;
        assert_eq!(alice.change_password(1, "alice", ["a password", "second"], true).await, Ok(Answer::Done));
        let refused = alice.change_password(2, "alice", ["a password", "third"], true).await;
        assert_eq!(refused.expect_err("another change").code, ErrorCode::LOGIN_REFUSED);
        device(tracker.address, "alice", "second").await;
    });
}

#[test]
fn of_two_changes_at_once_one_is_refused() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let (phone, _) = device(tracker.address, "alice", "a password").await;
        let (first, second) = tokio::join!(
            alice.change_password(1, "alice", ["a password", "first"], false),
            phone.change_password(2, "alice", ["a password", "second"], false),
        );
        let right = match (first, second) {
            (Ok(_), Err(reject)) if reject.code == ErrorCode::LOGIN_REFUSED => "first",
            (Err(reject), Ok(_)) if reject.code == ErrorCode::LOGIN_REFUSED => "second",
            both => panic!("not one of them: {both:?}"),
        };
        device(tracker.address, "alice", right).await;
    });
}

#[test]
fn a_login_that_was_proved_before_a_change_is_too_late() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        let thief = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        let (client, message) = ClientLogin::start(&secret("a password")).expect("starts");
        let (mut send, mut recv) = thief.connection.open_bi().await.expect("connected");
        let start = Request::LoginStart { user: named("alice"), message };
        let Ok(Answer::Challenge(challenge)) = round(&mut send, &mut recv, start).await else { panic!("no challenge") };
        alice.change_password(1, "alice", ["a password", "new"], true).await.expect("changed");
        let proof = client.finish(&named("alice"), &thief.binding(), &challenge).expect("a right proof");
        let late = round(&mut send, &mut recv, Request::LoginFinish { proof }).await.expect_err("refused");
        assert_eq!(late.code, ErrorCode::LOGIN_REFUSED);
        assert_eq!(alice.nodes().await.len(), 1);
    });
}

/// Alice's computer and phone serve and read a group with bob, who hears of what they lose.
#[test]
fn devices_that_are_logged_out_are_told_and_so_are_those_who_serve_them() {
    let tracker = Tracker::start();
    run(async {
        let content = ContentId([7; 32]);
        let (alice, key) = Client::enter(tracker.address, "alice").await;
        let (mut bob, _) = Client::enter(tracker.address, "bob").await;
        bob.create_group("g", JoinPolicy::Open).await;
        bob.publish("g", "f", content).await.expect("published");
        bob.announce("g", &[content], true).await.expect("noted");
        alice.ok(Request::JoinGroup { group: named("g") }).await;
        let (mut phone, phone_key) = device(tracker.address, "alice", "a password").await;
        let (tablet, tablet_key) = device(tracker.address, "alice", "a password").await;
        tablet.connection.close(0u32.into(), b"");
        tablet.endpoint.wait_idle().await;
        let [phone_node, tablet_node] = [&phone_key, &tablet_key].map(Identity::node_id);
        let mut online: Vec<_> = loop {
            // The tracker notes the end by itself.
            let nodes = alice.nodes().await;
            if nodes.iter().filter(|enrolled| enrolled.online).count() == 2 {
                break nodes.into_iter().filter(|enrolled| enrolled.online).map(|enrolled| enrolled.node).collect();
            }
        };
        online.sort();
        let mut expected = [key.node_id(), phone_node];
        expected.sort();
        assert_eq!(online, expected);
        assert!(alice.nodes().await.iter().all(|enrolled| enrolled.since.is_some()));

        assert_eq!(bob.refused(Request::WithdrawNode { node: tablet_node }).await, ErrorCode::NODE_NOT_FOUND);
        alice.ok(Request::WithdrawNode { node: tablet_node }).await;
        loop {
            match bob.event().await {
                Event::Revoked { node, .. } => break assert_eq!(node, Some(tablet_node)),
                Event::Membership { .. } => {}
                other => panic!("not what is lost: {other:?}"),
            }
        }
        let tablet = Client::connect(tracker.address, &tablet_key).await;
        assert_eq!(tablet.ack.user, None, "who was away learns it when it is back");
        assert_eq!(alice.nodes().await.len(), 2);

        alice.change_password(1, "alice", ["a password", "new"], true).await.expect("changed");
        while !matches!(phone.any_event().await, Event::Enrolment { user: None }) {}
        assert!(matches!(bob.event().await, Event::Revoked { node, .. } if node == Some(phone_node)));
        assert_eq!(phone.refused(Request::ListNodes).await, ErrorCode::LOGIN_NEEDED);
        assert_eq!(alice.nodes().await.iter().map(|enrolled| enrolled.node).collect::<Vec<_>>(), [key.node_id()]);
    });
}

#[test]
fn an_unknown_user_takes_what_a_known_one_takes() {
    let tracker = Tracker::start();
    run(async {
        Client::enter(tracker.address, "alice").await;
        let before = tracker.server().shared.consensus.query(|state| state.encode());
        let mut told = Vec::new();
        for (user, address) in [("alice", [127, 0, 0, 3]), ("ghost", [127, 0, 0, 4])] {
            let identity = Identity::generate().expect("made");
            let client = Client::connect_from(address, tracker.address, &identity).await;
            let mut answers = Vec::new();
            for _ in 0..25 {
                let (challenge_bytes, reject) = client.try_login(user).await;
                answers.push((challenge_bytes, codec::encode(&Reply::Err(reject))));
            }
            told.push(answers);
        }
        assert_eq!(told[0], told[1], "the same sizes, the same words, and as many attempts");
        assert_eq!(told[0].iter().filter(|(challenge_bytes, _)| challenge_bytes.is_some()).count(), 20);
        let after = tracker.server().shared.consensus.query(|state| state.encode());
        assert_eq!(before, after, "neither is written down");
    });
}

#[test]
fn a_stranger_who_hammers_a_name_is_told_to_wait_and_its_user_gets_in() {
    let tracker = Tracker::start();
    run(async {
        Client::enter(tracker.address, "alice").await;
        let identity = Identity::generate().expect("made");
        let stranger = Client::connect_from([127, 0, 0, 3], tracker.address, &identity).await;
        let refusal = loop {
            match stranger.try_login("alice").await {
                (Some(_), reject) => assert_eq!(reject.code, ErrorCode::LOGIN_REFUSED),
                (None, reject) => break reject,
            }
        };
        assert_eq!(refusal.code, ErrorCode::BUSY);
        assert!(refusal.hint.starts_with("try again in ") && refusal.hint.ends_with(" s"), "{}", refusal.hint);
        let registered = stranger.register("alice", "mine").await.expect_err("refused");
        assert_eq!(registered.code, ErrorCode::BUSY, "an account is no way round");
        device(tracker.address, "alice", "a password").await;
    });
}

#[test]
fn one_connection_has_two_exchanges_at_once() {
    let tracker = Tracker::start();
    run(async {
        let client = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let (_, message) = ClientLogin::start(&secret("any")).expect("starts");
            let (mut send, mut recv) = client.connection.open_bi().await.expect("connected");
            let start = Request::LoginStart { user: named("alice"), message };
            assert!(matches!(round(&mut send, &mut recv, start).await, Ok(Answer::Challenge(_))));
            held.push((send, recv));
        }
        let (none, reject) = client.try_login("alice").await;
        assert_eq!((none, reject.code), (None, ErrorCode::BUSY));
    });
}
