//! Clients that break the tracker's protocol: handshakes, Hellos, frames, and streams that nobody reads.

use std::time::Duration;

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2p_proto::limit::{NODE_ADDRESSES_MAX, SOFTWARE_BYTES_MAX, TRACKER_FRAME_BYTES_MAX};
use p2p_proto::peer::{Open, PieceRequest, close_code, stream_code};
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Envelope, Hello, Request};
use p2p_proto::version::{ALPN_PEER, ALPN_TRACKER};
use p2p_tests::hostile::client::{envelope, hello, random_id};
use p2p_tests::hostile::wire::{Close, deaf, patiently};
use p2p_tests::hostile::{Client, Heard, Key, Line, Shown, runtime};
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};

use super::peer_frames::{handshake, wrong_handshakes};
use super::{Memory, stranger};

/// That honest people notice nothing.
fn goes_on(world: &mut World, alice: &Daemon) {
    assert!(world.tracker.process().is_running());
    let name = format!("group {}", fastrand::u64(..));
    alice.run(&["create_group", &name]);
    alice.run(&["list_members", &name]);
    alice.run(&["delete_group", &name]);
}

#[test]
fn a_trackers_handshake_proves_a_key_or_fails() {
    let mut world = World::new();
    let alice = world.user("alice");
    let (key, ecdsa) = (Key::new(), Key::ecdsa());
    runtime().block_on(async {
        let to_alice = Line::dial(stranger(), alice.address(), &Shown::Own(&key), ALPN_PEER).await.expect("connects");
        let victim = to_alice.certificate();
        for (what, shown, alpn, alert) in wrong_handshakes(&key, &ecdsa, victim, ALPN_TRACKER, ALPN_PEER) {
            assert_eq!(handshake(world.tracker.address, &shown, alpn).await, Close::Alert(alert), "{what}");
        }
    });
    goes_on(&mut world, &alice);
}

#[test]
fn a_client_without_a_right_hello_is_disconnected() {
    let mut world = World::new();
    let alice = world.user("alice");
    let honest = frame::encode(&hello());
    let addresses = |count| vec!["192.0.2.1:4000".parse().expect("an address"); count];
    let trailing = [&(honest.len() as u32 - 4 + 1).to_le_bytes(), &honest[4..], &[0]].concat();
    let table: Vec<(&str, Vec<u8>, bool)> = vec![
        ("nothing", Vec::new(), false),
        ("the end at once", Vec::new(), true),
        ("half a Hello, then silence", honest[..7].to_vec(), false),
        ("half a Hello, then the end", honest[..7].to_vec(), true),
        ("another version", frame::encode(&Hello { version: 2, ..hello() }), true),
        ("version 0", frame::encode(&Hello { version: 0, ..hello() }), true),
        ("a long name", frame::encode(&Hello { software: "x".repeat(SOFTWARE_BYTES_MAX + 1), ..hello() }), true),
        (
            "too many addresses",
            frame::encode(&Hello { local_addresses: addresses(NODE_ADDRESSES_MAX + 1), ..hello() }),
            true,
        ),
        ("4 GiB", u32::MAX.to_le_bytes().to_vec(), false),
        ("1025 bytes", 1025u32.to_le_bytes().to_vec(), false),
        ("a byte behind it in its frame", trailing, true),
        ("a request", envelope(Request::Logout), true),
        ("garbage", vec![0xff; 600], true),
    ];
    runtime().block_on(async {
        let mut tried = Vec::new();
        for (what, bytes, finish) in table {
            let key = Key::new();
            let line = Line::dial(stranger(), world.tracker.address, &Shown::Own(&key), ALPN_TRACKER).await;
            let line = line.expect("the handshake is right");
            let stream = line.say(&bytes, finish).await.expect("a stream");
            tried.push((what, line, stream));
        }
        for (what, line, _stream) in tried {
            assert_eq!(line.closed().await, Close::Protocol(close_code::HELLO.into()), "{what}");
        }
    });
    goes_on(&mut world, &alice);
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let mut world = World::new();
    let alice = world.user("alice");
    let memory = Memory::of(world.tracker.process());
    let honest = envelope(Request::ListGroups { mine: true, after: None });
    let framed = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
    let id = &honest[4..20];
    let with_number = |number: &[u8]| framed(&[id, number].concat());
    let long = TRACKER_FRAME_BYTES_MAX as u32;
    let mut noise = vec![0; 2000];
    fastrand::Rng::with_seed(3).fill(&mut noise);
    let malformed = ErrorCode::MALFORMED;
    let table: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("4 GiB", u32::MAX.to_le_bytes().to_vec(), malformed),
        ("a byte more than a frame may have", (long + 1).to_le_bytes().to_vec(), malformed),
        ("nothing in a frame", framed(&[]), malformed),
        ("a byte in the frame behind the request", framed(&[&honest[4..], &[0]].concat()), malformed),
        ("an unknown request", with_number(&[0x7f]), malformed),
        ("a request with the largest number", with_number(&[0xff, 0xff, 0xff, 0xff, 0x0f]), malformed),
        ("a number that overflows", with_number(&[0xff; 11]), malformed),
        ("a name with a length that overflows", with_number(&[&[5][..], &[0xff; 10]].concat()), malformed),
        ("a name of 4 GiB", with_number(&[5, 0xff, 0xff, 0xff, 0xff, 0x0f, b'x']), malformed),
        ("a policy that is none", with_number(&[5, 1, b'g', 9]), malformed),
        ("a name that is not UTF-8", with_number(&[6, 2, 0xff, 0xfe]), malformed),
        ("a Hello again", frame::encode(&hello()), malformed),
        (
            "a request to a peer",
            frame::encode(&Open::Piece(PieceRequest { content: ContentId([1; 32]), piece: PieceIndex(0) })),
            malformed,
        ),
        ("noise", framed(&noise), malformed),
    ];
    runtime().block_on(async {
        let client = Client::enter(stranger(), world.tracker.address, &Key::new(), "mallory", PASSWORD).await;
        for (what, bytes, code) in &table {
            let refused = client.ask_bytes(bytes).await.expect_err(what);
            assert_eq!(refused.code, *code, "{what}: {refused}");
        }
        // Two requests on one stream are one request.
        let twice = [honest.as_slice(), &honest].concat();
        let mut stream = client.line.say(&twice, true).await.expect("a stream");
        assert!(matches!(stream.hear_reply().await, Heard::Message(Ok(_))));
        assert_eq!(stream.rest().await, (0, true));
        // Half a request gets no answer, whether its end comes or not.
        for end in [1, 4, 5, honest.len() - 1] {
            for finish in [true, false] {
                let mut stream = client.line.say(&honest[..end], finish).await.expect("a stream");
                let heard = stream.hear_reply().await;
                assert_eq!(heard, Heard::Reset(stream_code::TIMED_OUT.into()), "{end} bytes, finished: {finish}");
            }
        }
        client.ask_bytes(&honest).await.expect("the connection goes on");
    });
    memory.is_flat(world.tracker.process());
    goes_on(&mut world, &alice);
}

#[test]
fn a_stranger_may_not_say_much() {
    let mut world = World::new();
    let alice = world.user("alice");
    runtime().block_on(async {
        let client = Client::connect(stranger(), world.tracker.address, &Key::new()).await.expect("connects");
        for bytes in [2049, TRACKER_FRAME_BYTES_MAX as u32] {
            let refused = client.ask_bytes(&bytes.to_le_bytes()).await.expect_err("too long");
            assert_eq!(refused.code, ErrorCode::LOGIN_NEEDED, "before its bytes have come: {refused}");
        }
    });
    goes_on(&mut world, &alice);
}

#[test]
fn who_never_reads_is_not_waited_for() {
    let mut world = World::new();
    let alice = world.user("alice");
    // A page that does not fit a window that nobody empties.
    for number in 0..40 {
        alice.run(&["create_group", &format!("{number} {}", "long ".repeat(40).trim()), "--policy", "public"]);
    }
    let memory = Memory::of(world.tracker.process());
    runtime().block_on(async {
        let key = Key::new();
        let client = Client::enter(stranger(), world.tracker.address, &key, "mallory", PASSWORD).await;
        drop(client);
        let deaf = Client::connect_with(stranger(), world.tracker.address, &key, deaf()).await.expect("connects");
        let list = frame::encode(&Envelope {
            id: random_id(),
            seen: 0,
            request: Request::ListGroups { mine: false, after: None },
        });
        // Three times as many as are permitted at once: the next begin as the first are given up.
        let mut streams = Vec::new();
        for _ in 0..48 {
            streams.push(deaf.line.say(&list, true).await.expect("permitted in time"));
        }
        for stream in &mut streams {
            let reset = patiently("it is reset", stream.recv.received_reset()).await;
            assert_eq!(reset.ok().flatten(), Some(stream_code::TIMED_OUT.into()));
        }
        assert!(deaf.line.close_so_far().is_none());
    });
    memory.is_flat(world.tracker.process());
    goes_on(&mut world, &alice);
}

#[test]
fn a_thousand_open_streams_are_a_few_at_a_time() {
    let mut world = World::new();
    let alice = world.user("alice");
    let memory = Memory::of(world.tracker.process());
    runtime().block_on(async {
        let client = Client::connect(stranger(), world.tracker.address, &Key::new()).await.expect("connects");
        let mut streams = Vec::new();
        let opening = async {
            while streams.len() < 1_000 {
                let mut stream = client.line.stream().await.expect("the connection goes on");
                stream.say_bytes(&[1]).await;
                streams.push(stream);
            }
        };
        // Whether a thousand would be permitted at once is seen at once; the pause only has to be seen.
        let all = tokio::time::timeout(Duration::from_secs(2), opening).await;
        assert!(all.is_err() && streams.len() <= 16, "{} streams are permitted", streams.len());
    });
    memory.is_flat(world.tracker.process());
    goes_on(&mut world, &alice);
}
