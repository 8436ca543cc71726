//! Sessions with a stand-in daemon.

use std::io::Write as _;
use std::os::unix::net::UnixListener;

use p2p_proto::control::{HelloAck, UserCreated};
use p2p_proto::reject::Reject;

use super::*;
use crate::fake_daemon::{Home, greeting, serve_once};
use crate::render::examples::{self, name};

fn reject<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> Reject {
    match outcome {
        Err(Failure::Refused(reject)) => reject,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_arrives_and_its_answer_comes_back() {
    let home = Home::new();
    let created = Answer::UserCreated(UserCreated { user: name("alice") });
    let daemon = serve_once(&home.socket(), greeting(), vec![Frame::Result(Ok(created.clone()))]);
    assert_eq!(home.session().ask(Request::Status).expect("answered"), created);
    assert_eq!(daemon.join().expect("served"), Some(Request::Status));
}

#[test]
fn a_refusal_keeps_its_code_message_and_hint() {
    let home = Home::new();
    let refusal = Reject::new(ErrorCode::NOT_OWNER, "only its owner may").hint("ask bob");
    serve_once(&home.socket(), greeting(), vec![Frame::Result(Err(refusal.clone()))]);
    assert_eq!(reject(home.session().ask(Request::Logout)), refusal);
}

#[test]
fn what_is_followed_ends_with_its_result() {
    let home = Home::new();
    let download = examples::downloads().downloads[0].clone();
    let frames = vec![
        Frame::Started(download.clone()),
        Frame::Progress(download),
        Frame::Result(Ok(Answer::Downloaded(examples::downloaded()))),
    ];
    serve_once(&home.socket(), greeting(), frames);
    let id = "a91f".parse().expect("a prefix");
    home.session().follow(Request::Wait { id }).expect("done");
}

#[test]
fn without_a_daemon_and_without_starting_one_it_says_how() {
    let refusal = reject(Home::new().session().ask(Request::Status));
    assert_eq!((refusal.code, refusal.code.exit_code()), (ErrorCode::NO_DAEMON, 7));
    assert_eq!(refusal.hint, "start it with `p2pd` or `systemctl --user start p2pd`");
}

#[test]
fn a_socket_that_nobody_listens_at_is_no_daemon() {
    let home = Home::new();
    drop(UnixListener::bind(home.socket()).expect("bound"));
    assert_eq!(reject(home.session().ask(Request::Status)).code, ErrorCode::NO_DAEMON);
}

#[test]
fn a_daemon_of_another_protocol_is_refused_with_both_versions_named() {
    let home = Home::new();
    let other = HelloAck { version: 2, software: "p2p 9.1.0".to_owned() };
    serve_once(&home.socket(), other, Vec::new());
    let refusal = reject(home.session().ask(Request::Status));
    assert_eq!(refusal.code, ErrorCode::DAEMON_REFUSED);
    assert!(refusal.message.contains("p2p 9.1.0 speaks control protocol 2"), "{}", refusal.message);
    assert!(refusal.message.contains(SOFTWARE) && refusal.message.contains("speaks 1"), "{}", refusal.message);
}

#[test]
fn another_version_of_the_same_protocol_is_only_warned_about() {
    let home = Home::new();
    let other = HelloAck { software: "p2p 9.1.0".to_owned(), ..greeting() };
    let created = Answer::UserCreated(UserCreated { user: name("alice") });
    serve_once(&home.socket(), other, vec![Frame::Result(Ok(created.clone()))]);
    assert_eq!(home.session().ask(Request::Status).expect("answered all the same"), created);
    assert_eq!(version_warning("p2pd 0.1.0", "p2p 0.1.0"), None);
    let warning = version_warning("p2pd 0.2.0", "p2p 0.1.0").expect("told");
    assert_eq!(warning, "p2pd is version 0.2.0 and p2pctl is 0.1.0: restart the daemon");
}

#[test]
fn a_daemon_that_hangs_up_is_told_from_one_that_is_not_there() {
    let home = Home::new();
    serve_once(&home.socket(), greeting(), Vec::new());
    let refusal = reject(home.session().ask(Request::Status));
    assert_eq!(refusal.code, ErrorCode::NO_DAEMON);
    assert!(refusal.message.contains("hung up"), "{}", refusal.message);
}

#[test]
fn garbage_and_endless_frames_are_refused() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 64], &[3, 0, 0, 0, 0xff, 0xff, 0xff]] {
        let home = Home::new();
        let listener = UnixListener::bind(home.socket()).expect("bound");
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            stream.write_all(garbage).expect("written");
            stream
        });
        assert_eq!(reject(home.session().ask(Request::Status)).code, ErrorCode::DAEMON_REFUSED);
        daemon.join().expect("served");
    }
}
