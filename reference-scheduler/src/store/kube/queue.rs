//! Keys of what has to be looked at: each once, however often it is added, and again after a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;

use super::error::Failure;

/// How many keys are looked at together: enough that one slow answer delays no other key, few enough
/// to leave the API server to others.
const TOGETHER: usize = 8;

/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Queue<K> {
    state: Mutex<State<K>>,
    added: Notify,
}

struct State<K> {
    due: BTreeSet<K>,
    /// Being looked at; one that is added meanwhile waits until that has ended.
    busy: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            due: BTreeSet::new(),
            busy: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Self {
            state: Mutex::new(state),
            added: Notify::new(),
        }
    }
}

impl<K: Ord + Clone + std::fmt::Debug> Queue<K> {
    /// Adds a key that has to be looked at, now or once more.
    pub(super) fn add(&self, key: K) {
        self.lock().due.insert(key);
        self.added.notify_one();
    }

    /// Looks at keys with `handle`, for ever. What it had in hand when it is dropped is due again.
    pub(super) async fn work<F>(&self, handle: impl Fn(K) -> F)
    where
        F: Future<Output = Result<(), Failure>>,
    {
        self.take_back();
        let mut running = FuturesUnordered::new();
        let mut pausing = FuturesUnordered::new();
        loop {
            while running.len() < TOGETHER
                && let Some(key) = self.take()
            {
                let work = handle(key.clone());
                running.push(async move { (key, work.await) });
            }
            tokio::select! {
                () = self.added.notified() => {}
                Some((key, result)) = running.next() => {
                    if let Some(pause) = self.done(&key, result.is_ok()) {
                        if let Err(failure) = result {
                            tracing::debug!(?key, %failure, ?pause, "to be tried again");
                        }
                        pausing.push(async move {
                            tokio::time::sleep(pause).await;
                            key
                        });
                    }
                }
                Some(key) = pausing.next() => self.add(key),
            }
        }
    }

    fn take(&self) -> Option<K> {
        let mut state = self.lock();
        let key = state
            .due
            .iter()
            .find(|key| !state.busy.contains(*key))?
            .clone();
        state.due.remove(&key);
        state.busy.insert(key.clone());
        Some(key)
    }

    /// How long to wait before `key` is due again, if it is.
    fn done(&self, key: &K, is_ok: bool) -> Option<Duration> {
        let mut state = self.lock();
        state.busy.remove(key);
        if is_ok {
            state.failures.remove(key);
            return None;
        }
        let failures = state.failures.entry(key.clone()).or_default();
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1);
        Some(pause)
    }

    fn take_back(&self) {
        let mut state = self.lock();
        let mut unfinished = std::mem::take(&mut state.busy);
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
    fn a_key_is_taken_once_and_again_only_after_its_end() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(), Some("a"));
        assert_eq!(queue.take(), None);
        queue.add("a");
        assert_eq!(queue.take(), None, "while it is busy");
        assert_eq!(queue.done(&"a", true), None);
        assert_eq!(queue.take(), Some("a"));
        assert_eq!(queue.done(&"a", false), Some(FIRST_PAUSE));
        assert_eq!(queue.done(&"a", false), Some(FIRST_PAUSE * 2));
        assert!((0..40).all(|_| queue.done(&"a", false) <= Some(LONGEST_PAUSE)));
    }

    #[tokio::test]
    async fn a_failed_key_is_tried_until_it_succeeds() {
        let (queue, tries) = (Arc::new(Queue::default()), Arc::new(AtomicUsize::new(0)));
        queue.add(1);
        let done = Notify::new();
        let work = queue.work(|_| async {
            if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(Failure::Silent("not yet".to_owned()));
            }
            done.notify_one();
            Ok(())
        });
        tokio::select! {
            () = work => {}
            () = done.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it was given up"),
        }
        assert_eq!(tries.load(Ordering::Relaxed), 3);
    }
}
