//! The memory of all guests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the linear memories of all guests may have together. Clones share them.
#[derive(Clone, Debug)]
pub struct MemoryPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

/// The part of the pool that one instance uses, returned to the pool when dropped.
#[derive(Debug)]
pub struct MemoryShare {
    pool: MemoryPool,
    bytes: usize,
}

impl MemoryPool {
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit_bytes,
                used_bytes: AtomicUsize::new(0),
            }),
        }
    }

    /// Returns an empty share.
    pub fn share(&self) -> MemoryShare {
        MemoryShare {
            pool: self.clone(),
            bytes: 0,
        }
    }
}

impl MemoryShare {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows the share, unless the pool has too little left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Shared {
            limit_bytes,
            used_bytes,
        } = &*self.pool.shared;
        let grown = used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| used <= limit_bytes)
        });
        if grown.is_ok() {
            self.bytes += bytes;
        }
        grown.is_ok()
    }

    /// Shrinks the share, after a growth that failed for another reason.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool
            .shared
            .used_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_stay_within_the_limit() {
        let pool = MemoryPool::new(10);
        let (mut one, mut two) = (pool.share(), pool.share());
        assert!(one.grow(6) && !two.grow(5) && two.grow(4));
        assert!(!one.grow(usize::MAX));
        drop(one);
        assert!(two.grow(6) && !two.grow(1));
        two.shrink(6);
        assert_eq!(two.bytes(), 4);
        assert!(pool.share().grow(6));
    }
}
