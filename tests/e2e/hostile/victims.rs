//! A tracker that aims daemons at somebody else: they knock once a minute at the most, and find who is honest all the same.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use p2p_proto::id::NodeId;
use p2p_proto::tracker::{Event, Provider};
use p2p_tests::file::assert_equal;
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::datagram::{attempt, collect};
use p2p_tests::wait::eventually;

use super::{Memory, Staged, node, photos, provider, stranger};
use crate::{MIB, NAME, only_download, text};

/// Nodes that the tracker makes up.
const MADE_UP: usize = 10_000;

/// How many attempts to connect these datagrams belong to.
fn attempts(datagrams: &[Vec<u8>]) -> usize {
    datagrams.iter().map(|datagram| attempt(datagram)).collect::<BTreeSet<_>>().len()
}

fn made_up(number: usize, addresses: Vec<SocketAddr>) -> Provider {
    let mut id = [0xee; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Provider { node: NodeId(id), user: named("ghost"), addresses, complete: true }
}

/// Lets the tracker name [`MADE_UP`] nodes at the victims' addresses, in every way it can, then alice. When bob has the
/// file from her, all of that has been heard; how often each victim was knocked at, and how many minutes it took.
fn knocks(sockets: &[UdpSocket]) -> (Vec<usize>, usize) {
    let mut staged = Staged::new(MIB);
    let victims: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();
    let alice = provider(&staged.alice);
    let (bob, memory, start) = (node(&staged.bob), Memory::of(staged.bob.process()), Instant::now());
    let at = |number: usize| vec![victims[number % victims.len()], victims[(number + 1) % victims.len()]];
    staged.tracker.books().providers = (0..1_000).map(|number| made_up(number, at(number))).collect();
    let copy = staged.path("bob's copy");
    let started = staged.bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
    let event = |provider| Event::Provider { group: photos(), content: staged.content, provider };
    let events: Vec<Event> = (0..MADE_UP).map(|number| event(made_up(number, at(number)))).collect();
    // The same nodes at other addresses, so that each counts as moved.
    let moved: Vec<Event> = (0..MADE_UP).map(|number| event(made_up(number % 8, at(number)))).collect();
    staged.runtime.block_on(async {
        staged.tracker.tell(bob, &events).await;
        staged.tracker.tell(bob, &moved).await;
    });
    eventually("the made-up nodes are known", || {
        let known = only_download(&staged.bob)["peers_known"].as_u64();
        known.is_some_and(|known| known > 0).then_some(())
    });
    staged.tracker.books().providers = vec![alice.clone()];
    staged.runtime.block_on(staged.tracker.tell(bob, &[event(alice)]));
    staged.bob.run(&["wait", started["id"].as_str().expect("an id")]);
    assert_equal(&staged.file, &copy);
    memory.is_flat(staged.bob.process());
    let minutes = 1 + usize::try_from(start.elapsed().as_secs() / 60).expect("small");
    let knocks = sockets.iter().map(|socket| attempts(&collect(socket, Duration::from_millis(1), usize::MAX)));
    (knocks.collect(), minutes)
}

#[test]
fn a_victim_named_ten_thousand_times_is_knocked_at_once_a_minute() {
    let victim = UdpSocket::bind((stranger(), 0)).expect("a socket");
    let (knocks, minutes) = knocks(&[victim]);
    assert!(knocks[0] <= minutes, "{knocks:?} in {minutes} minutes");
}

#[test]
fn a_victims_many_ports_are_not_knocked_at_one_after_the_other() {
    let machine = stranger();
    let victims: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind((machine, 0)).expect("a socket")).collect();
    let (knocks, minutes) = knocks(&victims);
    let total: usize = knocks.iter().sum();
    assert!(total <= 16 * minutes && knocks.iter().all(|knocks| *knocks <= minutes), "{total}: {knocks:?}");
}
