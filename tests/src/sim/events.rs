//! What will happen in a simulated world: ordered by time, and then by when it was put there.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::ContentId;
use p2pd::engine::Input;
use p2pd::engine::input::UploadId;

/// What happens at some moment.
pub(super) enum Event {
    /// A node's engine is told something, in that life of the node.
    Tell(usize, u32, Box<Input>),
    /// A node's engine asked to be woken.
    Wake(usize),
    /// A node's uplink can take more.
    Uplink(usize),
    /// The last byte of a piece that a node sends has come.
    Arrive(usize, UploadId),
    /// A node hears that a piece it sends is no longer wanted.
    Unwanted(usize, UploadId),
    /// A request to a node was answered by nothing for too long.
    Silence(usize, UploadId),
    /// A piece that a node wrote, in that life of it, is on disk.
    Sync(usize, u32, ContentId, PieceIndex),
}

/// The queue of events.
#[derive(Default)]
pub(super) struct Events {
    queue: BinaryHeap<Due>,
    next_number: u64,
}

impl Events {
    /// Something happens at a moment.
    pub fn put(&mut self, at: Duration, event: Event) {
        self.queue.push(Due { at, number: self.next_number, event });
        self.next_number += 1;
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Duration> {
        self.queue.peek().map(|due| due.at)
    }

    /// Takes out what happens next, and when it does.
    pub fn next(&mut self) -> Option<(Duration, Event)> {
        self.queue.pop().map(|due| (due.at, due.event))
    }
}

/// An event and when it happens; the order of the queue is by that moment, then by the number: the least is the greatest,
/// as the heap wants it.
struct Due {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
