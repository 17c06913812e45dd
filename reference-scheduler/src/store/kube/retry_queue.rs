//! Queue of keys to reconcile: deduplicated, and retried with backoff after a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;

use super::error::ApiError;

/// Maximum number of keys in progress: enough that one slow response delays no other key, few
/// enough not to overload the API server.
const CONCURRENCY: usize = 8;

/// Backoff after the first failure, doubled after every further failure.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest backoff.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The queue; see the module.
pub(super) struct RetryQueue<K> {
    state: Mutex<State<K>>,
    enqueued: Notify,
}

struct State<K> {
    due: BTreeSet<K>,
    /// Keys being reconciled. A key that is enqueued again waits until its reconciliation has
    /// ended.
    in_progress: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
}

impl<K> Default for RetryQueue<K> {
    fn default() -> Self {
        let state = State {
            due: BTreeSet::new(),
            in_progress: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Self {
            state: Mutex::new(state),
            enqueued: Notify::new(),
        }
    }
}

impl<K: Ord + Clone + std::fmt::Debug> RetryQueue<K> {
    /// Enqueues a key.
    pub(super) fn enqueue(&self, key: K) {
        self.lock().due.insert(key);
        self.enqueued.notify_one();
    }

    /// Reconciles keys in an endless loop. If the future is dropped, the keys in progress are due
    /// again when `run` is called again.
    pub(super) async fn run<F>(&self, reconcile: impl Fn(K) -> F)
    where
        F: Future<Output = Result<(), ApiError>>,
    {
        self.requeue_unfinished();
        let mut running = FuturesUnordered::new();
        let mut backing_off = FuturesUnordered::new();
        loop {
            while running.len() < CONCURRENCY
                && let Some(key) = self.next()
            {
                let task = reconcile(key.clone());
                running.push(async move { (key, task.await) });
            }
            tokio::select! {
                () = self.enqueued.notified() => {}
                Some((key, result)) = running.next() => {
                    if let Some(backoff) = self.finish(&key, result.is_ok()) {
                        if let Err(error) = result {
                            tracing::debug!(?key, %error, ?backoff, "retrying after a failure");
                        }
                        backing_off.push(async move {
                            tokio::time::sleep(backoff).await;
                            key
                        });
                    }
                }
                Some(key) = backing_off.next() => self.enqueue(key),
            }
        }
    }

    fn next(&self) -> Option<K> {
        let mut state = self.lock();
        let key = state
            .due
            .iter()
            .find(|key| !state.in_progress.contains(*key))?
            .clone();
        state.due.remove(&key);
        state.in_progress.insert(key.clone());
        Some(key)
    }

    /// Records that the reconciliation of a key has ended. After a failure, returns the backoff
    /// until the key is due again.
    fn finish(&self, key: &K, is_ok: bool) -> Option<Duration> {
        let mut state = self.lock();
        state.in_progress.remove(key);
        if is_ok {
            state.failures.remove(key);
            return None;
        }
        let failures = state.failures.entry(key.clone()).or_default();
        let backoff = BACKOFF_MIN
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        Some(backoff)
    }

    fn requeue_unfinished(&self) {
        let mut state = self.lock();
        let mut unfinished = std::mem::take(&mut state.in_progress);
        unfinished.extend(std::mem::take(&mut state.failures).into_keys());
        state.due.append(&mut unfinished);
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn key_is_never_in_progress_twice() {
        let (succeeded, failed) = (true, false);
        let queue = RetryQueue::default();
        queue.enqueue("a");
        queue.enqueue("a");
        assert_eq!(queue.next(), Some("a"));
        assert_eq!(queue.next(), None);
        queue.enqueue("a");
        assert_eq!(queue.next(), None, "while it is in progress");
        assert_eq!(queue.finish(&"a", succeeded), None);
        assert_eq!(queue.next(), Some("a"));
        assert_eq!(queue.finish(&"a", failed), Some(BACKOFF_MIN));
        assert_eq!(queue.finish(&"a", failed), Some(BACKOFF_MIN * 2));
        assert!((0..40).all(|_| queue.finish(&"a", failed) <= Some(BACKOFF_MAX)));
    }

    #[tokio::test]
    async fn retries_failed_key_until_success() {
        let (queue, tries) = (
            Arc::new(RetryQueue::default()),
            Arc::new(AtomicUsize::new(0)),
        );
        queue.enqueue(1);
        let done = Notify::new();
        let work = queue.run(|_| async {
            if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(ApiError::NoResponse("not yet".to_owned()));
            }
            done.notify_one();
            Ok(())
        });
        tokio::select! {
            () = work => {}
            () = done.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("the key was not retried"),
        }
        assert_eq!(tries.load(Ordering::Relaxed), 3);
    }
}
