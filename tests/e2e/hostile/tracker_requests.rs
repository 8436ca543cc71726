//! Clients that ask a tracker for what is not theirs: each request has its own refusal and changes nothing.

use p2p_proto::frame;
use p2p_proto::id::ContentId;
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Announce, Answer, Envelope, JoinPolicy, Presence, Reply, Request};
use p2p_tests::Daemon;
use p2p_tests::hostile::client::{envelope, named, random_id};
use p2p_tests::hostile::{Client, Heard, Key, runtime};
use p2p_tests::world::PASSWORD;
use serde_json::Value;

use super::stranger;
use crate::{NAME, Shared, text};

/// Alice owns `secret`, which bob asks to join and dave is a member of, and the public `photos`; all that a hostile
/// client could have changed of it.
fn everything(alice: &Daemon) -> Vec<Value> {
    let groups = alice.json(&["list_groups"])["groups"].clone();
    let listed = ["photos", "secret"].into_iter().flat_map(|group| {
        let of = |verb: &str| alice.json(&[verb, group]);
        [of("list_members")["members"].clone(), of("list_requests"), of("list_files")["files"].clone()]
    });
    std::iter::once(groups).chain(listed).collect()
}

fn secret_group() -> Shared {
    let shared = Shared::new(1000);
    shared.alice.run(&["create_group", "secret"]);
    shared.alice.run(&["upload_file", text(&shared.file), "secret", "--name", "plan.txt"]);
    shared.bob.run(&["join_group", "secret"]);
    let dave = shared.world.user("dave");
    dave.run(&["join_group", "secret"]);
    shared.alice.run(&["accept_request", "secret", "dave"]);
    shared
}

/// Every request that names a group, a user or a file, and does what its sender may not.
fn requests(content: ContentId) -> Vec<(Request, ErrorCode)> {
    use ErrorCode as Code;
    let (secret, photos) = (|| named("secret"), || named("photos"));
    vec![
        (Request::AcceptRequest { group: secret(), user: named("bob") }, Code::NOT_OWNER),
        (Request::AcceptRequest { group: secret(), user: named("mallory") }, Code::NOT_OWNER),
        (Request::RejectRequest { group: secret(), user: named("bob") }, Code::NOT_OWNER),
        (Request::RemoveMember { group: secret(), user: named("dave") }, Code::NOT_OWNER),
        (Request::RemoveMember { group: photos(), user: named("alice") }, Code::NOT_OWNER),
        (Request::TransferGroup { group: secret(), user: named("mallory") }, Code::NOT_OWNER),
        (Request::DeleteGroup { group: secret() }, Code::NOT_OWNER),
        (Request::DeleteGroup { group: photos() }, Code::NOT_OWNER),
        (Request::LeaveGroup { group: secret(), force: true }, Code::NOT_MEMBER),
        (Request::ListRequests { group: secret(), after: None }, Code::NOT_OWNER),
        (Request::ListMembers { group: secret(), after: None }, Code::NOT_MEMBER),
        (Request::ListFiles { group: secret(), after: None }, Code::NOT_MEMBER),
        (Request::FindFile { group: secret(), name: named("plan.txt"), owner: None }, Code::NOT_MEMBER),
        (Request::Lookup { group: secret(), content }, Code::NOT_MEMBER),
        (Request::Grant { group: secret() }, Code::NOT_MEMBER),
        (
            Request::Publish { group: secret(), name: named("x"), content, length: 1, replace: false, born: None },
            Code::NOT_MEMBER,
        ),
        (
            Request::Publish { group: photos(), name: named("x"), content, length: 1, replace: false, born: None },
            Code::NOT_MEMBER,
        ),
        (Request::Unpublish { group: secret(), name: named("plan.txt"), owner: None }, Code::NOT_MEMBER),
        (Request::CreateGroup { group: named("PHOTOS"), policy: JoinPolicy::Open }, Code::GROUP_EXISTS),
        (Request::JoinGroup { group: named("ghosts") }, Code::GROUP_NOT_FOUND),
        (Request::Lookup { group: photos(), content: ContentId([9; 32]) }, Code::FILE_NOT_FOUND),
    ]
}

#[test]
fn what_belongs_to_others_is_refused_and_stays_as_it_was() {
    let mut shared = secret_group();
    let content = shared.alice.json(&["list_files", "secret"])["files"][0]["content"].clone();
    let content: ContentId = content.as_str().expect("an id").parse().expect("an id");
    let before = everything(&shared.alice);
    runtime().block_on(async {
        let tracker = shared.world.tracker.address;
        let mallory = Client::enter(stranger(), tracker, &Key::new(), "mallory", PASSWORD).await;
        let nobody = Client::connect(stranger(), tracker, &Key::new()).await.expect("connects");
        for (request, code) in requests(content) {
            let shown = format!("{request:?}");
            let refused = nobody.ask(request.clone()).await.expect_err(&shown);
            assert_eq!(refused.code, ErrorCode::LOGIN_NEEDED, "without a login, {shown}: {refused}");
            let refused = mallory.ask(request).await.expect_err(&shown);
            assert_eq!(refused.code, code, "{shown}: {refused}");
        }
        for request in [
            Request::Logout,
            Request::ListGroups { mine: false, after: None },
            Request::GroupInfo { group: named("photos") },
            Request::JoinGroup { group: named("photos") },
            Request::Announce(Announce { replace: true, present: Vec::new(), withdrawn: Vec::new() }),
        ] {
            let shown = format!("{request:?}");
            assert_eq!(nobody.ask(request).await.expect_err(&shown).code, ErrorCode::LOGIN_NEEDED, "{shown}");
        }
    });
    assert_eq!(everything(&shared.alice), before);
    assert!(shared.world.tracker.process().is_running());
}

#[test]
fn nobody_seeds_what_they_may_not_read() {
    let shared = secret_group();
    let erin = shared.world.user("erin");
    erin.run(&["join_group", "photos"]);
    let listed = shared.alice.json(&["list_files", "secret"])["files"][0].clone();
    let content: ContentId = listed["content"].as_str().expect("an id").parse().expect("an id");
    let (secret, photos) = (named("secret"), named("photos"));
    let announce = |present| Request::Announce(Announce { replace: false, present, withdrawn: Vec::new() });
    runtime().block_on(async {
        let tracker = shared.world.tracker.address;
        let mallory = Client::enter(stranger(), tracker, &Key::new(), "mallory", PASSWORD).await;
        let info = Request::GroupInfo { group: named("photos") };
        let Ok(Answer::Groups(shown)) = mallory.ask(info).await else { panic!("everybody sees a group") };
        let born = Some(shown[0].born);
        let presence = |group, content| Presence { group, content, complete: true, born };
        // Passed over: a group that is not hers, a content that no group lists, a group that is not there.
        let items =
            vec![presence(secret, content), presence(photos, ContentId([7; 32])), presence(named("ghosts"), content)];
        assert_eq!(mallory.ask(announce(items)).await, Ok(Answer::Done));
        let many = vec![presence(named("photos"), ContentId([7; 32])); PAGE_ITEMS_MAX + 1];
        let refused = mallory.ask(announce(many)).await.expect_err("too many");
        assert_eq!(refused.code, ErrorCode::MALFORMED, "{refused}");
        let gone = vec![(named("secret"), content); PAGE_ITEMS_MAX + 1];
        let withdraw = Request::Announce(Announce { replace: true, present: Vec::new(), withdrawn: gone });
        assert_eq!(mallory.ask(withdraw).await.expect_err("too many").code, ErrorCode::MALFORMED);
        // Withdrawing for others does nothing to them.
        let gone = vec![(named("secret"), content)];
        let withdraw = Request::Announce(Announce { replace: true, present: Vec::new(), withdrawn: gone });
        assert_eq!(mallory.ask(withdraw).await, Ok(Answer::Done));
    });
    assert_eq!(shared.alice.json(&["list_files", "secret"])["files"][0]["seeders"], listed["seeders"]);
    let providers = shared.alice.json(&["file_info", "secret", "plan.txt"])["providers"].clone();
    let users: Vec<&Value> = providers.as_array().expect("a list").iter().map(|provider| &provider["user"]).collect();
    assert!(!users.contains(&&"mallory".into()), "{providers}");
    shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
}

/// The answers to requests on one stream, one after the other.
async fn rounds(client: &Client, requests: Vec<Request>) -> Vec<Heard<Reply>> {
    let mut stream = client.line.stream().await.expect("a stream");
    let mut answers = Vec::new();
    for request in requests {
        answers.push(stream.ask(request).await);
    }
    answers
}

fn code(heard: &Heard<Reply>) -> Option<ErrorCode> {
    match heard {
        Heard::Message(Err(reject)) => Some(reject.code),
        _ => None,
    }
}

#[test]
fn a_password_exchange_out_of_order_is_none() {
    let shared = Shared::new(10);
    let (login_message, register_message) = {
        let password = p2p_proto::password::Password::new(PASSWORD.to_owned()).expect("a password");
        let login = p2p_proto::password::ClientLogin::start(&password).expect("starts").1;
        let registration = p2p_proto::password::ClientRegistration::start(&password).expect("starts").1;
        (login, registration)
    };
    let start_login = |user: &str| Request::LoginStart { user: named(user), message: login_message.clone() };
    let start_registration =
        |user: &str| Request::RegisterStart { user: named(user), message: register_message.clone() };
    let finish_login = || Request::LoginFinish { proof: vec![0; 64] };
    let finish_registration = || Request::RegisterFinish { record: vec![0; 192] };
    let malformed = Some(ErrorCode::MALFORMED);
    runtime().block_on(async {
        let client = Client::connect(stranger(), shared.world.tracker.address, &Key::new()).await.expect("connects");
        for (what, requests, expected) in [
            ("the second round of a login alone", vec![finish_login()], vec![malformed]),
            ("the second round of a registration alone", vec![finish_registration()], vec![malformed]),
            ("another exchange's", vec![start_login("alice"), finish_registration()], vec![None, malformed]),
            ("another exchange's", vec![start_registration("eve"), finish_login()], vec![None, malformed]),
            ("another request", vec![start_login("alice"), Request::Logout], vec![None, malformed]),
            ("the first round twice", vec![start_login("alice"), start_login("alice")], vec![None, malformed]),
            (
                "a proof of nothing",
                vec![start_login("alice"), finish_login()],
                vec![None, Some(ErrorCode::LOGIN_REFUSED)],
            ),
            (
                "the same of nobody",
                vec![start_login("ghost"), finish_login()],
                vec![None, Some(ErrorCode::LOGIN_REFUSED)],
            ),
            ("a record that is none", vec![start_registration("eve"), finish_registration()], vec![None, malformed]),
            ("somebody's account", vec![start_registration("alice")], vec![Some(ErrorCode::USER_EXISTS)]),
            (
                "a first message that is none",
                vec![Request::LoginStart { user: named("alice"), message: vec![0xff; 96] }],
                vec![malformed],
            ),
        ] {
            let heard = rounds(&client, requests).await;
            assert_eq!(heard.iter().map(code).collect::<Vec<_>>(), expected, "{what}: {heard:?}");
        }
        // The second round on another stream than the first.
        let mut first = client.line.say(&envelope(start_login("alice")), false).await.expect("a stream");
        assert!(matches!(first.hear_reply().await, Heard::Message(Ok(Answer::Challenge(_)))));
        assert_eq!(client.ask(finish_login()).await.expect_err("alone there").code, ErrorCode::MALFORMED);
        drop(first);
        // Nothing came of all that, and the right password is taken still.
        let list = Request::ListGroups { mine: true, after: None };
        assert_eq!(client.ask(list).await.expect_err("nobody").code, ErrorCode::LOGIN_NEEDED);
        client.log_in("alice", "wrong").await.expect_err("the wrong one");
        client.log_in("alice", PASSWORD).await.expect("the right one");
        let other = client.log_in("bob", PASSWORD).await.expect_err("somebody is logged in");
        assert_eq!(other.code, ErrorCode::ALREADY_LOGGED_IN);
    });
    assert_eq!(shared.alice.json(&["status"])["user"], "alice");
}

#[test]
fn another_nodes_request_id_is_of_no_use() {
    let shared = Shared::new(10);
    runtime().block_on(async {
        let tracker = shared.world.tracker.address;
        let carol = Client::enter(stranger(), tracker, &Key::new(), "carol", PASSWORD).await;
        let mallory = Client::enter(stranger(), tracker, &Key::new(), "mallory", PASSWORD).await;
        let create = |group: &str| Request::CreateGroup { group: named(group), policy: JoinPolicy::Approval };
        let id = random_id();
        let frame = |request| frame::encode(&Envelope { id, seen: 0, request });
        assert_eq!(carol.ask_bytes(&frame(create("carols"))).await, Ok(Answer::Done));
        assert_eq!(carol.ask_bytes(&frame(create("carols"))).await, Ok(Answer::Done), "a retry");
        let replayed = mallory.ask_bytes(&frame(create("carols"))).await.expect_err("not hers");
        assert_eq!(replayed.code, ErrorCode::GROUP_EXISTS, "{replayed}");
        assert_eq!(mallory.ask_bytes(&frame(create("mallorys"))).await, Ok(Answer::Done), "decided for itself");
        let mine = mallory.ask(Request::ListGroups { mine: true, after: None }).await;
        match mine {
            Ok(Answer::Groups(groups)) => {
                assert_eq!(groups.iter().map(|group| group.group.as_str()).collect::<Vec<_>>(), ["mallorys"]);
            }
            other => panic!("not groups: {other:?}"),
        }
    });
}
