//! The workloads of the model host, with their ids, states and claims.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::mutant::Mutant;

/// State of a workload on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Images are being pulled, or a service waits for its next run.
    Starting,
    /// The workload runs.
    Running,
    /// The service has succeeded.
    Completed,
    /// The workload is being stopped.
    Stopping,
    /// The workload has failed.
    Error,
    /// No workload has the id.
    NotFound,
}

impl State {
    /// Returns the proto name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Starting => "WORKLOAD_STATE_STARTING",
            State::Running => "WORKLOAD_STATE_RUNNING",
            State::Completed => "WORKLOAD_STATE_COMPLETED",
            State::Stopping => "WORKLOAD_STATE_STOPPING",
            State::Error => "WORKLOAD_STATE_ERROR",
            State::NotFound => "WORKLOAD_STATE_NOT_FOUND",
        }
    }
}

/// A workload that holds an id.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Current state.
    pub state: State,
    /// Message for status replies.
    pub message: String,
    /// Whether guest code has run.
    pub guest_ran: bool,
    /// Workload from the start request.
    pub workload: Value,
    /// Ends all tasks of the workload.
    pub cancel: CancellationToken,
    generation: u64,
}

/// Claim of an id; permits changes to one incarnation.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Claimed id.
    pub id: String,
    /// Ends the tasks of the incarnation.
    pub cancel: CancellationToken,
    generation: u64,
}

/// All workloads by id.
#[derive(Debug)]
pub struct WorkloadTable {
    mutant: Option<Mutant>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    used_ids: HashSet<String>,
    generation: u64,
}

impl Inner {
    fn replace(&mut self, id: &str, workload: &Value) -> Claim {
        self.generation += 1;
        let generation = self.generation;
        let cancel = CancellationToken::new();
        let entry = Entry {
            state: State::Starting,
            message: "starting".to_owned(),
            guest_ran: false,
            workload: workload.clone(),
            cancel: cancel.clone(),
            generation,
        };
        self.used_ids.insert(id.to_owned());
        if let Some(old) = self.entries.insert(id.to_owned(), entry) {
            old.cancel.cancel();
        }
        Claim {
            id: id.to_owned(),
            cancel,
            generation,
        }
    }
}

impl WorkloadTable {
    /// Creates an empty table.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `id` can be claimed now.
    #[must_use]
    pub fn is_claimable(&self, id: &str, workload: &Value) -> bool {
        self.can_claim(&self.lock(), id, workload)
    }

    fn can_claim(&self, inner: &Inner, id: &str, workload: &Value) -> bool {
        if self.mutant == Some(Mutant::NeverFreesIds) && inner.used_ids.contains(id) {
            return false;
        }
        let Some(entry) = inner.entries.get(id) else {
            return true;
        };
        match self.mutant {
            Some(Mutant::DuplicateStartReplaces) => return true,
            Some(Mutant::RetriedStartRestarts)
                if entry.state == State::Running && entry.workload == *workload =>
            {
                return true;
            }
            Some(Mutant::RerunsCompleted) if entry.state == State::Completed => return true,
            Some(Mutant::ErrorBlocksId) => return false,
            _ => {}
        }
        entry.state == State::Error && !entry.guest_ran
    }

    /// Claims `id`, or returns `None` if it cannot be claimed. If several calls for one id are
    /// concurrent, one succeeds, because the check and the claim are atomic.
    pub fn claim(&self, id: &str, workload: &Value) -> Option<Claim> {
        let mut inner = self.lock();
        self.can_claim(&inner, id, workload)
            .then(|| inner.replace(id, workload))
    }

    /// Claims `id` and replaces the workload that holds it.
    pub fn replace(&self, id: &str, workload: &Value) -> Claim {
        self.lock().replace(id, workload)
    }

    /// Sets the state of the claimed incarnation; does nothing if the incarnation has ended.
    pub fn set_state(&self, claim: &Claim, state: State, message: &str) {
        if let Some(entry) = self.lock().entries.get_mut(&claim.id)
            && entry.generation == claim.generation
        {
            entry.state = state;
            entry.message = message.to_owned();
            entry.guest_ran |= state == State::Running;
        }
    }

    /// Removes the claimed incarnation.
    pub fn forget(&self, claim: &Claim) {
        let mut inner = self.lock();
        if inner
            .entries
            .get(&claim.id)
            .is_some_and(|entry| entry.generation == claim.generation)
        {
            inner.entries.remove(&claim.id);
        }
    }

    /// Removes and returns the workload with this id.
    pub fn remove(&self, id: &str) -> Option<Entry> {
        self.lock().entries.remove(id)
    }

    /// Returns the workload with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Entry> {
        self.lock().entries.get(id).cloned()
    }

    /// Calls `change` for every workload.
    pub fn for_each(&self, mut change: impl FnMut(&str, &mut Entry)) {
        for (id, entry) in &mut self.lock().entries {
            change(id, entry);
        }
    }

    /// Cancels and removes every workload.
    pub fn clear(&self) {
        for (_, entry) in self.lock().entries.drain() {
            entry.cancel.cancel();
        }
    }

    /// Returns the number of workloads that use capacity.
    #[must_use]
    pub fn active_count(&self) -> usize {
        let entries = &self.lock().entries;
        entries
            .values()
            .filter(|entry| !matches!(entry.state, State::Error | State::Completed))
            .count()
    }

    /// Whether a start is in progress.
    #[must_use]
    pub fn has_starting(&self) -> bool {
        self.lock()
            .entries
            .values()
            .any(|entry| entry.state == State::Starting)
    }
}
