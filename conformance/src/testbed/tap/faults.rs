//! The switches that concern all connections at once: outage and freeze.

use std::sync::Arc;

use tokio::sync::watch;

/// What an outage looks like to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutagePlan {
    /// Connections are closed and new ones refused: the broker is down.
    Refuse,
    /// Connections are closed; new ones are accepted and closed at once: something in between is up.
    HangUp,
    /// Connections are closed; new ones are accepted and never greeted: the broker hangs.
    Mute,
}

/// How the switches stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) outage: Option<OutagePlan>,
    /// How many freezes are in force.
    pub(super) freezes: u32,
    /// How many connections are open.
    pub(super) connections: usize,
    /// The listener accepts connections.
    pub(super) listening: bool,
}

/// The switches, shared by the tap, its listener and its connections.
#[derive(Debug, Clone)]
pub(super) struct Switch(Arc<watch::Sender<Position>>);

impl Switch {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Position::default())))
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Position)) {
        self.0.send_modify(change);
    }

    pub(super) fn get(&self) -> Position {
        *self.0.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Position> {
        self.0.subscribe()
    }

    /// Waits until the switches stand in a certain way. Cancel safe.
    pub(super) async fn until(&self, wanted: impl FnMut(&Position) -> bool) {
        // The sender is held by ourselves, so the channel cannot close.
        let _ = self.watch().wait_for(wanted).await;
    }
}

/// An outage in force. It ends when this is restored or dropped.
#[derive(Debug)]
#[must_use = "an outage ends when its guard is dropped"]
pub struct Outage(pub(super) Switch);

impl Outage {
    /// Ends the outage and waits until connections are accepted again.
    pub async fn restore(self) {
        let switch = self.0.clone();
        drop(self);
        switch.until(|position| position.listening).await;
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.0.set(|position| position.outage = None);
    }
}

/// A freeze in force. It ends when this is dropped; what was kept back then goes on.
#[derive(Debug)]
#[must_use = "a freeze ends when its guard is dropped"]
pub struct Freeze(pub(super) Switch);

impl Drop for Freeze {
    fn drop(&mut self) {
        self.0
            .set(|position| position.freezes = position.freezes.saturating_sub(1));
    }
}
