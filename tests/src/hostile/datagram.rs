//! Datagrams outside of any connection: a real first flight to send again, to damage, and to count the answers to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{Endpoint, TransportConfig};

use super::key::{Key, Shown};
use super::wire::Line;
use crate::wait::DEADLINE;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The datagrams that open so many connections with this protocol, as they would go to anybody, by connection. Must run
/// inside a runtime.
///
/// # Panics
/// If there are no sockets.
pub async fn first_flights(here: IpAddr, alpn: &'static [u8], count: usize) -> Vec<Vec<Vec<u8>>> {
    let listener = UdpSocket::bind((here, 0)).expect("a socket");
    let there = listener.local_addr().expect("bound");
    let endpoint = Endpoint::client(SocketAddr::new(here, 0)).expect("a socket");
    let mut dialling = tokio::task::JoinSet::new();
    for _ in 0..count {
        let endpoint = endpoint.clone();
        dialling.spawn(async move {
            // Nobody ever answers: it is given up when the flight is caught.
            Line::dial_on(endpoint, there, &Shown::Own(&Key::new()), alpn, TransportConfig::default()).await.is_ok()
        });
    }
    let caught = tokio::task::spawn_blocking(move || {
        let mut flights: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        while flights.len() < count || flights.values().any(|flight| flight.len() < 2) {
            let datagrams = collect(&listener, DEADLINE, 1);
            assert!(!datagrams.is_empty(), "{} of {count} connections are opened", flights.len());
            for datagram in datagrams {
                flights.entry(attempt(&datagram).to_vec()).or_default().push(datagram);
            }
        }
        flights.into_values().collect()
    });
    caught.await.expect("does not panic")
}

/// What all datagrams of one attempt to connect share: the connection id that the client chose for the server, in QUIC's
/// long header (RFC 9000, section 17.2).
///
/// # Panics
/// If a datagram does not begin a connection.
pub fn attempt(datagram: &[u8]) -> &[u8] {
    assert!(datagram.len() > 6 && datagram[0] & 0x80 != 0, "not the beginning of a connection: {datagram:02x?}");
    &datagram[6..6 + usize::from(datagram[5])]
}

/// Datagrams that come to a socket, up to `most` or until none comes for `pause`.
pub fn collect(socket: &UdpSocket, pause: Duration, most: usize) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(pause)).expect("a time-out");
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut datagrams = Vec::new();
    while datagrams.len() < most {
        match socket.recv(&mut buffer) {
            Ok(bytes) => datagrams.push(buffer[..bytes].to_vec()),
            Err(_) => break,
        }
    }
    datagrams
}
