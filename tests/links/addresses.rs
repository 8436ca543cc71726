//! Addresses and interfaces that change in the middle of a transfer, as for somebody who takes a laptop along.

use p2p_tests::namespace::Node;

use crate::Linked;

#[test]
fn a_seeder_with_a_new_address_is_found() {
    change(|linked| &mut linked.seeder, Node::change_address);
}

#[test]
fn a_seeder_on_another_network_is_found() {
    change(|linked| &mut linked.seeder, Node::swap_interface);
}

#[test]
fn a_downloader_with_a_new_address_goes_on() {
    change(|linked| &mut linked.downloader, Node::change_address);
}

#[test]
fn a_downloader_on_another_network_goes_on() {
    change(|linked| &mut linked.downloader, Node::swap_interface);
}

fn change(whose: impl FnOnce(&mut Linked) -> &mut Node, how: impl FnOnce(&mut Node)) {
    let Some(mut linked) = Linked::new() else { return };
    linked.start_and_meet_in_the_middle();
    let before = linked.have();
    how(whose(&mut linked));
    linked.goes_on(before);
}
