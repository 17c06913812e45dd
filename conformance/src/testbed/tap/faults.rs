//! Faults that affect all connections at once: outage and freeze.

use std::sync::Arc;

use tokio::sync::watch;

/// The effect of an outage on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutageMode {
    /// Connections are closed and new ones refused, as if the broker were down.
    Refuse,
    /// Connections are closed; new ones are accepted and closed immediately, as by a load balancer
    /// without a backend.
    CloseOnAccept,
    /// Connections are closed; new ones are accepted and never receive an INFO, as if the broker
    /// hung.
    Unresponsive,
}

/// The active faults, and the state of the tap that depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FaultState {
    pub(super) outage: Option<OutageMode>,
    /// Number of active freezes.
    pub(super) freezes: u32,
    /// Number of open connections.
    pub(super) connections: usize,
    /// Whether the listener accepts connections.
    pub(super) listening: bool,
}

/// The fault state, shared by the tap, its listener and its connections.
#[derive(Debug, Clone)]
pub(super) struct Faults(Arc<watch::Sender<FaultState>>);

impl Faults {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(FaultState::default())))
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut FaultState)) {
        self.0.send_modify(change);
    }

    pub(super) fn state(&self) -> FaultState {
        *self.0.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<FaultState> {
        self.0.subscribe()
    }

    /// Waits until the state satisfies a condition. Cancel safe.
    pub(super) async fn wait_for(&self, condition: impl FnMut(&FaultState) -> bool) {
        // `self` holds the sender, so the channel cannot close.
        let _ = self.watch().wait_for(condition).await;
    }
}

/// Guard of an outage. The outage ends when the guard is restored or dropped.
#[derive(Debug)]
#[must_use = "an outage ends when its guard is dropped"]
pub struct Outage(pub(super) Faults);

impl Outage {
    /// Ends the outage and waits until connections are accepted again.
    pub async fn restore(self) {
        let faults = self.0.clone();
        drop(self);
        faults.wait_for(|state| state.listening).await;
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.0.update(|state| state.outage = None);
    }
}

/// Guard of a freeze. When it is dropped, the withheld frames are forwarded.
#[derive(Debug)]
#[must_use = "a freeze ends when its guard is dropped"]
pub struct Freeze(pub(super) Faults);

impl Drop for Freeze {
    fn drop(&mut self) {
        self.0
            .update(|state| state.freezes = state.freezes.saturating_sub(1));
    }
}
