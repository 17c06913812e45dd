//! What one run of a check has claimed, seen and created.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::outcome::Violation;
use crate::spec::requirements::Requirement;

/// The book that claims write into and the runner reads at the end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    book: Arc<Mutex<Book>>,
    broken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Book {
    ids: BTreeSet<String>,
    claimed: BTreeSet<&'static str>,
    violations: Vec<Violation>,
    faults: Vec<String>,
    last_inbox: Option<String>,
    waiting_for: Option<String>,
}

impl Evidence {
    /// An id that clean-up must stop.
    pub fn remember_id(&self, id: &str) {
        self.lock().ids.insert(id.to_owned());
    }

    /// The ids that clean-up must stop.
    pub fn ids(&self) -> Vec<String> {
        self.lock().ids.iter().cloned().collect()
    }

    /// A claim was judged.
    pub fn claimed(&self, requirement: &'static Requirement) {
        self.lock().claimed.insert(requirement.id);
    }

    /// Whether any claim about it was judged.
    pub fn has_claimed(&self, requirement: &Requirement) -> bool {
        self.lock().claimed.contains(requirement.id)
    }

    /// A claim did not hold.
    pub fn violated(&self, violation: Violation) {
        self.lock().violations.push(violation);
        self.broken.notify_waiters();
    }

    /// Whether a claim about it did not hold, and no standstill of the machine excuses that.
    pub fn is_broken(&self, requirement: &Requirement) -> bool {
        let book = self.lock();
        let mut firm = book.violations.iter().filter(|seen| seen.stalled.is_none());
        firm.any(|seen| seen.requirement == requirement)
    }

    /// Waits until it [is broken](Ledger::is_broken). Cancel safe.
    pub async fn until_broken(&self, requirement: &Requirement) {
        loop {
            let mut news = std::pin::pin!(self.broken.notified());
            // What comes between the look and the wait is not missed.
            news.as_mut().enable();
            if self.is_broken(requirement) {
                return;
            }
            news.await;
        }
    }

    /// The claims that did not hold.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// The check itself is wrong.
    pub fn fault(&self, fault: String) {
        self.lock().faults.push(fault);
    }

    /// What is wrong with the check itself.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// The inbox of the latest reply: the frame to mark when a claim fails next.
    pub fn last_inbox(&self, inbox: &str) {
        self.lock().last_inbox = Some(inbox.to_owned());
    }

    /// The inbox of the latest reply.
    pub fn last_inbox_seen(&self) -> Option<String> {
        self.lock().last_inbox.clone()
    }

    /// What the body waits for at the moment, for a check that runs out of its budget.
    pub fn waiting_for(&self, what: Option<&str>) {
        self.lock().waiting_for = what.map(str::to_owned);
    }

    /// What the body was waiting for.
    pub fn was_waiting_for(&self) -> Option<String> {
        self.lock().waiting_for.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
