//! Too much of everything: slow readers, slow connections, streams, handshakes, pages; whoever is honest is served meanwhile.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::peer::{Open, PieceReply, PieceRequest, close_code, stream_code};
use p2p_proto::tracker::{Answer, Request};
use p2p_proto::version::{ALPN_PEER, ALPN_TRACKER};
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::datagram::{collect, first_flights};
use p2p_tests::hostile::peer::hello;
use p2p_tests::hostile::tracker::{listing, replied};
use p2p_tests::hostile::wire::{Close, deaf, patiently};
use p2p_tests::hostile::{Client, Heard, Key, Line, Peer, Shown};
use p2p_tests::wait::eventually;
use quinn::{Endpoint, TransportConfig};
use tokio::task::JoinSet;

use super::{Memory, Staged, photos, stranger, well};
use crate::MIB;

/// The smallest datagram that every path carries, in bytes: what handshakes are made of.
const DATAGRAM_BYTES: usize = 1200;

/// Pieces that a daemon sends to one user at once.
const PLACES_OF_A_USER: usize = 16;

#[test]
fn who_does_not_read_holds_its_own_places_and_not_for_long() {
    let mut staged = Staged::new(32 * MIB);
    let memory = Memory::of(staged.alice.process());
    let key = Key::new();
    let grant = staged.honest_grant(&key, "mallory");
    let request =
        |piece| frame::encode(&Open::Piece(PieceRequest { content: staged.content, piece: PieceIndex(piece) }));
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut transport = deaf();
    transport.receive_window(quinn::VarInt::from_u32(1 << 20));
    let (peer, _interest, waiting) = staged.runtime.block_on(async {
        let peer = Peer::connect_with(stranger(), staged.alice.address(), &key, transport).await.expect("connects");
        let interest = peer.interest(&photos(), staged.content, &grant).await.expect("a member");
        let mut waiting = JoinSet::new();
        for piece in 0..24 {
            let mut stream = peer.line.say(&request(piece), true).await.expect("a stream");
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            waiting.spawn(async move {
                if stream.hear::<PieceReply>().await == Heard::Message(PieceReply::Bytes(512 * 1024)) {
                    begun.fetch_add(1, Ordering::SeqCst);
                }
                // Not a byte more is read.
                let reset = patiently("it is reset", stream.recv.received_reset()).await;
                ended.fetch_add(1, Ordering::SeqCst);
                reset.ok().flatten().map(quinn::VarInt::into_inner)
            });
        }
        (peer, interest, waiting)
    });
    eventually("it has all the places that it can get", || {
        (begun.load(Ordering::SeqCst) >= PLACES_OF_A_USER).then_some(())
    });
    let download = staged.download();
    download.finish(&staged.file);
    let held = begun.load(Ordering::SeqCst).saturating_sub(ended.load(Ordering::SeqCst));
    assert!(held <= PLACES_OF_A_USER, "{held} places are held");
    staged.runtime.block_on(async {
        for code in waiting.join_all().await {
            assert_eq!(code, Some(stream_code::TIMED_OUT.into()));
        }
    });
    assert!(peer.line.close_so_far().is_none(), "only its requests are given up");
    memory.is_flat(staged.alice.process());
    well(&mut staged.alice);
}

/// Says Hello at a byte a second from when the handshake is done; how the other end put an end to it.
async fn creep(endpoint: Endpoint, there: SocketAddr, alpn: &'static [u8]) -> Close {
    let dialled = Line::dial_on(endpoint, there, &Shown::Own(&Key::new()), alpn, TransportConfig::default()).await;
    let line = match dialled {
        Ok(line) => line,
        Err(close) => return close,
    };
    let Ok(mut stream) = line.stream().await else { return line.closed().await };
    let bytes = frame::encode(&hello());
    let creeping = async {
        for byte in bytes {
            stream.say_bytes(&[byte]).await;
            // The pace is the attack.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = creeping => panic!("it was listened to for all that time"),
        close = line.closed() => close,
    }
}

#[test]
fn five_hundred_connections_at_a_byte_a_second_are_dropped() {
    let mut staged = Staged::new(32 * MIB);
    let memory = Memory::of(staged.alice.process());
    let alice = staged.alice.address();
    // One machine, several machines.
    let machines: Vec<IpAddr> = (0..10).map(|_| stranger()).collect();
    let mut creeping = staged.runtime.block_on(async {
        let mut creeping = JoinSet::new();
        for machine in &machines {
            let endpoint = Endpoint::client(SocketAddr::new(*machine, 0)).expect("a socket");
            for _ in 0..50 {
                creeping.spawn(creep(endpoint.clone(), alice, ALPN_PEER));
            }
        }
        creeping
    });
    let download = staged.download();
    let closes = staged.runtime.block_on(async {
        let mut closes = Vec::new();
        while let Some(close) = creeping.join_next().await {
            closes.push(close.expect("does not panic"));
        }
        closes
    });
    /// QUIC's own words (RFC 9000, section 20.1): no room, a token that was shown too late, and no room any more before the
    /// handshake was done.
    const NOT_LET_IN: [u64; 3] = [2, 11, 12];
    let too_slow = Close::Protocol(close_code::HELLO.into());
    let made_room = Close::Protocol(close_code::BUSY.into());
    let mut expected = vec![too_slow, made_room, Close::Silent];
    expected.extend(NOT_LET_IN.map(Close::Quic));
    assert_eq!(closes.len(), 500);
    assert!(closes.iter().all(|close| expected.contains(close)), "{closes:?}");
    assert!(closes.contains(&too_slow), "none came as far as being too slow");
    staged.finish(download);
    memory.is_flat(staged.alice.process());
}

#[test]
fn a_list_without_end_is_refused() {
    let mut staged = Staged::new(MIB);
    let memory = Memory::of(staged.bob.process());
    let pages = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&pages);
    let content = staged.content;
    staged.tracker.books().instead = Some(Box::new(move |request| match request {
        Request::ListFiles { .. } => {
            let page = told.fetch_add(1, Ordering::SeqCst);
            let rows =
                (0..PAGE_ITEMS_MAX).map(|row| listing(named(&format!("{page:9} {row:9}")), named("m"), content, 1));
            Some(frame::encode(&replied(Ok(Answer::Files(rows.collect())))))
        }
        _ => None,
    }));
    let refusal = staged.bob.refusal(&["list_files", "photos"]);
    assert_eq!(refusal.code, "unsupported", "{refusal:?}");
    assert!(pages.load(Ordering::SeqCst) > 100, "a long list is none without end");
    memory.is_flat(staged.bob.process());
    let download = staged.download();
    staged.finish(download);
}

#[test]
fn streams_that_say_nothing_are_given_up() {
    let mut staged = Staged::new(16 * MIB);
    let memory = Memory::of(staged.alice.process());
    let download = staged.download();
    staged.runtime.block_on(async {
        let peer = staged.connect(&Key::new()).await.expect("connects");
        // Four times as many as are permitted at once: each lot begins when the one before is given up.
        for lot in 0..4 {
            let mut streams = Vec::new();
            for _ in 0..250 {
                let mut stream = peer.line.stream().await.expect("permitted in time");
                stream.say_bytes(&[1]).await;
                streams.push(stream);
            }
            for stream in &mut streams {
                let reset = patiently("it is reset", stream.recv.received_reset()).await;
                assert_eq!(reset.ok().flatten(), Some(stream_code::TIMED_OUT.into()), "lot {lot}");
            }
        }
        assert!(peer.line.close_so_far().is_none());
    });
    staged.finish(download);
    memory.is_flat(staged.alice.process());
}

#[test]
fn forged_first_packets_are_answered_with_little_and_keep_nobody_out() {
    let mut staged = Staged::new(2 * MIB);
    let world = p2p_tests::World::new();
    let here = stranger();
    for (there, alpn) in [(staged.alice.address(), ALPN_PEER), (world.tracker.address, ALPN_TRACKER)] {
        // As many as begin connections at once, each from a socket that never says another word.
        let flights = staged.runtime.block_on(first_flights(here, alpn, 100));
        let sockets: Vec<UdpSocket> =
            flights.iter().map(|_| UdpSocket::bind((stranger(), 0)).expect("a socket")).collect();
        let mut sent = Vec::new();
        for (socket, flight) in sockets.iter().zip(&flights) {
            flight.iter().for_each(|datagram| drop(socket.send_to(datagram, there)));
            sent.push(flight.iter().map(Vec::len).sum::<usize>());
        }
        // While all of them wait, somebody new gets in.
        staged.runtime.block_on(async {
            match alpn {
                ALPN_PEER => drop(staged.connect(&Key::new()).await.expect("let in")),
                _ => drop(Client::connect(stranger(), there, &Key::new()).await.expect("let in")),
            }
        });
        let mut retries = 0;
        for (number, socket) in sockets.iter().enumerate() {
            // What is sent again to who does not answer comes at longer and longer distances.
            let pause = if number == 0 { Duration::from_secs(8) } else { Duration::from_millis(1) };
            let answers = collect(socket, pause, usize::MAX);
            let bytes: usize = answers.iter().map(Vec::len).sum();
            // Three times as much (RFC 9000, section 8.1); quinn finishes the datagram that it has begun by then.
            let most = 3 * sent[number] + DATAGRAM_BYTES;
            assert!(bytes <= most, "{bytes} bytes for {} of a forged address", sent[number]);
            retries += answers.iter().filter(|answer| answer[0] & 0xf0 == 0xf0).count();
        }
        if alpn == ALPN_PEER {
            assert!(retries > 0, "an address is to be shown first where many handshakes wait");
        }
    }
    well(&mut staged.alice);
}
