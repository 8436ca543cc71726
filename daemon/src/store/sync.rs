//! The syncer: a thread that makes written pieces durable, in the order data → sync → journal, many at a time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::HaveMap;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::StoreEvent;
use super::error::StoreError;
use super::journal::Journal;
use super::part::Part;

/// A file with this many unsynced bytes is synced at once: enough for a disk to write in long runs, little enough to be
/// hashed again in a tenth of a second after a crash.
const UNSYNCED_BYTES_DUE: u64 = 64 * 1024 * 1024;

/// Unsynced pieces of a slow download wait this long: a sync costs a disk some 10 ms, so that a hundred slow
/// downloads do not keep it from anything else, and half a second is all that they lose in a power cut.
const UNSYNCED_AGE_DUE: Duration = Duration::from_millis(500);

/// Bytes that all files together may have unsynced. A writer waits here for a disk that is slower than the network.
const UNSYNCED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that one permit of the budget stands for.
const BUDGET_UNIT_BYTES: u64 = 1024;

/// The syncer's handle; dropping it ends the thread without syncing.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    budget: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Queue {
    dirty: Vec<Arc<Part>>,
    flushes: Vec<Flush>,
    stop: Option<Stop>,
    /// Nothing is due but what is flushed.
    #[cfg(test)]
    held: bool,
}

/// Somebody waits until a part has no unsynced pieces.
#[derive(Debug)]
struct Flush {
    part: Arc<Part>,
    told: oneshot::Sender<Result<(), Reject>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Sync everything first.
    Sync,
    /// At once.
    Abandon,
}

impl Syncer {
    /// Starts the thread.
    pub(super) fn start(journal: Arc<Journal>, events: UnboundedSender<StoreEvent>) -> Result<Syncer, StoreError> {
        let permits = (UNSYNCED_BYTES_MAX / BUDGET_UNIT_BYTES) as usize;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            budget: Arc::new(Semaphore::new(permits)),
        });
        let work = Worker { shared: Arc::clone(&shared), journal, events };
        let thread = std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(StoreError::Thread)?;
        Ok(Syncer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Waits until `bytes` more may be unsynced. The permit goes into [`Syncer::written`].
    pub(super) async fn room_for(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Reject> {
        let acquired = Arc::clone(&self.shared.budget).acquire_many_owned(units(bytes)).await;
        acquired.map_err(|_| Reject::new(ErrorCode::WRONG_STATE, "the store is shut down"))
    }

    /// A piece was written to `part`. Its room comes back when the part is synced, unless it was not a new piece.
    pub(super) fn written(&self, part: &Arc<Part>, room: OwnedSemaphorePermit, is_new: bool) {
        if is_new {
            room.forget();
        }
        let mut state = part.state();
        let newly_queued = !state.queued && !state.unsynced.is_empty();
        state.queued |= newly_queued;
        drop(state);
        if newly_queued {
            self.shared.queue().dirty.push(Arc::clone(part));
        }
        if newly_queued || part_is_due(part, Instant::now()) {
            let _queue = self.shared.queue();
            self.shared.wake.notify_one();
        }
    }

    /// Syncs a part now; the answer comes when all that was written is durable.
    pub(super) fn flush(&self, part: &Arc<Part>) -> oneshot::Receiver<Result<(), Reject>> {
        let (told, answer) = oneshot::channel();
        self.shared.queue().flushes.push(Flush { part: Arc::clone(part), told });
        self.shared.wake.notify_one();
        answer
    }

    /// Syncs everything and ends the thread. Blocks.
    pub(super) fn finish(&self) {
        self.stop(Stop::Sync);
    }

    /// From now on nothing is synced by itself: what a crash finds unsynced is the test's choice.
    #[cfg(test)]
    pub(super) fn hold(&self) {
        self.shared.queue().held = true;
    }

    fn stop(&self, stop: Stop) {
        self.shared.budget.close();
        self.shared.queue().stop.get_or_insert(stop);
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the syncer panicked");
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop(Stop::Abandon);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread works with.
struct Worker {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    events: UnboundedSender<StoreEvent>,
}

/// Pieces of one part whose data is synced.
struct Synced {
    part: Arc<Part>,
    pieces: Vec<PieceIndex>,
    bytes: u64,
    durable: HaveMap,
}

impl Worker {
    fn run(self) {
        while let Some((parts, flushes)) = self.next_work() {
            self.sync(parts);
            for Flush { part, told } in flushes {
                let ended = part.state().ended.clone();
                let _ = told.send(ended.map_or(Ok(()), Err));
            }
        }
    }

    /// Waits for parts that are due.
    fn next_work(&self) -> Option<(Vec<Arc<Part>>, Vec<Flush>)> {
        let mut queue = self.shared.queue();
        loop {
            if queue.stop == Some(Stop::Abandon) {
                return None;
            }
            let now = Instant::now();
            let stopping = queue.stop == Some(Stop::Sync);
            #[cfg(test)]
            let held = queue.held;
            #[cfg(not(test))]
            let held = false;
            let flushes = std::mem::take(&mut queue.flushes);
            let flushed = |part: &Arc<Part>| flushes.iter().any(|flush| Arc::ptr_eq(&flush.part, part));
            queue.dirty.retain(|part| !flushed(part));
            let (mut due, later) = std::mem::take(&mut queue.dirty)
                .into_iter()
                .partition::<Vec<_>, _>(|part| stopping || (!held && part_is_due(part, now)));
            queue.dirty = later;
            due.extend(flushes.iter().map(|flush| Arc::clone(&flush.part)));
            if !due.is_empty() || !flushes.is_empty() {
                return Some((due, flushes));
            }
            if stopping {
                return None;
            }
            let next = queue.dirty.iter().filter(|_| !held).filter_map(|part| part.state().unsynced_since).min();
            queue = match next {
                Some(since) => {
                    let wait = (since + UNSYNCED_AGE_DUE).saturating_duration_since(now);
                    self.shared.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Syncs the data of each part, then marks the pieces of all in one transaction, then tells.
    fn sync(&self, parts: Vec<Arc<Part>>) {
        let synced: Vec<Synced> = parts.iter().filter_map(|part| self.sync_data(part)).collect();
        if synced.is_empty() {
            return;
        }
        let marks: Vec<_> = synced.iter().map(|one| (one.part.download, one.durable.bits().to_vec())).collect();
        let marked = self.journal.mark(&marks);
        for Synced { part, pieces, bytes, durable } in synced {
            match &marked {
                Ok(()) => {
                    part.state().durable = durable;
                    self.tell(&part, StoreEvent::PiecesDurable(part.download, pieces));
                }
                Err(reason) => self.fail(&part, reason.clone()),
            }
            self.give_back(bytes);
        }
    }

    /// Syncs one part's data. Pieces written while this goes on are left for the next time.
    fn sync_data(&self, part: &Arc<Part>) -> Option<Synced> {
        let mut state = part.state();
        state.queued = false;
        state.unsynced_since = None;
        let bytes = std::mem::take(&mut state.unsynced_bytes);
        let pieces = std::mem::take(&mut state.unsynced);
        let mut durable = state.durable.clone();
        let ended = state.ended.is_some();
        drop(state);
        if ended || pieces.is_empty() {
            self.give_back(bytes);
            return None;
        }
        if let Err(error) = part.sync_data() {
            self.give_back(bytes);
            self.fail(part, part.error("sync", &error));
            return None;
        }
        pieces.iter().for_each(|piece| {
            durable.insert(*piece);
        });
        Some(Synced { part: Arc::clone(part), pieces, bytes, durable })
    }

    /// What was written since the last good sync is not believed any more: after an error the kernel may have dropped
    /// it, and a second sync would not say so.
    fn fail(&self, part: &Arc<Part>, reason: Reject) {
        tracing::warn!(path = %part.destination.display(), %reason, "syncing failed");
        let mut state = part.state();
        state.written = state.durable.clone();
        state.ended.get_or_insert(reason.clone());
        drop(state);
        self.tell(part, StoreEvent::SyncFailed(part.download, reason));
    }

    fn tell(&self, part: &Part, event: StoreEvent) {
        if part.told {
            let _ = self.events.send(event);
        }
    }

    fn give_back(&self, bytes: u64) {
        // Rounded as when it was taken: whole pieces are multiples of the unit, the last one of a file is taken alone.
        self.shared.budget.add_permits(units(bytes) as usize);
    }
}

/// Whether a part's unsynced pieces should wait no longer: they are many, old, or the last ones of the file.
fn part_is_due(part: &Part, now: Instant) -> bool {
    let state = part.state();
    let old = state.unsynced_since.is_some_and(|since| now.saturating_duration_since(since) >= UNSYNCED_AGE_DUE);
    old || state.unsynced_bytes >= UNSYNCED_BYTES_DUE || (state.written.is_full() && state.unsynced_bytes > 0)
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX)
}
