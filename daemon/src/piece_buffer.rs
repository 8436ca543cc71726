//! Piece buffers: what the payload of pieces lies in between wire and disk, from one bounded pool.
//!
//! Nothing else in the daemon holds payload, so the pool's size is the daemon's. When all is leased, whoever wants to
//! receive or send a piece waits: that is the back-pressure.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use p2p_proto::limit::PIECE_BYTES_MIN;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one pool may lease at once. Two pools (one for fetching, one for serving, so that slow downloaders never
/// keep this daemon's own downloads waiting) and quinn's windows stay below the 64 MiB that a busy daemon may take.
pub const POOL_BYTES: usize = 12 * 1024 * 1024;

/// Bytes of the pool for serving pieces that are larger than the usual ones, beside the two: such a piece may be as large as
/// a whole pool, and who takes it slowly keeps nobody waiting but those who want large ones too.
pub const LARGE_POOL_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the pool for pieces that go to commands, beside those: one of the usual ones for each command that a file is
/// streamed to. Larger ones wait for each other.
pub const STREAM_POOL_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a pooled buffer: the usual piece. Larger pieces get an allocation of their own and pay with several permits.
pub const BUFFER_BYTES: usize = PIECE_BYTES_MIN as usize;

/// Buffers kept when nobody leases them (4 MiB a pool): enough for a transfer in full run, little for an idle daemon.
const SPARE_BUFFERS_MAX: usize = 8;

/// A bounded pool of buffers. Clones share it.
#[derive(Clone)]
pub struct PiecePool {
    permits: Arc<Semaphore>,
    permits_total: u32,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl PiecePool {
    /// A pool that leases at most `bytes` at once, at least one buffer. Allocates nothing yet.
    pub fn new(bytes: usize) -> PiecePool {
        let permits_total = u32::try_from(bytes / BUFFER_BYTES).unwrap_or(u32::MAX).clamp(1, 1 << 20);
        PiecePool { permits: Arc::new(Semaphore::new(permits_total as usize)), permits_total, spare: Arc::default() }
    }

    /// A buffer of exactly `bytes`, as soon as that many are free; in order of asking, so that a large piece is not
    /// starved by small ones. One that exceeds the whole pool is leased alone.
    ///
    /// Holds whatever the last user left in it.
    pub async fn lease(&self, bytes: usize) -> PieceBuffer {
        let wanted = u32::try_from(bytes.div_ceil(BUFFER_BYTES)).unwrap_or(u32::MAX).clamp(1, self.permits_total);
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await;
        let permit = permit.expect("the pool's semaphore is never closed");
        let storage = if bytes > BUFFER_BYTES { None } else { self.lock_spare().pop() };
        let mut storage = storage.unwrap_or_else(|| Vec::with_capacity(bytes.max(BUFFER_BYTES)));
        storage.resize(bytes, 0);
        PieceBuffer { storage, pool: self.clone(), _permit: permit }
    }

    /// Bytes that could be leased now, in whole buffers.
    pub fn free_bytes(&self) -> usize {
        self.permits.available_permits() * BUFFER_BYTES
    }

    fn lock_spare(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leased buffer: returns to its pool when dropped.
pub struct PieceBuffer {
    storage: Vec<u8>,
    pool: PiecePool,
    /// Dropped after [`Drop::drop`] has put the storage back, so that whoever waits finds it there.
    _permit: OwnedSemaphorePermit,
}

impl PieceBuffer {
    /// The buffer's memory, for who lends it to another thread; its length is to be as it was.
    pub fn as_vec_mut(&mut self) -> &mut Vec<u8> {
        &mut self.storage
    }

    /// The buffer as shared bytes, without a copy: it returns to its pool when the last clone is gone, for a piece
    /// being sent when the peer has acknowledged all of it.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for PieceBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage
    }
}

impl DerefMut for PieceBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage
    }
}

impl AsRef<[u8]> for PieceBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PieceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceBuffer({} bytes)", self.storage.len())
    }
}

impl Drop for PieceBuffer {
    fn drop(&mut self) {
        let storage = std::mem::take(&mut self.storage);
        let mut spare = self.pool.lock_spare();
        if storage.capacity() == BUFFER_BYTES && spare.len() < SPARE_BUFFERS_MAX {
            spare.push(storage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn an_empty_pool_makes_the_next_one_wait() {
        let pool = PiecePool::new(2 * BUFFER_BYTES);
        let first = pool.lease(BUFFER_BYTES).await;
        let _second = pool.lease(1).await;
        assert!(pool.lease(1).now_or_never().is_none());
        drop(first);
        assert_eq!(pool.lease(7).now_or_never().expect("a buffer came back").len(), 7);
    }

    #[tokio::test]
    async fn a_buffer_is_used_again_as_it_was_left() {
        let pool = PiecePool::new(BUFFER_BYTES);
        pool.lease(3).await.copy_from_slice(b"abc");
        assert_eq!(&*pool.lease(3).await, b"abc");
    }

    #[tokio::test]
    async fn a_large_piece_takes_several_permits_and_a_giant_one_takes_all() {
        let pool = PiecePool::new(4 * BUFFER_BYTES);
        let large = pool.lease(2 * BUFFER_BYTES + 1).await;
        assert_eq!((large.len(), pool.free_bytes()), (2 * BUFFER_BYTES + 1, BUFFER_BYTES));
        drop(large);
        let giant = pool.lease(64 * BUFFER_BYTES).await;
        assert_eq!((giant.len(), pool.free_bytes()), (64 * BUFFER_BYTES, 0));
        drop(giant);
        assert_eq!(pool.free_bytes(), 4 * BUFFER_BYTES);
        assert!(pool.lock_spare().is_empty(), "only usual buffers are kept");
    }

    #[tokio::test]
    async fn bytes_give_the_buffer_back_with_their_last_clone() {
        let pool = PiecePool::new(BUFFER_BYTES);
        let bytes = pool.lease(5).await.into_bytes();
        let rest = bytes.slice(2..);
        drop(bytes);
        assert_eq!(pool.free_bytes(), 0);
        drop(rest);
        assert_eq!(pool.free_bytes(), BUFFER_BYTES);
    }
}
