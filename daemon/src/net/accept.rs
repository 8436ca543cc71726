//! Admission: who may connect at all, before anything is spent on them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_proto::peer::close_code;
use quinn::{Incoming, VarInt};
use tokio::time::timeout;

use super::connection::{self, Established, try_take};
use super::{HANDSHAKES_MAX, Inner, handshake, interest, machine_of};
use crate::endpoint::{HANDSHAKE_DEADLINE, canonical, node_at_other_end};
use crate::engine::input::ConnectionId;

/// Connections and handshakes of one machine, by [`machine_of`]: a household or an office behind one NAT, and several
/// daemons on one machine. Beyond, one of them that is not used makes room.
const ACCEPTED_PER_ADDRESS_MAX: usize = 32;

/// With more handshakes than this under way, an address proves first that it is not forged (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = HANDSHAKES_MAX / 4;

/// A connection on which nothing is asked for within this time after its Hello may be closed where others need its place;
/// an honest peer connects when it wants something.
const UNUSED_AGE: Duration = Duration::from_secs(3);

/// How long a newcomer waits for the place of a connection that is being closed for it.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);

/// Accepts until the endpoint is closed.
pub(super) async fn run(net: Arc<Inner>) {
    while let Some(incoming) = net.endpoint.accept().await {
        admit(&net, incoming);
    }
}

/// Decides about one attempt, without waiting for anything.
fn admit(net: &Arc<Inner>, incoming: Incoming) {
    let address = canonical(incoming.remote_address());
    let Some(handshake_slot) = try_take(&net.handshake_slots) else {
        // Not even a refusal: this is a flood, or what is left over behind one.
        return incoming.ignore();
    };
    let under_way = HANDSHAKES_MAX - net.handshake_slots.available_permits();
    if under_way > RETRY_ABOVE && !incoming.remote_address_validated() {
        // Allowed for every address that is not validated; were it not, the attempt is dropped, which refuses it.
        let _ = incoming.retry();
        return;
    }
    let machine = machine_of(address.ip());
    let mut address_slot = AddressSlot::take(net, machine, ACCEPTED_PER_ADDRESS_MAX);
    let connection_slot = try_take(&net.accepted_slots);
    if address_slot.is_none() || connection_slot.is_none() {
        if !incoming.remote_address_validated() {
            // Nobody has to go for an address that may be forged.
            let _ = incoming.retry();
            return;
        }
        let crowd = address_slot.is_none().then_some(machine);
        if make_room(net, crowd) && crowd.is_some() {
            // Beside the place of who has to go, until that one is gone.
            address_slot = AddressSlot::take(net, machine, 2 * ACCEPTED_PER_ADDRESS_MAX);
        }
    }
    let Some(address_slot) = address_slot else {
        tracing::debug!(%address, "refused: too many connections from there");
        return incoming.refuse();
    };
    let net = Arc::clone(net);
    tokio::spawn(async move {
        let connection_slot = match connection_slot {
            Some(slot) => slot,
            // As soon as who had to go is gone, or somebody who went by themselves.
            None => match timeout(ROOM_DEADLINE, Arc::clone(&net.accepted_slots).acquire_owned()).await {
                Ok(Ok(slot)) => slot,
                _ => {
                    tracing::debug!(%address, "refused: too many connections");
                    return incoming.refuse();
                }
            },
        };
        let established = shake_hands(&net, incoming).await;
        drop(handshake_slot);
        if let Some(established) = established {
            connection::run(net, established, (connection_slot, address_slot)).await;
        }
    });
}

/// Closes a connection that a peer opened and that nothing is done with, so that those who only sit there do not take the
/// places of those who want something: one of the machine `crowd`, or of the machine that has most; there the oldest.
/// False if there is none.
fn make_room(net: &Inner, crowd: Option<IpAddr>) -> bool {
    let registry = net.lock();
    let used: HashSet<ConnectionId> = (registry.served.values().map(interest::Served::connection))
        .chain(registry.interests.values().map(interest::Shown::connection))
        .collect();
    let peers = registry.connections.values().map(|entry| &entry.peer);
    let unused = peers.filter(|peer| {
        !peer.dialled && peer.age() >= UNUSED_AGE && !used.contains(&peer.id) && peer.quinn.close_reason().is_none()
    });
    let from = unused.map(|peer| (machine_of(canonical(peer.quinn.remote_address()).ip()), peer));
    let goes = from
        .filter(|(machine, _)| crowd.is_none_or(|crowd| crowd == *machine))
        .max_by_key(|(machine, peer)| (registry.accepted_from.get(machine).copied(), peer.age()));
    let Some((_, goes)) = goes else { return false };
    tracing::debug!(connection = goes.id.0, "closing: it is not used and another needs its place");
    goes.quinn.close(VarInt::from_u32(close_code::BUSY), b"not used, and others wait");
    true
}

/// TLS, then Hello. What fails here was never told to the engine, and need not be.
async fn shake_hands(net: &Inner, incoming: Incoming) -> Option<Established> {
    let address = canonical(incoming.remote_address());
    let connecting = incoming.accept().ok()?;
    let quinn = match timeout(HANDSHAKE_DEADLINE, connecting).await {
        Ok(Ok(quinn)) => quinn,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let node = node_at_other_end(&quinn)?;
    if node == net.endpoint.node_id() {
        quinn.close(VarInt::from_u32(close_code::DUPLICATE), b"myself");
        return None;
    }
    match handshake::welcome(&quinn, net.instance).await {
        Ok(instance) => {
            // It has shown both its key and its address.
            net.lock_dial_budget().met(node, address);
            Some(Established { quinn, node, dialled: false, instance })
        }
        Err(error) => {
            tracing::debug!(%address, %error, "no hello");
            None
        }
    }
}

/// One of an address's places, given back when dropped.
struct AddressSlot {
    net: Arc<Inner>,
    key: IpAddr,
}

impl AddressSlot {
    /// A place of that machine, if it has fewer than `places_max`.
    fn take(net: &Arc<Inner>, key: IpAddr, places_max: usize) -> Option<AddressSlot> {
        let mut registry = net.lock();
        let count = registry.accepted_from.entry(key).or_default();
        if *count >= places_max {
            return None;
        }
        *count += 1;
        Some(AddressSlot { net: Arc::clone(net), key })
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut registry = self.net.lock();
        if let Some(count) = registry.accepted_from.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                registry.accepted_from.remove(&self.key);
            }
        }
    }
}
