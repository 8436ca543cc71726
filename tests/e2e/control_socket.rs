//! Garbage on the control socket: whoever sends it is refused, everybody else is served.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use p2p_proto::control::{Event, Frame, Happening, Hello, HelloAck, Request};
use p2p_proto::frame;
use p2p_proto::limit::CONTROL_FRAME_BYTES_MAX;
use p2p_proto::tracker::JoinPolicy;
use p2p_proto::version::CONTROL_PROTOCOL;
use p2p_tests::{Daemon, World};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::made_groups;

/// How long a daemon may take to answer or hang up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that greets like a command and can then say anything.
struct Raw(UnixStream);

impl Raw {
    fn connect(daemon: &Daemon) -> Raw {
        let stream = UnixStream::connect(daemon.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Raw(stream)
    }

    fn greeted(daemon: &Daemon) -> Raw {
        let mut raw = Raw::connect(daemon);
        raw.send(&Hello { version: CONTROL_PROTOCOL, software: "test".to_owned() });
        let ack: HelloAck = raw.receive().expect("greeted");
        assert_eq!(ack.version, CONTROL_PROTOCOL);
        raw
    }

    fn send<T: Serialize>(&mut self, message: &T) {
        self.send_bytes(&frame::encode(message));
    }

    /// The daemon may have hung up meanwhile: that is one of the right answers.
    fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next message, `None` when the daemon hangs up.
    fn receive<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut prefix = [0; frame::PREFIX_BYTES];
        self.0.read_exact(&mut prefix).ok()?;
        let mut body = vec![0; frame::length(prefix, CONTROL_FRAME_BYTES_MAX).expect("within the limit")];
        self.0.read_exact(&mut body).ok()?;
        Some(frame::decode(&body).expect("a message"))
    }

    /// That the daemon refuses what was sent, in words or by hanging up; never by silence.
    fn expect_refusal(mut self, what: &str) {
        let mut rest = Vec::new();
        let end = self.0.read_to_end(&mut rest);
        let timed_out = end
            .is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
        assert!(!timed_out, "the daemon neither answers nor hangs up: {what}");
    }
}

#[test]
fn random_bytes_end_only_their_own_connection() {
    let world = World::new();
    let mut alice = world.user("alice");
    let mut random = fastrand::Rng::with_seed(1);
    let mut open = Vec::new();
    for round in 0..64 {
        let mut bytes = vec![0; 1 << (round % 16)];
        random.fill(&mut bytes);
        let mut raw = if round % 2 == 0 { Raw::connect(&alice) } else { Raw::greeted(&alice) };
        raw.send_bytes(&bytes);
        open.push(raw);
    }
    assert_eq!(alice.json(&["status"])["user"], "alice", "while they are open");
    drop(open);
    assert_eq!(alice.json(&["status"])["user"], "alice");
    assert!(alice.process().is_running());
}

#[test]
fn a_huge_length_is_refused_and_costs_no_memory() {
    let world = World::new();
    let mut alice = world.user("alice");
    let before = alice.process().resident_bytes();
    for length in [u32::MAX, CONTROL_FRAME_BYTES_MAX as u32 + 1, 1 << 30] {
        let mut raw = Raw::connect(&alice);
        raw.send_bytes(&length.to_le_bytes());
        raw.expect_refusal("a huge Hello");
        let mut raw = Raw::greeted(&alice);
        raw.send_bytes(&length.to_le_bytes());
        raw.expect_refusal("a huge request");
    }
    if let (Some(before), Some(after)) = (before, alice.process().resident_bytes()) {
        assert!(after < before + (64 << 20), "grew from {before} to {after} bytes");
    }
    assert_eq!(alice.json(&["status"])["user"], "alice");
}

#[test]
fn a_name_with_nul_is_refused_and_changes_nothing() {
    let world = World::new();
    let alice = world.user("alice");
    let request = Request::CreateGroup { group: "aXb".parse().expect("a name"), policy: JoinPolicy::Public };
    for bad in [0, b'/', b'\n'] {
        let mut bytes = frame::encode(&request);
        let position = bytes.iter().position(|byte| *byte == b'X').expect("the name");
        bytes[position] = bad;
        let mut raw = Raw::greeted(&alice);
        raw.send_bytes(&bytes);
        if let Some(frame) = raw.receive::<Frame>() {
            assert!(matches!(frame, Frame::Result(Err(_))), "{frame:?}");
        }
    }
    assert!(made_groups(&alice).is_empty());
}

#[test]
fn half_a_frame_does_not_hold_up_others() {
    let world = World::new();
    let alice = world.user("alice");
    let whole =
        frame::encode(&Request::CreateGroup { group: "half".parse().expect("a name"), policy: JoinPolicy::Open });
    let mut halves = Vec::new();
    for end in 1..whole.len() {
        let mut raw = Raw::greeted(&alice);
        raw.send_bytes(&whole[..end]);
        halves.push(raw);
    }
    assert!(made_groups(&alice).is_empty());
    drop(halves);
    assert!(made_groups(&alice).is_empty());
}

/// Connections that say nothing: several times as many as commands may be connected.
const SILENT: usize = 1200;

#[test]
fn connections_that_say_nothing_make_room_and_commands_that_run_stay() {
    let world = World::new();
    let alice = world.user("alice");
    let mut running = Raw::greeted(&alice);
    running.send(&Request::Events);
    let silent: Vec<Raw> = (0..SILENT)
        .map(|number| {
            let mut raw = Raw::connect(&alice);
            if number % 2 == 0 {
                raw.send(&Hello { version: CONTROL_PROTOCOL, software: "test".to_owned() });
            }
            raw
        })
        .collect();
    // It gives up when it is not greeted within seconds.
    assert_eq!(alice.json(&["status"])["user"], "alice");
    alice.run(&["create_group", "room"]);
    let room = "room".parse().expect("a name");
    loop {
        match running.receive::<Frame>().expect("the command that ran is not closed") {
            Frame::Event(Event { what: Happening::Membership { group, .. }, .. }) if group == room => break,
            Frame::Result(result) => panic!("it has no end: {result:?}"),
            _ => {}
        }
    }
    drop(silent);
}

#[test]
fn another_version_is_told_which_one_is_spoken() {
    let world = World::new();
    let alice = world.user("alice");
    for version in [0, CONTROL_PROTOCOL + 1, u16::MAX] {
        let mut raw = Raw::connect(&alice);
        raw.send(&Hello { version, software: "test".to_owned() });
        let ack: HelloAck = raw.receive().expect("told");
        assert_eq!(ack.version, CONTROL_PROTOCOL);
        raw.send(&Request::CreateGroup { group: "other".parse().expect("a name"), policy: JoinPolicy::Open });
        raw.expect_refusal("a request after another version's Hello");
    }
    assert!(made_groups(&alice).is_empty());
}
