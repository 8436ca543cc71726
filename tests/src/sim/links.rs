//! Links: what a node can send and receive at once, and how the pieces on their way share it.
//!
//! Pieces travel in chunks. An uplink serves its connections in turn, a chunk each, and the pieces of one connection one
//! after the other, as `p2pd` has QUIC do. A chunk is sent only when the receiver's downlink has little left to take: the
//! congestion control is an ideal one, which fills every link and no queue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2pd::engine::Input;
use p2pd::engine::input::{ConnectionId, UploadId};

use super::{Event, World};

/// Bytes that share a link in turn: an eighth of the smallest piece.
const CHUNK_BYTES: u64 = 64 * 1024;

/// Bytes in one packet: what is lost at once.
const PACKET_BYTES: u64 = 1_200;

/// How much may wait for a downlink, in chunks: two keep it busy.
const DOWNLINK_CHUNKS: u32 = 2;

/// A node's way into the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Bytes per second that it can send, over all peers.
    pub up_rate: u64,
    /// Bytes per second that it can receive, over all peers.
    pub down_rate: u64,
}

impl Link {
    /// As fast in both directions.
    pub fn both(rate: u64) -> Link {
        Link { up_rate: rate, down_rate: rate }
    }
}

/// What lies between any two nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// One way.
    pub delay: Duration,
    /// Share of the packets that are lost, from 0 to below 1: each is sent again a round trip later.
    pub loss: f64,
}

impl Default for Path {
    fn default() -> Path {
        Path { delay: Duration::from_millis(5), loss: 0.0 }
    }
}

/// A piece on its way.
struct Flow {
    upload: UploadId,
    to: usize,
    left_bytes: u64,
    sent_bytes: u64,
    /// When the last byte of what was sent arrives.
    arrives_at: Duration,
}

/// What a node sends.
#[derive(Default)]
pub(super) struct Uplink {
    flows: BTreeMap<ConnectionId, VecDeque<Flow>>,
    /// Connections that have something to send, the next one first.
    turns: VecDeque<ConnectionId>,
    /// When it has sent what it was given.
    free_at: Duration,
    /// When it is looked at again.
    wake_at: Option<Duration>,
}

/// What a node receives.
#[derive(Default)]
pub(super) struct Downlink {
    /// When it has taken what is on its way.
    free_at: Duration,
    /// Nodes that wait for it to take more, the longest first: they take turns.
    waiting: VecDeque<usize>,
}

impl World {
    /// Begins to send a piece over a connection.
    pub(super) fn send(&mut self, place: usize, connection: ConnectionId, upload: UploadId, to: usize, bytes: u64) {
        let uplink = &mut self.nodes[place].uplink;
        let queue = uplink.flows.entry(connection).or_default();
        if queue.is_empty() {
            uplink.turns.push_back(connection);
        }
        queue.push_back(Flow { upload, to, left_bytes: bytes, sent_bytes: 0, arrives_at: self.now });
        self.wake_uplink(place, self.now);
    }

    /// Stops sending a piece; the bytes of it that were sent, if it was being sent.
    pub(super) fn stop_sending(&mut self, place: usize, connection: ConnectionId, upload: UploadId) -> Option<u64> {
        let uplink = &mut self.nodes[place].uplink;
        let queue = uplink.flows.get_mut(&connection)?;
        let at = queue.iter().position(|flow| flow.upload == upload)?;
        let stopped = queue.remove(at)?;
        self.forget_if_empty(place, connection, stopped.to);
        Some(stopped.sent_bytes)
    }

    /// Takes a connection out of an uplink's turns when nothing is left to send on it.
    fn forget_if_empty(&mut self, place: usize, connection: ConnectionId, to: usize) {
        let uplink = &mut self.nodes[place].uplink;
        if uplink.flows.get(&connection).is_some_and(VecDeque::is_empty) {
            uplink.flows.remove(&connection);
            uplink.turns.retain(|turn| *turn != connection);
            self.nodes[to].downlink.waiting.retain(|waiting| *waiting != place);
        }
    }

    pub(super) fn uplink_due(&mut self, place: usize) {
        let due = self.nodes[place].uplink.wake_at.is_some_and(|at| at <= self.now);
        if due {
            self.nodes[place].uplink.wake_at = None;
            self.pump(place);
        }
    }

    /// Sends the next chunk, or waits until a receiver can take one.
    fn pump(&mut self, place: usize) {
        let now = self.now;
        if self.nodes[place].uplink.free_at > now {
            return self.wake_uplink(place, self.nodes[place].uplink.free_at);
        }
        let mut look_again_at = None::<Duration>;
        for _ in 0..self.nodes[place].uplink.turns.len() {
            let uplink = &mut self.nodes[place].uplink;
            let Some(connection) = uplink.turns.pop_front() else { return };
            uplink.turns.push_back(connection);
            let Some(flow) = uplink.flows.get(&connection).and_then(VecDeque::front) else { continue };
            let (to, chunk) = (flow.to, flow.left_bytes.min(CHUNK_BYTES));
            let Some(at) = self.room_at(place, to) else {
                return self.send_chunk(place, connection, to, chunk);
            };
            look_again_at = Some(look_again_at.map_or(at, |earliest| earliest.min(at)));
            let waiting = &mut self.nodes[to].downlink.waiting;
            if !waiting.contains(&place) {
                waiting.push_back(place);
            }
        }
        if let Some(at) = look_again_at {
            self.wake_uplink(place, at);
        }
    }

    /// When a downlink may have room for a chunk of this node's; `None` for now.
    fn room_at(&self, place: usize, to: usize) -> Option<Duration> {
        let receiver = &self.nodes[to];
        let chunk_span = span(CHUNK_BYTES, receiver.link.down_rate);
        let at = receiver.downlink.free_at.saturating_sub(self.path.delay + chunk_span * DOWNLINK_CHUNKS);
        if at > self.now {
            return Some(at);
        }
        let mut before = receiver.downlink.waiting.iter().take_while(|waiting| **waiting != place);
        let taken = before.any(|waiting| self.nodes[*waiting].uplink.free_at <= self.now);
        taken.then(|| self.now + chunk_span / 4)
    }

    fn send_chunk(&mut self, place: usize, connection: ConnectionId, to: usize, chunk: u64) {
        let Path { delay, loss } = self.path;
        // What is lost is sent again, so that every byte takes its place more than once.
        let on_link = (chunk as f64 / (1.0 - loss)) as u64;
        let whole = (1.0 - loss).powf(chunk.div_ceil(PACKET_BYTES) as f64);
        let repeated = if self.random.f64() < whole { Duration::ZERO } else { 2 * delay };
        let downlink_span = span(on_link, self.nodes[to].link.down_rate);
        let uplink_span = span(on_link, self.nodes[place].up_rate());
        let sent_at = self.now + uplink_span;
        let downlink = &mut self.nodes[to].downlink;
        downlink.waiting.retain(|waiting| *waiting != place);
        // A slow sender's chunk comes in bit by bit, and leaves room for others meanwhile.
        downlink.free_at = (self.now + delay).max(downlink.free_at) + downlink_span;
        let arrives_at = downlink.free_at.max(sent_at + delay) + repeated;
        let node = &mut self.nodes[place];
        node.served_bytes += chunk;
        node.uplink.free_at = sent_at;
        let Some(queue) = node.uplink.flows.get_mut(&connection) else { return };
        let Some(flow) = queue.front_mut() else { return };
        flow.left_bytes -= chunk;
        flow.sent_bytes += chunk;
        flow.arrives_at = flow.arrives_at.max(arrives_at);
        if flow.left_bytes == 0 {
            let (upload, arrives_at, sent_bytes) = (flow.upload, flow.arrives_at, flow.sent_bytes);
            queue.pop_front();
            self.forget_if_empty(place, connection, to);
            self.put(arrives_at, Event::Arrive(place, upload));
            self.tell(place, arrives_at + delay - self.now, Input::UploadEnded(upload, sent_bytes));
        }
        self.wake_uplink(place, sent_at);
    }

    fn wake_uplink(&mut self, place: usize, at: Duration) {
        let uplink = &mut self.nodes[place].uplink;
        if uplink.wake_at.is_none_or(|set| at < set) {
            uplink.wake_at = Some(at);
            self.put(at, Event::Uplink(place));
        }
    }
}

/// How long `bytes` take at `rate` bytes per second.
fn span(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))).unwrap_or(u64::MAX))
}
