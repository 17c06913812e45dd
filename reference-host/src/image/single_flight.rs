//! Single flight: concurrent callers share one call, and none of them can cancel it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use tokio::time::Instant;

use super::deadline::Deadline;
use super::error::PullCause;

/// Result of a call, shared by all its callers.
pub(super) type SharedResult<V> = Result<V, Arc<PullCause>>;

/// Calls in progress by key, at most `calls_max`.
pub(super) struct SingleFlight<K, V> {
    calls: Arc<Calls<K, V>>,
    calls_max: usize,
}

type Calls<K, V> = Mutex<HashMap<K, Call<V>>>;

/// A call in progress, and its deadline: the latest of its callers.
struct Call<V> {
    result: Shared<BoxFuture<'static, SharedResult<V>>>,
    deadline: Deadline,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(calls_max: usize) -> Self {
        Self {
            calls: Arc::default(),
            calls_max,
        }
    }

    /// Joins the call in progress for `key` and extends its deadline, or starts a new call, which
    /// runs `work` in its own task. `work` must end at the deadline that it receives.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future does not cancel the call.
    pub(super) fn join<W, F>(
        &self,
        key: K,
        deadline: Instant,
        work: W,
    ) -> BoxFuture<'static, SharedResult<V>>
    where
        W: FnOnce(Deadline) -> F,
        F: Future<Output = SharedResult<V>> + Send + 'static,
    {
        let mut calls = lock(&self.calls);
        if let Some(call) = calls.get(&key) {
            call.deadline.extend(deadline);
            return call.result.clone().boxed();
        }
        if calls.len() >= self.calls_max {
            let refused = Err(Arc::new(PullCause::TooManyPulls(self.calls_max)));
            return std::future::ready(refused).boxed();
        }
        // Holds the lock until the call is in the map, so that its removal cannot come first.
        let removal = RemoveOnDrop {
            calls: self.calls.clone(),
            key: key.clone(),
        };
        let deadline = Deadline::at(deadline);
        let work = work(deadline.clone());
        let task = tokio::spawn(async move {
            let _removal = removal;
            work.await
        });
        let aborted = |_| Err(Arc::new(PullCause::Aborted));
        let result = task
            .map(move |joined| joined.unwrap_or_else(aborted))
            .boxed()
            .shared();
        let call = Call {
            result: result.clone(),
            deadline,
        };
        calls.insert(key, call);
        result.boxed()
    }
}

/// Removes the call from the map when it ends, even by a panic.
struct RemoveOnDrop<K: Eq + Hash, V> {
    calls: Arc<Calls<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for RemoveOnDrop<K, V> {
    fn drop(&mut self) {
        let removed = lock(&self.calls).remove(&self.key);
        // Dropped after the lock is released, because it may hold a whole image.
        drop(removed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn callers_share_a_call_and_dropping_one_does_not_cancel_it() {
        let single_flight = SingleFlight::<&str, usize>::new(2);
        let (runs, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (runs, release) = (runs.clone(), release.clone());
            move |_: Deadline| async move {
                release.notified().await;
                Ok(runs.fetch_add(1, Ordering::SeqCst) + 1)
            }
        };
        let later = Instant::now() + Duration::from_secs(60);
        drop(single_flight.join("a", later, work()));
        let joined = single_flight.join("a", later, work());
        release.notify_one();
        assert_eq!(joined.await.unwrap(), 1);

        release.notify_one();
        assert_eq!(
            single_flight.join("a", later, work()).await.unwrap(),
            2,
            "a finished call is not shared"
        );
    }

    #[tokio::test]
    async fn reports_panics_and_bounds_the_number_of_calls() {
        let later = Instant::now() + Duration::from_secs(60);
        let single_flight = SingleFlight::<u8, ()>::new(1);
        let panicking = single_flight.join(1, later, async |_| panic!("intended by the test"));
        let refused = single_flight
            .join(2, later, async |_| Ok(()))
            .await
            .unwrap_err();
        assert!(matches!(*refused, PullCause::TooManyPulls(1)));
        assert!(matches!(*panicking.await.unwrap_err(), PullCause::Aborted));
        single_flight
            .join(2, later, async |_| Ok(()))
            .await
            .unwrap();
    }
}
