//! Evidence of one run of a check: its claims, violations and workload ids.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::outcome::Violation;
use crate::spec::requirements::Requirement;

/// Evidence that claims record and the runner reads at the end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    state: Arc<Mutex<State>>,
    violation_recorded: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    ids: BTreeSet<String>,
    claimed: BTreeSet<&'static str>,
    violations: Vec<Violation>,
    check_errors: Vec<String>,
    latest_inbox: Option<String>,
    waiting_for: Option<String>,
}

impl Evidence {
    /// Records the id of a workload that cleanup must stop.
    pub fn track_id(&self, id: &str) {
        self.lock().ids.insert(id.to_owned());
    }

    /// Returns the ids of the workloads that cleanup must stop.
    pub fn ids(&self) -> Vec<String> {
        self.lock().ids.iter().cloned().collect()
    }

    /// Records that a claim was judged.
    pub fn record_claim(&self, requirement: &'static Requirement) {
        self.lock().claimed.insert(requirement.id);
    }

    /// Returns whether a claim about the requirement was judged.
    pub fn is_claimed(&self, requirement: &Requirement) -> bool {
        self.lock().claimed.contains(requirement.id)
    }

    /// Records a claim that did not hold.
    pub fn record_violation(&self, violation: Violation) {
        self.lock().violations.push(violation);
        self.violation_recorded.notify_waiters();
    }

    /// Returns whether a claim about the requirement did not hold, unless a stall of the machine
    /// may be the cause.
    pub fn is_violated(&self, requirement: &Requirement) -> bool {
        let state = self.lock();
        let mut conclusive = state
            .violations
            .iter()
            .filter(|violation| violation.stalled.is_none());
        conclusive.any(|violation| violation.requirement == requirement)
    }

    /// Waits until the requirement [is violated](Evidence::is_violated). Cancel safe.
    pub async fn wait_until_violated(&self, requirement: &Requirement) {
        loop {
            let mut recorded = std::pin::pin!(self.violation_recorded.notified());
            // Registered before the violations are read, so that no violation is missed.
            recorded.as_mut().enable();
            if self.is_violated(requirement) {
                return;
            }
            recorded.await;
        }
    }

    /// Returns the claims that did not hold.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Records an error of the check itself.
    pub fn record_check_error(&self, error: String) {
        self.lock().check_errors.push(error);
    }

    /// Returns the errors of the check itself.
    pub fn check_errors(&self) -> Vec<String> {
        self.lock().check_errors.clone()
    }

    /// Sets the inbox of the most recent reply. If the next claim does not hold, the report marks
    /// the frame of that reply.
    pub fn set_latest_inbox(&self, inbox: &str) {
        self.lock().latest_inbox = Some(inbox.to_owned());
    }

    /// Returns the inbox of the most recent reply.
    pub fn latest_inbox(&self) -> Option<String> {
        self.lock().latest_inbox.clone()
    }

    /// Sets the condition that the body waits for, to be reported if it exceeds its budget.
    pub fn set_waiting_for(&self, condition: Option<&str>) {
        self.lock().waiting_for = condition.map(str::to_owned);
    }

    /// Returns the condition that the body waits for.
    pub fn waiting_for(&self) -> Option<String> {
        self.lock().waiting_for.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
