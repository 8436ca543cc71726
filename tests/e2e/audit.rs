//! The tracker's record of who changed what: real lines of the real program.

use std::net::{IpAddr, Ipv4Addr};

use p2p_proto::password::{ClientLogin, ClientRegistration, Password};
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Answer, Request};
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::{Client, Heard, Key, runtime};
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};

use crate::{NAME, Shared, text};

/// The lines of the record so far, without their time.
fn lines(world: &mut World) -> Vec<String> {
    let log = world.tracker.process().log();
    let audit = log.lines().filter_map(|line| line.split_once(" INFO audit: "));
    audit.map(|(_, line)| line.to_owned()).collect()
}

/// The lines with this action.
fn of(world: &mut World, action: &str) -> Vec<String> {
    let start = format!("action={action} ");
    lines(world).into_iter().filter(|line| line.starts_with(&start)).collect()
}

fn secret(text: &str) -> Password {
    Password::new(text.to_owned()).expect("neither empty nor too long")
}

/// What every line of a daemon's says of who asked.
fn asked(daemon: &Daemon) -> (String, String) {
    let node = daemon.json(&["status"])["node"].as_str().expect("an id").to_owned();
    (format!(" node={node} "), format!(" address={}", daemon.address().ip()))
}

#[test]
fn each_change_is_one_line_that_says_who_from_where_what_and_how_it_ended() {
    let Shared { alice, bob, world, .. } = &mut Shared::new(1000);
    let copy = world.path("copy");
    bob.run(&["download_file", "photos", NAME, text(&copy)]);
    bob.ctl().json_refusal(&["delete_group", "photos"]);
    bob.run(&["join_group", "photos"]);
    alice.run(&["remove_member", "photos", "bob"]);
    // It would be turned round on a terminal, and is shown as what it is.
    let unseen = alice.ctl().json_refusal(&["create_group", "a\u{202e}b"]);
    assert_eq!((unseen.exit_code, unseen.code.as_str()), (2, "bad_name"), "{unseen:?}");
    assert!(unseen.message.contains(r"\u{202e}"), "{unseen:?}");
    let (node, address) = asked(alice);
    for (action, expected) in [
        ("create_user", r#" user="alice""#),
        ("login", r#" by="alice""#),
        ("create_group", r#" group="photos" policy=Public"#),
        ("remove_member", r#" user="bob" group="photos""#),
    ] {
        let found: Vec<_> = of(world, action).into_iter().filter(|line| line.contains(expected)).collect();
        let [line] = &found[..] else { panic!("not one line of {action} with {expected}: {found:?}") };
        assert!(line.contains(" result=done ") && line.contains(&node) && line.contains(&address), "{line}");
    }
    let refused = of(world, "delete_group");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains(r#" result=refused code=not_owner "#) && refused[0].contains(r#" by="bob" "#));
    let granted = of(world, "grant");
    let of_bob = granted.iter().filter(|line| line.contains(r#" by="bob" "#) && line.contains(r#" group="photos""#));
    assert_eq!(of_bob.count(), 1, "a grant is a line, its renewals are none: {granted:?}");
}

#[test]
fn a_password_that_was_not_proved_is_a_line() {
    let mut world = World::new();
    let alice = world.user("alice");
    let thief = world.daemon("thief");
    thief.refusal(&["login", "alice", "wrong"]);
    // A daemon finds the password wrong itself, and hangs up; the tracker notes it a moment later. Both ways to print.
    let lines = eventually("both attempts are noted", || {
        let lines: Vec<_> = of(&mut world, "login").into_iter().filter(|line| line.contains("refused")).collect();
        (lines.len() >= 2).then_some(lines)
    });
    let (node, address) = asked(&thief);
    for line in lines {
        assert!(line.contains(" result=refused code=interrupted ") && line.contains(r#" user="alice""#), "{line}");
        assert!(line.contains(&node) && line.contains(&address), "{line}");
    }
    let passwords = world.path("passwords");
    std::fs::write(&passwords, "wrong\nnew\n").expect("writes");
    let stdin = std::fs::File::open(&passwords).expect("opens");
    let change = ["change_password", "--old-password-file", "-", "--password-file", "-"];
    alice.ctl().with(|command| _ = command.stdin(stdin)).json_refusal(&change);
    let line = eventually("the attempt to change it is noted", || of(&mut world, "change_password").pop());
    assert!(line.contains(" result=refused code=interrupted ") && line.contains(r#" by="alice" "#), "{line}");
    alice.run(&["logout"]);
    assert!(of(&mut world, "logout")[0].contains(r#" by="alice" "#));
    alice.run(&["login", "alice", PASSWORD]);
}

#[test]
fn who_guesses_a_password_and_does_not_say_so_is_a_line() {
    let mut world = World::new();
    let _alice = world.user("alice");
    let tracker = world.tracker.address;
    let user = || named("alice");
    // Each finds out from the tracker's answer whether the password is right, and then says something else.
    type Instead = fn() -> Request;
    let instead: [(Instead, &str); 3] = [
        (|| Request::Logout, "malformed"),
        (|| Request::LoginFinish { proof: vec![7; 3] }, "malformed"),
        (|| Request::LoginFinish { proof: vec![7; 64] }, "login_refused"),
    ];
    runtime().block_on(async {
        let client = Client::connect(IpAddr::V4(Ipv4Addr::LOCALHOST), tracker, &Key::new()).await.expect("connects");
        for (request, _) in instead {
            let (_, message) = ClientLogin::start(&secret("a guess")).expect("starts");
            let mut stream = client.line.stream().await.expect("a stream");
            let challenge = stream.ask(Request::LoginStart { user: user(), message }).await;
            assert!(matches!(challenge, Heard::Message(Ok(Answer::Challenge(_)))), "{challenge:?}");
            assert!(matches!(stream.ask(request()).await, Heard::Message(Err(_))));
        }
        let taken = client.register("alice", "mine now").await.expect_err("taken");
        assert_eq!(taken.code, ErrorCode::USER_EXISTS);
        let (_, message) = ClientRegistration::start(&secret("mine now")).expect("starts");
        let mut stream = client.line.stream().await.expect("a stream");
        let start = Request::RegisterStart { user: named("eve"), message };
        assert!(matches!(stream.ask(start).await, Heard::Message(Ok(_))));
        assert!(matches!(stream.ask(Request::RegisterFinish { record: vec![1; 3] }).await, Heard::Message(Err(_))));
    });
    let refused = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| line.contains(" result=refused ")).collect()
    };
    let logins = refused(of(&mut world, "login"));
    assert_eq!(logins.len(), instead.len(), "{logins:?}");
    for (line, (_, code)) in logins.iter().zip(instead) {
        assert!(line.contains(&format!(" code={code} ")) && line.ends_with(r#" by="" address=127.0.0.1 user="alice""#));
    }
    let accounts = refused(of(&mut world, "create_user"));
    let [taken, bad] = &accounts[..] else { panic!("not two lines: {accounts:?}") };
    assert!(taken.contains(" code=user_exists ") && taken.ends_with(r#" user="alice""#), "{taken}");
    assert!(bad.contains(" code=malformed ") && bad.ends_with(r#" user="eve""#), "{bad}");
}

#[test]
fn a_grant_that_is_refused_is_a_line_and_what_strangers_ask_is_none() {
    let Shared { world, .. } = &mut Shared::new(10);
    let tracker = world.tracker.address;
    let ask = |name: &str| Request::Grant { group: named(name) };
    runtime().block_on(async {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let stranger = Client::connect(here, tracker, &Key::new()).await.expect("connects");
        let eve = Client::enter(here, tracker, &Key::new(), "eve", PASSWORD).await;
        for number in 0..1_100 {
            assert!(stranger.ask(ask(&format!("made up {number}"))).await.is_err());
        }
        for number in 0..1_100 {
            assert!(eve.ask(ask(&format!("made up {number}"))).await.is_err());
        }
        for _ in 0..3 {
            assert!(eve.ask(ask("photos")).await.is_ok());
        }
    });
    let grants = of(world, "grant");
    assert!(!grants.iter().any(|line| line.contains(r#" by="" "#)), "strangers write nothing");
    let of_eve = |line: &&String| line.contains(r#" by="eve" address=127.0.0.1 "#);
    let (refused, done): (Vec<_>, Vec<_>) =
        grants.iter().filter(of_eve).partition(|line| line.contains(" result=refused code=group_not_found "));
    assert_eq!(
        (refused.len(), done.len()),
        (1_100, 1),
        "renewals are none, however much was asked for before: {done:?}"
    );
}
