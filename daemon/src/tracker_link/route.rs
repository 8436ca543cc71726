//! The way to a tracker: noticing that this machine has another address than before.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use crate::endpoint::Endpoint;

/// How often it is looked: three system calls, and a move that is noticed a second late costs nobody anything.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Ends when packets to `remote` leave from another address of this machine than at first. While there is no way at all,
/// the one before may still come back.
pub(super) async fn moved(endpoint: &Endpoint, remote: SocketAddr) {
    let mut first = None;
    loop {
        let now = endpoint.local_address_towards(remote);
        first = first.or(now);
        if now.is_some() && now != first {
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}
