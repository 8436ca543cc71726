//! Gateways that translate addresses, as most homes have.

use p2p_tests::namespace::network_or_skip;
use p2p_tests::wait::eventually;

use crate::Linked;

#[test]
fn a_downloader_behind_a_gateway_is_served() {
    let Some(network) = network_or_skip() else { return };
    let (seeder, downloader) = (network.node("seeder"), network.node_behind_gateway("downloader"));
    let linked = Linked::on(&network, seeder, downloader);
    linked.start();
    linked.ends_with_the_file();
}

#[test]
fn a_seeder_whose_gateway_gets_another_address_is_found() {
    let Some(network) = network_or_skip() else { return };
    let (seeder, downloader) = (network.node_behind_gateway("seeder"), network.node("downloader"));
    seeder.forward_everything();
    let mut linked = Linked::on(&network, seeder, downloader);
    linked.start_and_meet_in_the_middle();
    let before = linked.have();
    linked.seeder.swap_interface();
    linked.goes_on(before);
}

#[test]
fn two_behind_gateways_are_told_why_nothing_comes() {
    let Some(network) = network_or_skip() else { return };
    let (seeder, downloader) = (network.node_behind_gateway("seeder"), network.node_behind_gateway("downloader"));
    let linked = Linked::on(&network, seeder, downloader);
    linked.start();
    let reason = eventually("the download says why it waits", || {
        let download = linked.download();
        let reason = download["reason"].as_str()?.to_owned();
        reason.contains("cannot be reached").then_some((download["state"].clone(), reason))
    });
    assert_eq!(reason.0, "waiting", "{}", reason.1);
    assert!(reason.1.contains("router or firewall"), "{}", reason.1);
}
