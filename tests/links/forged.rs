//! Forged senders: what is sent to somebody who never asked is at most three times what came in their name.

use std::sync::Arc;
use std::time::Duration;

use p2p_proto::identity::Identity;
use p2p_tests::namespace::{Node, network_or_skip};
use p2p_tests::{Binaries, World};
use p2pd::endpoint::{Endpoint, Protocol};

/// Connections begun in somebody else's name; each sends its first datagrams again and again until it gives up.
const ATTEMPTS: usize = 40;

#[test]
fn whoever_is_named_by_a_forger_is_sent_little() {
    let Some(network) = network_or_skip() else { return };
    let (tracker, seeder) = (network.node("tracker"), network.node("seeder"));
    let (victim, forger) = (network.node("victim"), network.node("forger"));
    let world = World::on(&tracker, Binaries::get().clone()).unwrap_or_else(|error| panic!("{error}"));
    let alice = world.user_on(&seeder, "alice");
    forger.pretend_to_be(victim.address());
    let targets = [
        (&tracker, world.tracker.address.port(), Protocol::Tracker),
        (&seeder, alice.address().port(), Protocol::Peer),
    ];
    for (target, port, protocol) in targets {
        let traffic = target.count_traffic_with(victim.address());
        forge(&forger, &victim, target, port, protocol);
        let (received, sent) = traffic.payload_bytes();
        eprintln!("{protocol:?}: {received} bytes in the victim's name, {sent} bytes to it");
        assert!(received > ATTEMPTS as u64 * 1200, "only {received} bytes came");
        assert!(sent > 0, "not even an honest newcomer would be answered");
        assert!(sent <= 3 * received, "{sent} bytes sent for {received}");
    }
}

/// Dials `target` in the victim's name, until every attempt has given up for want of an answer.
fn forge(forger: &Node, victim: &Node, target: &Node, port: u16, protocol: Protocol) {
    let folder = tempfile::tempdir().expect("a folder");
    let identity = Arc::new(Identity::load_or_create(folder.path()).expect("a key"));
    let (from, to) = ((victim.address(), 0).into(), (target.address(), port).into());
    forger.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let endpoint = Endpoint::bind(identity, from).expect("the victim's address is here too");
            let attempts: Vec<_> = (0..ATTEMPTS)
                .map(|_| {
                    let endpoint = endpoint.clone();
                    tokio::spawn(async move { endpoint.connect(to, None, protocol).await.is_ok() })
                })
                .collect();
            for attempt in attempts {
                assert!(!attempt.await.expect("does not panic"), "the answer came back to the forger");
            }
        });
        runtime.shutdown_timeout(Duration::ZERO);
    });
}
