//! A seeder's link is shared among users, not among their nodes.

use std::path::Path;

use p2p_tests::namespace::network_or_skip;
use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Binaries, Daemon, World};
use serde_json::Value;

use crate::{MIB, RATE, text};

/// Nodes of the user who has more than one: their connections alone would get five parts of six.
const NODES: usize = 5;

/// Over how many bytes, of all together, it is looked at who got how much.
const SPAN: u64 = 40 * MIB;

/// For how many of these in a row they have to get as much as each other.
const SPANS: usize = 3;

/// Of each file: more than one node gets before the end.
const LENGTH: u64 = 256 * MIB;

#[test]
fn a_user_with_five_nodes_gets_no_more_of_a_link_than_one_with_one() {
    let Some(network) = network_or_skip() else { return };
    let nodes: Vec<_> = ["tracker", "seeder", "bob"].into_iter().map(|name| network.node(name)).collect();
    let many: Vec<_> = (0..NODES).map(|_| network.node("carol")).collect();
    nodes.iter().chain(&many).for_each(|node| node.shape(RATE));
    let world = World::on(&nodes[0], Binaries::get().clone()).unwrap_or_else(|error| panic!("{error}"));
    let (alice, bob) = (world.user_on(&nodes[1], "alice"), world.user_on(&nodes[2], "bob"));
    let carol = world.user_on(&many[0], "carol");
    let others = many[1..].iter().enumerate().map(|(number, node)| {
        let mut daemon = world.resting_daemon(&format!("carol{number}")).on(node);
        daemon.restart();
        daemon.run(&["login", "carol", PASSWORD]);
        daemon
    });
    let carols: Vec<Daemon> = std::iter::once(carol).chain(others).collect();

    alice.run(&["create_group", "photos", "--policy", "public"]);
    // To each node a file of its own, so that nobody can bring anything to anybody else.
    for (number, daemon) in std::iter::once(&bob).chain(&carols).enumerate() {
        let name = format!("file{number}");
        let path = world.path(&name);
        make_file(&path, number);
        alice.run(&["upload_file", text(&path), "photos"]);
        daemon.run(&["download_file", "photos", &name, text(&world.path(&format!("copy{number}"))), "--detach"]);
    }

    let got = || (have(&bob), carols.iter().map(have).sum::<u64>());
    let mut before = got();
    let mut next_span = || {
        let now = eventually("more has come", || Some(got()).filter(|now| now.0 + now.1 >= before.0 + before.1 + SPAN));
        let (bob, carol) = (now.0 - before.0, now.1 - before.1);
        before = now;
        eprintln!("bob {bob}, carol {carol}: {:.2}", carol as f64 / bob as f64);
        (bob, carol)
    };
    // One span may be chance. It may take more than one beginning: where the machine is short of processors less is sent for
    // a moment, which looks as if holding back were of no use.
    let mut spans = Vec::new();
    eventually("bob gets as much as carol for a while", || {
        spans.push(next_span());
        let last = spans.last_chunk::<SPANS>()?;
        let (bob, carol) = last.iter().fold((0, 0), |sum, span| (sum.0 + span.0, sum.1 + span.1));
        (carol <= bob + bob / 5).then_some(())
    });
}

/// A file with a content of its own and nearly nothing on the disk.
fn make_file(path: &Path, number: usize) {
    std::fs::write(path, number.to_string()).expect("a file");
    std::fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(LENGTH)).expect("a longer file");
}

/// Bytes that a node's download has.
fn have(daemon: &Daemon) -> u64 {
    let downloads: Value = daemon.json(&["show_downloads"]);
    downloads["downloads"][0]["have_bytes"].as_u64().unwrap_or_else(|| panic!("no number in {downloads}"))
}
