//! One object as last read from the store, with its write in flight. Times are durations since an
//! arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use super::{StoreError, WriteId};
use crate::api::{Metadata, Object};

/// Maximum backoff of a failed write.
const WRITE_RETRY_MAX: Duration = Duration::from_secs(30);

/// Consecutive failures after which writes of the object count as failing.
const FAILING_AFTER: u32 = 5;

/// An object and its write in flight. The result of a write is cached at once; a late watch event
/// is recognized by its version and ignored.
#[derive(Debug)]
pub(super) struct CachedObject<T> {
    /// The object; `None` until the store has created it.
    pub object: Option<Arc<T>>,
    in_flight: Option<WriteId>,
    failures: u32,
    retry_at: Duration,
}

impl<T> Default for CachedObject<T> {
    fn default() -> Self {
        Self {
            object: None,
            in_flight: None,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }
}

impl<T> CachedObject<T> {
    /// Caches an object from the store if it is newer than the cached object, and returns whether
    /// it is newer.
    pub fn accept(&mut self, object: Arc<T>, metadata: fn(&T) -> &Metadata) -> bool {
        let is_newer = self.object.as_deref().is_none_or(|cached| {
            let cached = version(metadata(cached));
            let received = version(metadata(&object));
            !matches!((cached, received), (Some(cached), Some(received)) if received <= cached)
        });
        if is_newer {
            self.object = Some(object);
        }
        is_newer
    }

    /// Returns whether `received` is stale, for example from a late event for a deleted object with
    /// the same name.
    pub fn is_stale(&self, received: &Metadata, metadata: fn(&T) -> &Metadata) -> bool {
        let cached = self.object.as_deref().map(metadata).and_then(version);
        let received = version(received);
        matches!((cached, received), (Some(cached), Some(received)) if received < cached)
    }

    /// Returns whether a write may start now.
    pub fn can_write(&self, now: Duration) -> bool {
        self.in_flight.is_none() && now >= self.retry_at
    }

    /// Returns when the backoff ends, or `None` if a write may start now or is in flight.
    pub fn next_write_at(&self, now: Duration) -> Option<Duration> {
        (self.in_flight.is_none() && now < self.retry_at).then_some(self.retry_at)
    }

    /// Returns whether several consecutive writes have failed.
    pub fn is_failing(&self) -> bool {
        self.failures >= FAILING_AFTER
    }

    /// Returns the object of the write in flight, if the store has created it and the previous
    /// write did not fail.
    pub fn refused_object(&self, wrap: fn(Arc<T>) -> Object) -> Option<Object> {
        self.object.clone().filter(|_| self.failures == 0).map(wrap)
    }

    /// Returns whether this write is in flight.
    pub fn is_writing(&self, write_id: WriteId) -> bool {
        self.in_flight == Some(write_id)
    }

    pub fn begin_write(&mut self, write_id: WriteId) {
        self.in_flight = Some(write_id);
    }

    /// Records the end of a write.
    pub fn end_write(&mut self, now: Duration, first_retry: Duration, error: Option<&StoreError>) {
        self.in_flight = None;
        match error {
            None => (self.failures, self.retry_at) = (0, Duration::ZERO),
            Some(_) => {
                let delay = first_retry.saturating_mul(1 << self.failures.min(10));
                self.retry_at = now + delay.min(WRITE_RETRY_MAX);
                self.failures += 1;
            }
        }
    }
}

/// Returns the version as a number. By the API conventions a version is opaque, but in every
/// existing store it is a counter.
fn version(metadata: &Metadata) -> Option<u64> {
    metadata.resource_version.parse().ok()
}
