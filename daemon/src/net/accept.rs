//! Admission: who may connect at all, before anything is spent on them.

use std::sync::Arc;

use p2p_proto::peer::close_code;
use quinn::{Incoming, VarInt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::connection::{self, Established};
use super::places::{Place, Verdict};
use super::{Inner, handshake, machine_of};
use crate::endpoint::{HANDSHAKE_DEADLINE, canonical, node_at_other_end};

/// Accepts until the endpoint is closed.
pub(super) async fn run(net: Arc<Inner>) {
    while let Some(incoming) = net.endpoint.accept().await {
        admit(&net, incoming);
    }
}

/// Decides about one attempt, without waiting for anything.
fn admit(net: &Arc<Inner>, incoming: Incoming) {
    let address = canonical(incoming.remote_address());
    match net.places.knock(machine_of(address.ip()), incoming.remote_address_validated(), Instant::now()) {
        Verdict::Admit(place, told_to_go) => {
            tokio::spawn(welcome(Arc::clone(net), incoming, place, told_to_go));
        }
        Verdict::Retry => {
            // Allowed for every address that is not validated; were it not, the attempt is dropped, which refuses it.
            let _ = incoming.retry();
        }
        Verdict::Refuse => {
            tracing::debug!(%address, "refused: too many connections");
            incoming.refuse();
        }
    }
}

/// Stays with who was let in until its end, or until others need its place.
async fn welcome(net: Arc<Inner>, incoming: Incoming, place: Place, mut told_to_go: oneshot::Receiver<()>) {
    let address = canonical(incoming.remote_address());
    let Some(established) = shake_hands(&net, incoming, &place, &mut told_to_go).await else { return };
    place.handshake_done();
    let quinn = established.quinn.clone();
    let mut connected = std::pin::pin!(connection::run(Arc::clone(&net), established, place));
    tokio::select! {
        () = &mut connected => return,
        _ = told_to_go => {}
    }
    tracing::debug!(%address, "closing: others need its place");
    close_for_others(&quinn);
    connected.await;
}

/// TLS, then Hello. What fails here was never told to the engine, and need not be.
async fn shake_hands(
    net: &Inner,
    incoming: Incoming,
    place: &Place,
    told_to_go: &mut oneshot::Receiver<()>,
) -> Option<Established> {
    let address = canonical(incoming.remote_address());
    let mut connecting = incoming.accept().ok()?;
    let connected = tokio::select! {
        connected = timeout(HANDSHAKE_DEADLINE, &mut connecting) => connected.ok()?,
        _ = &mut *told_to_go => {
            // Possible at all times for who accepts.
            if let Ok((quinn, _)) = connecting.into_0rtt() {
                close_for_others(&quinn);
            }
            return None;
        }
    };
    let quinn = match connected {
        Ok(quinn) => quinn,
        Err(error) => {
            tracing::debug!(%address, %error, "handshake failed");
            return None;
        }
    };
    let node = node_at_other_end(&quinn)?;
    if node == net.endpoint.node_id() {
        quinn.close(VarInt::from_u32(close_code::DUPLICATE), b"myself");
        return None;
    }
    let greeted = tokio::select! {
        greeted = handshake::welcome(&quinn, net.instance) => greeted,
        _ = told_to_go => {
            close_for_others(&quinn);
            return None;
        }
    };
    match greeted {
        Ok(instance) => {
            // It has shown both its key and its address.
            net.lock_dial_budget().met(node, address, false);
            Some(Established { quinn, node, place: Some(place.id), instance })
        }
        Err(error) => {
            tracing::debug!(%address, %error, "no hello");
            None
        }
    }
}

/// Tells who has to go why: they may try again.
fn close_for_others(quinn: &quinn::Connection) {
    quinn.close(VarInt::from_u32(close_code::BUSY), b"others wait");
}
