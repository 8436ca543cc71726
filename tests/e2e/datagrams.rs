//! Garbage datagrams at the tracker and at a daemon while a download runs: it ends as if there were none.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use p2p_proto::version::{ALPN_PEER, ALPN_TRACKER};
use p2p_tests::file::assert_equal;
use p2p_tests::hostile::datagram::first_flights;
use p2p_tests::hostile::runtime;
use p2p_tests::world::own_address;

use crate::{MIB, NAME, Shared, text};

/// Sends random datagrams, those that look like QUIC among them (RFC 9000 §17), and `real` ones with a few bits changed,
/// until told to stop; how many.
fn send_garbage(to: &[SocketAddr], real: &[Vec<u8>], over: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind((to[0].ip(), 0)).expect("a port");
    let mut random = fastrand::Rng::with_seed(7);
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let mut datagram = vec![0; random.usize(1..1400)];
        random.fill(&mut datagram);
        match random.u8(0..5) {
            // A long header: Initial, 0-RTT, Handshake, Retry or version negotiation.
            0 => datagram[0] |= 0x80,
            // An Initial of version 1, long enough to be taken seriously.
            1 => {
                datagram.resize(1200, 0);
                datagram[0] = 0xc0 | (datagram[0] & 0x0f);
                datagram[1..5].copy_from_slice(&1u32.to_be_bytes());
                datagram[5] = 8;
            }
            // A short header.
            2 => datagram[0] = 0x40 | (datagram[0] & 0x3f),
            3 => {
                datagram.clone_from(&real[random.usize(..real.len())]);
                for _ in 0..random.usize(1..8) {
                    let place = random.usize(..datagram.len());
                    datagram[place] ^= 1 << random.u8(..8);
                }
            }
            _ => {}
        }
        for address in to {
            // A full buffer is no fault of theirs.
            let _ = socket.send_to(&datagram, address);
        }
        sent += 1;
        if sent % 64 == 0 {
            std::thread::yield_now();
        }
    }
    sent
}

#[test]
fn garbage_datagrams_change_nothing() {
    let mut shared = Shared::new(64 * MIB);
    let addresses = [shared.world.tracker.address, shared.alice.address(), shared.bob.address()];
    let here = own_address();
    let real: Vec<Vec<u8>> = runtime().block_on(async {
        let [peers, trackers] = [ALPN_PEER, ALPN_TRACKER].map(|alpn| first_flights(here, alpn, 8));
        [peers.await, trackers.await].concat().concat()
    });
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let garbage = scope.spawn(|| send_garbage(&addresses, &real, &over));
        shared.bob.run(&["download_file", "photos", NAME, text(&shared.copy())]);
        shared.bob.run(&["list_groups"]);
        over.store(true, Ordering::Relaxed);
        garbage.join().expect("does not panic")
    });
    assert!(sent > 1000, "only {sent} datagrams");
    assert_equal(&shared.file, &shared.copy());
    for process in [shared.world.tracker.process(), shared.alice.process(), shared.bob.process()] {
        assert!(process.is_running());
        if let Some(resident) = process.resident_bytes() {
            assert!(resident < 512 << 20, "{resident} bytes resident");
        }
    }
    let carol = shared.world.user("carol");
    assert_eq!(carol.json(&["list_files", "photos"])["files"].as_array().map(Vec::len), Some(1));
}
