//! Flights: work that several callers share while it is under way, and that none of them can cancel.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::error::PullCause;

/// The outcome of a flight, shared by all who waited for it.
pub(super) type Outcome<V> = Result<V, Arc<PullCause>>;

/// The flights under way, at most `flights_max`, by what they are for.
pub(super) struct Flights<K, V> {
    open: Arc<Open<K, V>>,
    flights_max: usize,
}

type Open<K, V> = Mutex<HashMap<K, Shared<BoxFuture<'static, Outcome<V>>>>>;

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(flights_max: usize) -> Self {
        Self {
            open: Arc::default(),
            flights_max,
        }
    }

    /// Joins the flight for `key`, or starts `work` as one, in a task of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future leaves the flight alone: it ends by itself, so `work` has to be bounded.
    pub(super) fn join<F>(&self, key: K, work: F) -> BoxFuture<'static, Outcome<V>>
    where
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut open = lock(&self.open);
        if let Some(flight) = open.get(&key) {
            return flight.clone().boxed();
        }
        if open.len() >= self.flights_max {
            let busy = Err(Arc::new(PullCause::Busy(self.flights_max)));
            return std::future::ready(busy).boxed();
        }
        // The lock is held until the flight is in the map, so that its landing cannot come before.
        let landing = Landing {
            open: self.open.clone(),
            key: key.clone(),
        };
        let task = tokio::spawn(async move {
            let _landing = landing;
            work.await
        });
        let aborted = |_| Err(Arc::new(PullCause::Aborted));
        let flight = task
            .map(move |ended| ended.unwrap_or_else(aborted))
            .boxed()
            .shared();
        open.insert(key, flight.clone());
        flight.boxed()
    }
}

/// Takes the flight out of the map when it ends, a panic included.
struct Landing<K: Eq + Hash, V> {
    open: Arc<Open<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let landed = lock(&self.open).remove(&self.key);
        // Dropped after the lock is gone: it may hold the outcome, an image.
        drop(landed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn callers_share_a_flight_and_a_dropped_caller_does_not_end_it() {
        let flights = Flights::<&str, usize>::new(2);
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (runs, gate) = (runs.clone(), gate.clone());
            async move {
                gate.notified().await;
                Ok(runs.fetch_add(1, Ordering::SeqCst) + 1)
            }
        };
        drop(flights.join("a", work()));
        let joined = flights.join("a", work());
        gate.notify_one();
        assert_eq!(joined.await.unwrap(), 1);

        gate.notify_one();
        assert_eq!(
            flights.join("a", work()).await.unwrap(),
            2,
            "a landed flight is over"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_the_number_of_flights_is_bounded() {
        let flights = Flights::<u8, ()>::new(1);
        let panicking = flights.join(1, async { panic!("as the test wants") });
        let refused = flights.join(2, async { Ok(()) }).await.unwrap_err();
        assert!(matches!(*refused, PullCause::Busy(1)));
        assert!(matches!(*panicking.await.unwrap_err(), PullCause::Aborted));
        flights.join(2, async { Ok(()) }).await.unwrap();
    }
}
