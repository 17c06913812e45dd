//! Carries out one action in a task of its own, so that nothing that waits holds up anything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::request::{self, Unbuildable};
use crate::core::{Action, CallId, Command, Event, Note, Outcome, Write, WriteError, WriteId};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::ways::{Request, Ways};

/// Writes at once; more would only wait in the store. The core has at most one for each object.
const WRITES_MAX: usize = 128;
/// The same of those that can wait: they take no turn of those that cannot.
const WAITING_WRITES_MAX: usize = 32;
/// Notes that wait to be taken; they are for people, and people do not read more.
const NOTES_MAX: usize = 256;
/// How long a write may take before the core hears that it is not known how it went.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a task ended.
pub(super) enum Done {
    /// The core has to hear of it.
    Event(Event),
    /// Nobody has.
    Nothing,
}

/// Starts the tasks. There is no bound on calls at once but the core's own, of one for each workload and host:
/// with another one, calls to a dead host would take the place of those to a healthy one.
pub(super) struct Worker<S> {
    store: Arc<S>,
    ways: Ways,
    metrics: Arc<Metrics>,
    writes: Arc<Semaphore>,
    waiting_writes: Arc<Semaphore>,
    notes: Arc<Semaphore>,
}

impl<S: Store> Worker<S> {
    pub(super) fn new(store: Arc<S>, ways: Ways, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            ways,
            metrics,
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            waiting_writes: Arc::new(Semaphore::new(WAITING_WRITES_MAX)),
            notes: Arc::new(Semaphore::new(NOTES_MAX)),
        }
    }

    pub(super) fn spawn(&self, action: Action, tasks: &mut JoinSet<Done>) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                timeout,
            } => self.call(call_id, host_id, command, timeout, tasks),
            Action::Write { write_id, write } => self.write(write_id, write, tasks),
            Action::Note(note) => self.note(note, tasks),
        }
    }

    fn call(
        &self,
        call_id: CallId,
        host_id: Arc<str>,
        command: Command,
        timeout: Duration,
        tasks: &mut JoinSet<Done>,
    ) {
        let (store, ways, metrics) = (self.store.clone(), self.ways.clone(), self.metrics.clone());
        tasks.spawn(async move {
            let began = Instant::now();
            let verb = verb(&command);
            let asked = ask(&*store, &ways, &host_id, command, timeout);
            // One deadline around everything, what is looked up included.
            let outcome = tokio::time::timeout(timeout, asked)
                .await
                .unwrap_or(Outcome::TimedOut);
            tracing::debug!(host_id = &*host_id, verb, ?outcome, "call");
            metrics.called(verb, &outcome, began.elapsed());
            Done::Event(Event::Answered { call_id, outcome })
        });
    }

    fn write(&self, write_id: WriteId, write: Write, tasks: &mut JoinSet<Done>) {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let turns = match write.can_wait() {
            true => self.waiting_writes.clone(),
            false => self.writes.clone(),
        };
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            let began = Instant::now();
            let (verb, key) = (write_verb(&write), write.key());
            let written = tokio::time::timeout(WRITE_TIMEOUT, store.write(write)).await;
            let late = || WriteError::Unavailable(format!("no answer within {WRITE_TIMEOUT:?}"));
            let result = written.unwrap_or_else(|_| Err(late()));
            match &result {
                Ok(_) => tracing::debug!(%key, verb, "written"),
                Err(error) => tracing::debug!(%key, verb, %error, "not written"),
            }
            metrics.wrote(verb, &result, began.elapsed());
            Done::Event(Event::Written { write_id, result })
        });
    }

    fn note(&self, note: Note, tasks: &mut JoinSet<Done>) {
        tracing::info!(object = %note.key, reason = note.reason, "{}", note.message);
        let Ok(turn) = self.notes.clone().try_acquire_owned() else {
            return tracing::warn!("too many notes at once; one is left out");
        };
        let store = self.store.clone();
        tasks.spawn(async move {
            let _turn = turn;
            if tokio::time::timeout(WRITE_TIMEOUT, store.note(note))
                .await
                .is_err()
            {
                tracing::warn!("a note was not taken in time");
            }
            Done::Nothing
        });
    }
}

async fn ask<S: Store>(
    store: &S,
    ways: &Ways,
    host_id: &str,
    command: Command,
    timeout: Duration,
) -> Outcome {
    let request = match command {
        Command::Stop { id } => Request::Stop(id.to_string()),
        Command::Status { id } => Request::Status(id.to_string()),
        Command::Start { workload, id } => match request::resolved(store, &workload, &id).await {
            Ok(workload) => Request::Start(id.to_string(), Box::new(workload)),
            Err(Unbuildable(reason)) => return Outcome::Unbuildable(reason),
        },
    };
    ways.call(host_id, request, timeout).await
}

fn verb(command: &Command) -> &'static str {
    match command {
        Command::Start { .. } => "start",
        Command::Stop { .. } => "stop",
        Command::Status { .. } => "status",
    }
}

fn write_verb(write: &Write) -> &'static str {
    match write {
        Write::Create(_) => "create",
        Write::ApplyHost(_) => "apply_host",
        Write::Status { .. } => "status",
        Write::Metadata { .. } => "metadata",
        Write::Replicas { .. } => "replicas",
        Write::Delete { .. } => "delete",
    }
}
