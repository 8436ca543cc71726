//! One look at every connection now and then: a peer that has gone without a word is given up, so that its pieces are asked
//! for elsewhere and it is dialled again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use p2p_proto::peer::close_code;
use quinn::VarInt;
use tokio::time::{MissedTickBehavior, interval};

use super::Inner;
use crate::engine::input::ConnectionId;
use crate::silence::{LISTEN_INTERVAL, Silence};

/// A peer acknowledges a packet within a round trip. Longer than for a tracker, on which commands wait: a home's uplink may
/// keep packets for seconds. Together with [`crate::endpoint::KEEP_ALIVE_INTERVAL`] it is noticed within ten seconds that
/// a peer is gone, which leaves five of the fifteen within which a transfer has to go on.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Listens to every connection until the daemon ends.
pub(super) async fn run(net: Arc<Inner>) {
    let mut turns = interval(LISTEN_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard: HashMap<ConnectionId, Silence> = HashMap::new();
    while !net.inputs.is_closed() {
        turns.tick().await;
        let peers: Vec<_> = net.lock().connections.values().map(|entry| Arc::clone(&entry.peer)).collect();
        heard.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        for peer in peers {
            if heard.entry(peer.id).or_default().lasts(&peer.quinn) >= SILENCE_MAX {
                tracing::debug!(connection = peer.id.0, "closing: the peer has fallen silent");
                peer.quinn.close(VarInt::from_u32(close_code::DONE), b"silence");
            }
        }
    }
}
