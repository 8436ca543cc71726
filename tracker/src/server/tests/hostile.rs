//! What hostile and broken nodes do: they get a refusal or nothing, and nobody else notices.

use std::net::UdpSocket;

use p2p_proto::id::ContentId;
use p2p_proto::identity::Identity;
use p2p_proto::peer::close_code;
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Hello, JoinPolicy, Replied, Request};
use p2p_proto::{frame, limit};
use quinn::{ConnectionError, TransportConfig, VarInt};

use super::harness::{Client, Tracker, decode, dial, envelope, named, run};

/// Bytes without sense, the same each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn closed_with(connection: &quinn::Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("not closed by the tracker: {other}"),
    }
}

#[test]
fn garbage_on_a_stream_is_refused_and_the_connection_goes_on() {
    let tracker = Tracker::start();
    run(async {
        let (client, _) = Client::enter(tracker.address, "alice").await;
        let list = envelope(Request::ListGroups { mine: true, after: None });
        let mut trailing = list.clone();
        trailing.extend_from_slice(&[0; 3]);
        let length = u32::try_from(trailing.len() - 4).expect("small");
        trailing[..4].copy_from_slice(&length.to_le_bytes());
        let mut garbage = vec![u32::MAX.to_le_bytes().to_vec(), trailing];
        for seed in 1..200 {
            let body = noise(seed, seed as usize * 3);
            let length = u32::try_from(body.len()).expect("small");
            garbage.push([&length.to_le_bytes()[..], &body].concat());
        }
        for bytes in &garbage {
            let (mut send, mut recv) = client.connection.open_bi().await.expect("connected");
            // The tracker may answer and stop reading before all is sent.
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
            let Replied { reply, .. } = decode(&recv.read_to_end(4096).await.expect("an answer"));
            assert_eq!(reply.expect_err("garbage").code, ErrorCode::MALFORMED);
        }
        // Streams that end too soon get nothing, and take nothing with them.
        for end in 0..list.len() {
            let (mut send, mut recv) = client.connection.open_bi().await.expect("connected");
            send.write_all(&list[..end]).await.expect("taken");
            send.finish().expect("open");
            assert!(recv.read_to_end(4096).await.is_err());
        }
        client.ok(Request::ListGroups { mine: true, after: None }).await;
    });
}

#[test]
fn a_second_round_without_a_first_and_a_wrong_one_are_refused() {
    let tracker = Tracker::start();
    run(async {
        let client = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        assert_eq!(client.refused(Request::LoginFinish { proof: vec![0; 64] }).await, ErrorCode::MALFORMED);
        assert_eq!(client.refused(Request::RegisterFinish { record: vec![0; 192] }).await, ErrorCode::MALFORMED);
        for length in [0, 31, 32, 96, 97, 1000] {
            let message = noise(length as u64, length);
            let start = Request::LoginStart { user: named("alice"), message: message.clone() };
            assert_eq!(client.refused_or_challenged(start).await, ErrorCode::MALFORMED);
            let start = Request::RegisterStart { user: named("alice"), message };
            assert_eq!(client.refused_or_challenged(start).await, ErrorCode::MALFORMED);
        }
        client.register("alice", "a password").await.expect("still served");
    });
}

impl Client {
    /// The refusal of a request, in its first round or, answered with the wrong message, in its second.
    async fn refused_or_challenged(&self, request: Request) -> ErrorCode {
        let (mut send, mut recv) = self.connection.open_bi().await.expect("connected");
        send.write_all(&envelope(request)).await.expect("taken");
        send.write_all(&envelope(Request::Logout)).await.expect("taken");
        send.finish().expect("open");
        let bytes = recv.read_to_end(1 << 20).await.expect("an answer");
        let mut rest = bytes.as_slice();
        loop {
            let (prefix, body) = rest.split_first_chunk().expect("a frame");
            let (message, behind) = body.split_at(frame::length(*prefix, 1 << 20).expect("small"));
            if let Err(reject) = frame::decode::<Replied>(message).expect("a reply").reply {
                return reject.code;
            }
            rest = behind;
        }
    }
}

#[test]
fn strangers_may_not_send_long_messages() {
    let tracker = Tracker::start();
    run(async {
        let client = Client::connect(tracker.address, &Identity::generate().expect("made")).await;
        let (mut send, mut recv) = client.connection.open_bi().await.expect("connected");
        let length = u32::try_from(limit::TRACKER_FRAME_BYTES_MAX).expect("small");
        send.write_all(&length.to_le_bytes()).await.expect("taken");
        let Replied { reply, .. } =
            decode(&recv.read_to_end(4096).await.expect("an answer before the message has come"));
        assert_eq!(reply.expect_err("too long").code, ErrorCode::LOGIN_NEEDED);
    });
}

#[test]
fn a_connection_without_a_right_hello_is_closed() {
    let tracker = Tracker::start();
    run(async {
        let hello = |version, addresses| Hello {
            version,
            software: "test".to_owned(),
            local_addresses: vec!["192.0.2.1:4000".parse().expect("an address"); addresses],
        };
        let wrong = [
            frame::encode(&hello(2, 0)),
            frame::encode(&hello(1, limit::NODE_ADDRESSES_MAX + 1)),
            envelope(Request::Logout),
            vec![0xff; 100],
        ];
        for bytes in wrong {
            let identity = Identity::generate().expect("made");
            let (_endpoint, connection) = dial(tracker.address, &identity, TransportConfig::default()).await;
            let (mut send, _recv) = connection.open_bi().await.expect("connected");
            send.write_all(&bytes).await.expect("taken");
            assert_eq!(closed_with(&connection).await, u64::from(close_code::HELLO));
        }
    });
}

#[test]
fn garbage_datagrams_are_not_noticed() {
    let tracker = Tracker::start();
    run(async {
        let (client, _) = Client::enter(tracker.address, "alice").await;
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for seed in 1..2_000 {
            let mut bytes = noise(seed, 1 + seed as usize % 1400);
            if seed % 3 == 0 {
                // Looks like the first packet of a connection.
                bytes[0] = 0xc3;
                bytes.splice(1..bytes.len().min(5), [0, 0, 0, 1]);
                bytes.resize(1200, 0);
            }
            socket.send_to(&bytes, tracker.address).expect("sent");
        }
        client.ok(Request::ListGroups { mine: true, after: None }).await;
    });
}

#[test]
fn who_does_not_read_events_is_disconnected() {
    let tracker = Tracker::start();
    run(async {
        let (alice, _) = Client::enter(tracker.address, "alice").await;
        alice.create_group("g", JoinPolicy::Public).await;
        let contents: Vec<ContentId> = (0..limit::PAGE_ITEMS_MAX).map(|n| ContentId([n as u8 ^ 1; 32])).collect();
        let mut distinct = contents.clone();
        for (number, content) in distinct.iter_mut().enumerate() {
            content.0[..8].copy_from_slice(&number.to_le_bytes());
        }
        for batch in distinct.chunks(16).collect::<Vec<_>>() {
            let mut published = tokio::task::JoinSet::new();
            for content in batch {
                let (connection, content) = (alice.connection.clone(), *content);
                published.spawn(async move {
                    let (mut send, mut recv) = connection.open_bi().await.expect("connected");
                    let request = Request::Publish {
                        group: named("g"),
                        name: named(&content.to_string()),
                        content,
                        length: 1,
                        replace: false,
                        born: None,
                    };
                    send.write_all(&envelope(request)).await.expect("taken");
                    send.finish().expect("open");
                    decode::<Replied>(&recv.read_to_end(4096).await.expect("an answer")).reply.expect("published");
                });
            }
            published.join_all().await;
        }
        let identity = Identity::generate().expect("made");
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(1024));
        let deaf = Client::connect_with(tracker.address, &identity, transport).await;
        deaf.register("deaf", "a password").await.expect("registered");
        deaf.login("deaf", "a password").await.expect("logged in");
        deaf.announce("g", &distinct, false).await.expect("noted");
        // Each round tells the deaf node of a seeder for each content.
        for _ in 0..20 {
            alice.announce("g", &distinct, true).await.expect("noted");
            alice.announce("g", &distinct, false).await.expect("noted");
        }
        assert_eq!(closed_with(&deaf.connection).await, u64::from(close_code::BUSY));
        alice.ok(Request::ListGroups { mine: true, after: None }).await;
    });
}
