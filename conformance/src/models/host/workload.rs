//! What the model host knows of its workloads: ids, states, and who may change them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::mutant::Mutant;

/// The state of a workload, as it goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Images are pulled, or a service waits for its next run.
    Starting,
    /// It runs.
    Running,
    /// Its service ended well.
    Completed,
    /// It is being stopped.
    Stopping,
    /// It failed.
    Error,
    /// There is none.
    NotFound,
}

impl State {
    /// The enum name of the schema.
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

/// One workload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is in its life.
    pub state: State,
    /// What there is to say about it.
    pub message: String,
    /// Whether a guest has run.
    pub guest_ran: bool,
    /// What it was started with.
    pub workload: Value,
    /// Ends everything that runs for it.
    pub cancel: CancellationToken,
    generation: u64,
}

/// The right to change one incarnation of an id.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The id.
    pub id: String,
    /// Ends the incarnation.
    pub cancel: CancellationToken,
    generation: u64,
}

/// All workloads by id.
#[derive(Debug)]
pub struct Table {
    mutant: Option<Mutant>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    used: HashSet<String>,
    generation: u64,
}

impl Inner {
    fn take(&mut self, id: &str, workload: &Value) -> Claim {
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
        self.used.insert(id.to_owned());
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

impl Table {
    /// No workloads yet.
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

    /// Whether an id may be claimed now.
    #[must_use]
    pub fn claimable(&self, id: &str, workload: &Value) -> bool {
        self.is_free(&self.lock(), id, workload)
    }

    fn is_free(&self, inner: &Inner, id: &str, workload: &Value) -> bool {
        if self.mutant == Some(Mutant::IdStaysTaken) && inner.used.contains(id) {
            return false;
        }
        let Some(entry) = inner.entries.get(id) else {
            return true;
        };
        match self.mutant {
            Some(Mutant::DuplicateStartReplaces) => return true,
            Some(Mutant::RetryRestarts)
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

    /// Claims an id that is claimable; `None` when it is not. Of several at once one gets it: looking and
    /// taking are one step.
    pub fn claim(&self, id: &str, workload: &Value) -> Option<Claim> {
        let mut inner = self.lock();
        self.is_free(&inner, id, workload)
            .then(|| inner.take(id, workload))
    }

    /// Takes an id whatever has it.
    pub fn take(&self, id: &str, workload: &Value) -> Claim {
        self.lock().take(id, workload)
    }

    /// Sets the state of the claimed incarnation; says nothing when it is gone.
    pub fn settle(&self, claim: &Claim, state: State, message: &str) {
        if let Some(entry) = self.lock().entries.get_mut(&claim.id)
            && entry.generation == claim.generation
        {
            entry.state = state;
            entry.message = message.to_owned();
            entry.guest_ran |= state == State::Running;
        }
    }

    /// Forgets the claimed incarnation.
    pub fn forget(&self, claim: &Claim) {
        let mut inner = self.lock();
        if inner
            .entries
            .get(&claim.id)
            .is_some_and(|e| e.generation == claim.generation)
        {
            inner.entries.remove(&claim.id);
        }
    }

    /// Removes an id and hands out what it was.
    pub fn remove(&self, id: &str) -> Option<Entry> {
        self.lock().entries.remove(id)
    }

    /// What an id is now.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Entry> {
        self.lock().entries.get(id).cloned()
    }

    /// Changes every entry.
    pub fn each(&self, mut change: impl FnMut(&str, &mut Entry)) {
        for (id, entry) in &mut self.lock().entries {
            change(id, entry);
        }
    }

    /// Ends and forgets everything.
    pub fn clear(&self) {
        for (_, entry) in self.lock().entries.drain() {
            entry.cancel.cancel();
        }
    }

    /// Workloads that take capacity.
    #[must_use]
    pub fn live(&self) -> usize {
        let entries = &self.lock().entries;
        entries
            .values()
            .filter(|e| !matches!(e.state, State::Error | State::Completed))
            .count()
    }

    /// Whether a start is at work.
    #[must_use]
    pub fn starting(&self) -> bool {
        self.lock()
            .entries
            .values()
            .any(|entry| entry.state == State::Starting)
    }
}
