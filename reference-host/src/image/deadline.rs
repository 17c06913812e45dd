//! The deadline of a call that several callers share.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A deadline that further callers may extend. Clones are cheap and share the time.
#[derive(Clone, Debug)]
pub(super) struct Deadline(watch::Sender<Instant>);

impl Deadline {
    pub(super) fn at(at: Instant) -> Self {
        Self(watch::Sender::new(at))
    }

    /// Moves the deadline to `at` if that is later.
    pub(super) fn extend(&self, at: Instant) {
        self.0.send_if_modified(|deadline| {
            let later = at > *deadline;
            *deadline = at.max(*deadline);
            later
        });
    }

    /// Returns the time that is left now.
    pub(super) fn remaining(&self) -> Duration {
        self.0.borrow().saturating_duration_since(Instant::now())
    }

    /// Awaits `work`. Returns `None` at the deadline.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut changes = self.0.subscribe();
        let mut work = pin!(work);
        loop {
            let at = *changes.borrow_and_update();
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                // The sender is alive, so `changed` does not fail.
                _ = changes.changed() => {}
                () = sleep_until(at) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_at_the_latest_deadline() {
        let now = Instant::now();
        let deadline = Deadline::at(now + Duration::from_millis(50));
        assert_eq!(deadline.bound(std::future::ready(1)).await, Some(1));
        let extended = deadline.clone();
        let work = async {
            extended.extend(now + Duration::from_millis(200));
            extended.extend(now);
            std::future::pending::<()>().await;
        };
        assert_eq!(deadline.bound(work).await, None);
        assert!(now.elapsed() >= Duration::from_millis(200));
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}
