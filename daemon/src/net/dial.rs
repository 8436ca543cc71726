//! Dialling: several addresses of one node, the first where that very node says hello wins.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use p2p_proto::id::NodeId;
use p2p_proto::limit::NODE_ADDRESSES_MAX;
use p2p_proto::peer::close_code;
use quinn::VarInt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connection::{self, Established};
use super::{Inner, handshake};
use crate::endpoint::Protocol;
use crate::engine::Input;

/// Head start of an address before the next one is tried beside it: as in RFC 8305, section 5.
const STAGGER: Duration = Duration::from_millis(250);

/// Ports below belong to services that other people run: a tracker must not be able to point daemons at them.
const PORT_MIN: u16 = 1024;

/// Connects, then stays with the connection until its end.
pub(super) async fn run(net: Arc<Inner>, node: NodeId, addresses: Vec<SocketAddr>) {
    match try_connect(&net, node, addresses).await {
        Ok((established, slot)) => connection::run(net, established, slot).await,
        Err(Failure { reason, busy }) => net.tell(Input::DialFailed { node, reason, busy }).await,
    }
}

/// Why nobody was reached.
struct Failure {
    reason: String,
    /// Whether somebody is there who has no room at present.
    busy: bool,
}

impl Failure {
    /// Nobody is there, or not who was looked for.
    fn absent(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), busy: false }
    }

    /// All addresses of a node failed.
    fn of_all(failures: &[Failure]) -> Failure {
        let reasons: Vec<&str> = failures.iter().map(|failure| failure.reason.as_str()).collect();
        Failure { reason: reasons.join("; "), busy: failures.iter().any(|failure| failure.busy) }
    }
}

async fn try_connect(
    net: &Arc<Inner>,
    node: NodeId,
    addresses: Vec<SocketAddr>,
) -> Result<(Established, OwnedSemaphorePermit), Failure> {
    if node == net.endpoint.node_id() {
        return Err(Failure::absent("that is this daemon itself"));
    }
    let mut addresses: Vec<_> = addresses.into_iter().filter(|address| is_dialable(*address)).collect();
    addresses.truncate(NODE_ADDRESSES_MAX);
    if addresses.is_empty() {
        return Err(Failure::absent("no address to dial"));
    }
    let _turn = net.dial_slots.acquire().await.map_err(|_| Failure::absent("the daemon ends"))?;
    let slot =
        connection::try_take(&net.dialled_slots).ok_or_else(|| Failure::absent("too many connections already"))?;
    let established = race(net, node, addresses).await?;
    Ok((established, slot))
}

/// Starts one attempt after the other, each a moment after the last or as soon as that failed; the others are dropped
/// with their connections once one succeeds.
async fn race(net: &Inner, node: NodeId, addresses: Vec<SocketAddr>) -> Result<Established, Failure> {
    let mut waiting = addresses.into_iter();
    let mut attempts: FuturesUnordered<_> =
        waiting.next().map(|address| attempt(net, node, address)).into_iter().collect();
    let mut failures = Vec::new();
    loop {
        let next = tokio::time::timeout(STAGGER, attempts.next()).await;
        match next {
            Ok(Some(Ok(established))) => return Ok(established),
            Ok(Some(Err(failure))) => failures.push(failure),
            Ok(None) => return Err(Failure::of_all(&failures)),
            Err(_) if waiting.len() == 0 => match attempts.next().await {
                Some(Ok(established)) => return Ok(established),
                Some(Err(failure)) => failures.push(failure),
                None => return Err(Failure::of_all(&failures)),
            },
            Err(_) => {}
        }
        if let Some(address) = waiting.next() {
            attempts.push(attempt(net, node, address));
        }
    }
}

async fn attempt(net: &Inner, node: NodeId, address: SocketAddr) -> Result<Established, Failure> {
    {
        let mut budget = net.lock_dial_budget();
        if !budget.take(node, address, Instant::now()) {
            let reason = format!("{address}: nobody was met there a moment ago");
            return Err(Failure { reason, busy: budget.is_refusing(address) });
        }
    }
    let (quinn, _) = net.endpoint.connect(address, Some(node), Protocol::Peer).await.map_err(|error| {
        let busy = error.is_for_want_of_room();
        if busy {
            net.lock_dial_budget().refused(address);
        }
        Failure { reason: format!("{address}: {error}"), busy }
    })?;
    net.lock_dial_budget().met(node, address, true);
    let mut guard = CloseUnlessKept(Some(quinn.clone()));
    let greeted = handshake::greet(&quinn, net.instance).await;
    let instance = greeted.map_err(|error| Failure {
        reason: format!("{address}: {error}"),
        busy: quinn.close_reason().as_ref().is_some_and(connection::was_busy),
    })?;
    guard.0 = None;
    Ok(Established { quinn, node, place: None, instance })
}

/// Tells the other end that another attempt won, where this one is dropped halfway.
struct CloseUnlessKept(Option<quinn::Connection>);

impl Drop for CloseUnlessKept {
    fn drop(&mut self) {
        if let Some(quinn) = &self.0 {
            quinn.close(VarInt::from_u32(close_code::DUPLICATE), b"another address answered first");
        }
    }
}

/// Whether an address from outside may be dialled: one host, one port, nobody's well-known service.
fn is_dialable(address: SocketAddr) -> bool {
    let to_one_host = match address.ip().to_canonical() {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    };
    to_one_host && address.port() >= PORT_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_hosts_above_the_well_known_ports_are_dialled() {
        for good in ["127.0.0.1:4000", "10.1.2.3:1024", "[::1]:65535", "[2001:db8::1]:4000"] {
            assert!(is_dialable(good.parse().expect("an address")), "{good}");
        }
        for bad in [
            "0.0.0.0:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "1.2.3.4:53",
            "1.2.3.4:0",
            "[::]:4000",
            "[ff02::1]:4000",
            "[::ffff:224.0.0.1]:4000",
        ] {
            assert!(!is_dialable(bad.parse().expect("an address")), "{bad}");
        }
    }
}
