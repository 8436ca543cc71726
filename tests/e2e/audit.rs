//! The tracker's record of who changed what: real lines of the real program.

use std::net::{IpAddr, Ipv4Addr};

use p2p_proto::tracker::Request;
use p2p_tests::hostile::{Client, Key};
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
    // Turned round on a terminal, and shown as what it is.
    alice.run(&["create_group", "a\u{202e}b"]);
    let (node, address) = asked(alice);
    for (action, expected) in [
        ("create_user", r#" user="alice""#),
        ("login", r#" by="alice""#),
        ("create_group", r#" group="photos" policy=Public"#),
        ("create_group", r#" group="a\u{202e}b""#),
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
fn a_grant_that_is_refused_is_a_line_once() {
    let Shared { world, .. } = &mut Shared::new(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tracker = world.tracker.address;
    runtime.block_on(async {
        let client = Client::connect(IpAddr::V4(Ipv4Addr::LOCALHOST), tracker, &Key::new()).await.expect("connects");
        for _ in 0..3 {
            let grant = Request::Grant { group: "photos".parse().expect("a good name") };
            assert!(client.ask(grant).await.is_err());
        }
    });
    let refused: Vec<_> = of(world, "grant").into_iter().filter(|line| line.contains("refused")).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains(r#" code=login_needed "#) && refused[0].contains(r#" by="" address=127.0.0.1 "#));
}
