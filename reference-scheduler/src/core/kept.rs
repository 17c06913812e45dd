//! One object as the store is known to keep it, with the one write that may be under way.

use std::sync::Arc;
use std::time::Duration;

use super::{WriteError, WriteId};
use crate::api::Metadata;

/// The longest that a write waits after failures.
const WRITE_RETRY_MAX: Duration = Duration::from_secs(30);

/// After how many failures in a row a write is not counted on any longer.
const FAILING: u32 = 5;

/// An object and its write. What a write returned counts at once; what the watch tells late is known by
/// its version and passed over.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// None until it is created.
    pub object: Option<Arc<T>>,
    in_flight: Option<WriteId>,
    failures: u32,
    retry_at: Duration,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            object: None,
            in_flight: None,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }
}

impl<T> Kept<T> {
    /// Takes in what the store tells; says whether that was new.
    pub fn accept(&mut self, object: Arc<T>, metadata: fn(&T) -> &Metadata) -> bool {
        let fresh = self.object.as_deref().is_none_or(|known| {
            let known = version(metadata(known));
            let told = version(metadata(&object));
            !matches!((known, told), (Some(known), Some(told)) if told <= known)
        });
        if fresh {
            self.object = Some(object);
        }
        fresh
    }

    /// Whether what the store tells is of before what is known here: of an earlier object of this name, told late.
    pub fn outdates(&self, told: &Metadata, metadata: fn(&T) -> &Metadata) -> bool {
        let known = self.object.as_deref().map(metadata).and_then(version);
        matches!((known, version(told)), (Some(known), Some(told)) if told < known)
    }

    /// Whether a write may begin.
    pub fn is_free(&self, now: Duration) -> bool {
        self.in_flight.is_none() && now >= self.retry_at
    }

    /// When a write may begin that may not now; nothing while one is under way, whose end will tell.
    pub fn free_at(&self, now: Duration) -> Option<Duration> {
        (self.in_flight.is_none() && now < self.retry_at).then_some(self.retry_at)
    }

    /// Whether the store has refused or failed several times in a row.
    pub fn is_failing(&self) -> bool {
        self.failures >= FAILING
    }

    /// Whether this write is under way.
    pub fn is_writing(&self, write_id: WriteId) -> bool {
        self.in_flight == Some(write_id)
    }

    pub fn begin(&mut self, write_id: WriteId) {
        self.in_flight = Some(write_id);
    }

    /// Takes note of the end of a write.
    pub fn end(&mut self, now: Duration, first_retry: Duration, error: Option<&WriteError>) {
        self.in_flight = None;
        match error {
            None => (self.failures, self.retry_at) = (0, Duration::ZERO),
            Some(_) => {
                let pause = first_retry.saturating_mul(1 << self.failures.min(10));
                self.retry_at = now + pause.min(WRITE_RETRY_MAX);
                self.failures += 1;
            }
        }
    }
}

/// The version as a number, which it is in every store there is, whatever the rules say.
fn version(metadata: &Metadata) -> Option<u64> {
    metadata.resource_version.parse().ok()
}
