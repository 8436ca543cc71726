//! Packets lost at random: slower, never wrong.

use p2p_tests::namespace::Fault;

use crate::Linked;

#[test]
fn one_packet_in_twenty_lost_changes_nothing() {
    completes_with_loss(5);
}

#[test]
fn one_packet_in_five_lost_changes_nothing() {
    completes_with_loss(20);
}

/// On the seeder's cable, each way: handshake, requests, payload and acknowledgements alike.
fn completes_with_loss(percent: u8) {
    let Some(linked) = Linked::new() else { return };
    linked.seeder.impair(Fault::Loss(percent));
    linked.start();
    linked.ends_with_the_file();
}
