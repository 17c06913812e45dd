//! Priority of urgent writes over deferrable ones.

use std::time::Duration;

use tokio::sync::watch;

/// Maximum time for which a deferrable write yields to urgent writes, so that counts are written
/// even under constant load.
const YIELD_MAX: Duration = Duration::from_secs(2);

/// The priority of writes; see the module.
pub(super) struct WritePriority {
    /// Number of urgent writes that are in flight or queued.
    urgent: watch::Sender<usize>,
    yield_max: Duration,
}

/// Counts one urgent write, until the guard is dropped.
pub(super) struct UrgentGuard<'a>(&'a watch::Sender<usize>);

impl Default for WritePriority {
    fn default() -> Self {
        Self {
            urgent: watch::Sender::new(0),
            yield_max: YIELD_MAX,
        }
    }
}

impl WritePriority {
    /// Starts an urgent write, to which deferrable writes yield until the guard is dropped.
    pub(super) fn start_urgent(&self) -> UrgentGuard<'_> {
        self.urgent.send_modify(|urgent| *urgent += 1);
        UrgentGuard(&self.urgent)
    }

    /// Waits until no urgent write is left, for at most [`YIELD_MAX`]. Cancel safe.
    pub(super) async fn yield_to_urgent(&self) {
        let mut urgent = self.urgent.subscribe();
        // The channel stays open, because `self` holds the sender.
        let none_left = urgent.wait_for(|urgent| *urgent == 0);
        let _ = tokio::time::timeout(self.yield_max, none_left).await;
    }
}

impl Drop for UrgentGuard<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|urgent| *urgent -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn yields_until_last_urgent_write_ends() {
        let priority = WritePriority::default();
        assert_eq!(priority.yield_to_urgent().now_or_never(), Some(()));
        let [one, other] = [priority.start_urgent(), priority.start_urgent()];
        let mut waiting = Box::pin(priority.yield_to_urgent());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(one);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(other);
        assert_eq!(waiting.now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn yields_for_a_limited_time() {
        let priority = WritePriority {
            yield_max: Duration::from_millis(1),
            ..WritePriority::default()
        };
        let _urgent = priority.start_urgent();
        let yielded =
            tokio::time::timeout(Duration::from_secs(20), priority.yield_to_urgent()).await;
        assert!(yielded.is_ok());
    }
}
