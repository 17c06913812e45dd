//! The contents of starts without a known outcome: a repeated start carries the same content, even
//! if a ConfigMap or a Secret has changed meanwhile (SCHED-START-003).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::{Workload, WorkloadState};

use crate::core::Outcome;

/// Maximum number of remembered starts: more than a scheduler has in flight, and a few megabytes.
/// Beyond it, the content of the oldest start is read again when the start is repeated.
const STARTS_MAX: usize = 4096;

/// Contents by id, in the order of the starts.
#[derive(Debug, Default)]
pub(super) struct UnansweredStarts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    contents: HashMap<Arc<str>, Arc<Workload>>,
    order: VecDeque<Arc<str>>,
}

impl UnansweredStarts {
    /// Returns the content of an earlier start of this id whose outcome is not known.
    pub fn get(&self, id: &str) -> Option<Arc<Workload>> {
        self.lock().contents.get(id).cloned()
    }

    /// Remembers the content of a start that is about to be sent.
    pub fn insert(&self, id: &Arc<str>, content: Arc<Workload>) {
        let mut state = self.lock();
        if state.contents.insert(id.clone(), content).is_none() {
            state.order.push_back(id.clone());
        }
        while state.order.len() > STARTS_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.contents.remove(&oldest);
        }
    }

    /// Forgets a start whose outcome is known.
    pub fn record_outcome(&self, id: &str, is_repeated: bool, outcome: &Outcome) {
        let is_known = match outcome {
            // An error of a repeated start says nothing about the first one.
            Outcome::Status { state, .. } => !is_repeated || *state != WorkloadState::Error,
            // The start was not delivered.
            Outcome::NoResponders | Outcome::InvalidRequest(_) => !is_repeated,
            _ => false,
        };
        if is_known {
            self.forget(id);
        }
    }

    pub fn forget(&self, id: &str) {
        let mut state = self.lock();
        if state.contents.remove(id).is_some() {
            state.order.retain(|other| **other != *id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(namespace: &str) -> Arc<Workload> {
        Arc::new(Workload {
            namespace: namespace.to_owned(),
            ..Workload::default()
        })
    }

    fn status(state: WorkloadState) -> Outcome {
        Outcome::Status {
            state,
            message: String::new(),
            code: None,
        }
    }

    #[test]
    fn content_is_kept_until_the_outcome_is_known() {
        let (first, repeated) = (false, true);
        for (is_repeated, outcome, is_kept) in [
            (first, Outcome::TimedOut, true),
            (first, Outcome::Disconnected, true),
            (first, Outcome::NoResponders, false),
            (repeated, Outcome::NoResponders, true),
            (first, Outcome::InvalidResponse("x".to_owned()), true),
            (first, status(WorkloadState::Running), false),
            (first, status(WorkloadState::Error), false),
            (repeated, status(WorkloadState::Error), true),
            (repeated, status(WorkloadState::Starting), false),
        ] {
            let starts = UnansweredStarts::default();
            starts.insert(&"a".into(), content("one"));
            starts.record_outcome("a", is_repeated, &outcome);
            assert_eq!(starts.get("a").is_some(), is_kept, "{outcome:?}");
        }
    }

    #[test]
    fn oldest_starts_are_forgotten_beyond_the_limit() {
        let starts = UnansweredStarts::default();
        for number in 0..STARTS_MAX + 10 {
            starts.insert(&number.to_string().into(), content("one"));
            starts.insert(&number.to_string().into(), content("two"));
        }
        let state = starts.lock();
        assert_eq!(
            (state.contents.len(), state.order.len()),
            (STARTS_MAX, STARTS_MAX)
        );
        assert!(!state.contents.contains_key("9") && state.contents.contains_key("10"));
    }
}
