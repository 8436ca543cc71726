//! Admission: who may connect at all, before anything is spent on them.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use p2p_proto::peer::close_code;
use quinn::{Incoming, VarInt};

use super::connection::{self, Established, try_take};
use super::{HANDSHAKES_MAX, Inner, handshake};
use crate::endpoint::{HANDSHAKE_DEADLINE, canonical, node_at_other_end};

/// Connections and handshakes of one address (IPv6: one /64, which is what one customer gets): a household or an office
/// behind one NAT, and several daemons on one machine.
const ACCEPTED_PER_ADDRESS_MAX: usize = 32;

/// With more handshakes than this under way, an address proves first that it is not forged (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = HANDSHAKES_MAX / 4;

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
    let Some(connection_slot) = try_take(&net.accepted_slots) else {
        tracing::debug!(%address, "refused: too many connections");
        return incoming.refuse();
    };
    let Some(address_slot) = AddressSlot::take(net, address.ip()) else {
        tracing::debug!(%address, "refused: too many connections from there");
        // Whoever forges an address fills its places only until the next honest attempt from there.
        match incoming.remote_address_validated() {
            true => incoming.refuse(),
            false => drop(incoming.retry()),
        }
        return;
    };
    let net = Arc::clone(net);
    tokio::spawn(async move {
        let established = shake_hands(&net, incoming).await;
        drop(handshake_slot);
        if let Some(established) = established {
            connection::run(net, established, (connection_slot, address_slot)).await;
        }
    });
}

/// TLS, then Hello. What fails here was never told to the engine, and need not be.
async fn shake_hands(net: &Inner, incoming: Incoming) -> Option<Established> {
    let address = canonical(incoming.remote_address());
    let connecting = incoming.accept().ok()?;
    let quinn = match tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await {
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
        Ok(instance) => Some(Established { quinn, node, dialled: false, instance }),
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
    fn take(net: &Arc<Inner>, address: IpAddr) -> Option<AddressSlot> {
        let key = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        };
        let mut registry = net.lock();
        let count = registry.accepted_from.entry(key).or_default();
        if *count >= ACCEPTED_PER_ADDRESS_MAX {
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
