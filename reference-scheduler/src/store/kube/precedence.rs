//! Lets what can wait give way to what cannot.

use std::time::Duration;

use tokio::sync::watch;

/// How long one write gives way at most: also under a load that does not end, counts are told.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Precedence {
    /// How many are under way or in line that cannot wait.
    urgent: watch::Sender<usize>,
    patience: Duration,
}

/// One that cannot wait, for as long as this is kept.
pub(super) struct Urgent<'a>(&'a watch::Sender<usize>);

impl Default for Precedence {
    fn default() -> Self {
        Self {
            urgent: watch::Sender::new(0),
            patience: PATIENCE,
        }
    }
}

impl Precedence {
    /// Others give way from now on.
    pub(super) fn take(&self) -> Urgent<'_> {
        self.urgent.send_modify(|urgent| *urgent += 1);
        Urgent(&self.urgent)
    }

    /// Returns when nothing is left that cannot wait, after [`PATIENCE`] at the latest. Cancel safe.
    pub(super) async fn give(&self) {
        let mut urgent = self.urgent.subscribe();
        // The sender is in `self`, so that only the time can end it early.
        let _ = tokio::time::timeout(self.patience, urgent.wait_for(|urgent| *urgent == 0)).await;
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|urgent| *urgent -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_can_wait_waits_for_the_last_that_cannot() {
        let precedence = Precedence::default();
        assert_eq!(precedence.give().now_or_never(), Some(()));
        let [one, other] = [precedence.take(), precedence.take()];
        let mut waiting = Box::pin(precedence.give());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(one);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(other);
        assert_eq!(waiting.now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn it_does_not_wait_for_ever() {
        let precedence = Precedence {
            patience: Duration::from_millis(1),
            ..Precedence::default()
        };
        let _urgent = precedence.take();
        let given = tokio::time::timeout(Duration::from_secs(20), precedence.give()).await;
        assert!(given.is_ok());
    }
}
