//! Executes each action in its own task, so that no action delays another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::resolve::{InvalidRequest, resolve_workload};
use super::unanswered_starts::UnansweredStarts;
use crate::core::{
    Action, CallId, Command, Event, ObjectEvent, Outcome, StoreError, Write, WriteId,
};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::transport::{HostRequest, HostTransport};

/// Maximum number of writes in flight, of which the core has at most one for each object: limited,
/// because more writes would only wait in the store.
const WRITES_MAX: usize = 128;
/// Maximum number of deferrable writes in flight. They have their own limit, so that they do not
/// delay other writes.
const DEFERRABLE_WRITES_MAX: usize = 32;
/// Maximum number of Events in flight; an Event beyond this number is dropped, because
/// users do not read that many.
const EVENTS_MAX: usize = 256;
/// Deadline of a write, after which the core receives [`StoreError::Unavailable`]: the write may
/// have taken effect.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Result of a task.
pub(super) enum TaskOutput {
    /// An event for the core.
    Event(Event),
    /// Nothing to report.
    Nothing,
}

/// Spawns the tasks.
///
/// Only the core limits the number of calls in flight, for each workload and for each host. A limit
/// for all hosts together would let calls to a dead host delay calls to healthy hosts.
pub(super) struct Executor<S> {
    store: Arc<S>,
    transport: HostTransport,
    metrics: Arc<Metrics>,
    unanswered_starts: Arc<UnansweredStarts>,
    writes: Arc<Semaphore>,
    deferrable_writes: Arc<Semaphore>,
    events: Arc<Semaphore>,
}

impl<S: Store> Executor<S> {
    pub(super) fn new(store: Arc<S>, transport: HostTransport, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            transport,
            metrics,
            unanswered_starts: Arc::default(),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            deferrable_writes: Arc::new(Semaphore::new(DEFERRABLE_WRITES_MAX)),
            events: Arc::new(Semaphore::new(EVENTS_MAX)),
        }
    }

    pub(super) fn spawn(&self, action: Action, tasks: &mut JoinSet<TaskOutput>) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                timeout,
            } => self.call(call_id, host_id, command, timeout, tasks),
            Action::Write { write_id, write } => self.write(write_id, write, tasks),
            Action::RecordEvent(event) => self.record_event(event, tasks),
        }
    }

    fn call(
        &self,
        call_id: CallId,
        host_id: Arc<str>,
        command: Command,
        timeout: Duration,
        tasks: &mut JoinSet<TaskOutput>,
    ) {
        let (store, transport, metrics) = (
            self.store.clone(),
            self.transport.clone(),
            self.metrics.clone(),
        );
        let starts = self.unanswered_starts.clone();
        tasks.spawn(async move {
            let began = Instant::now();
            let verb = command_verb(&command);
            let call = call_host(&*store, &transport, &starts, &host_id, command, timeout);
            // The deadline includes the time to read ConfigMaps and Secrets.
            let outcome = tokio::time::timeout(timeout, call)
                .await
                .unwrap_or(Outcome::TimedOut);
            tracing::debug!(host_id = &*host_id, verb, ?outcome, "called host");
            metrics.record_call(verb, &outcome, began.elapsed());
            TaskOutput::Event(Event::CallFinished { call_id, outcome })
        });
    }

    fn write(&self, write_id: WriteId, write: Write, tasks: &mut JoinSet<TaskOutput>) {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let permits = if write.is_deferrable() {
            self.deferrable_writes.clone()
        } else {
            self.writes.clone()
        };
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            let began = Instant::now();
            let (verb, key) = (write_verb(&write), write.key());
            let written = tokio::time::timeout(WRITE_TIMEOUT, store.write(write)).await;
            let timed_out =
                || StoreError::Unavailable(format!("no response within {WRITE_TIMEOUT:?}"));
            let result = written.unwrap_or_else(|_| Err(timed_out()));
            match &result {
                Ok(_) => tracing::debug!(%key, verb, "wrote object"),
                Err(error) => tracing::debug!(%key, verb, %error, "cannot write object"),
            }
            metrics.record_write(verb, &result, began.elapsed());
            TaskOutput::Event(Event::WriteFinished { write_id, result })
        });
    }

    fn record_event(&self, event: ObjectEvent, tasks: &mut JoinSet<TaskOutput>) {
        tracing::info!(object = %event.key, reason = event.reason, "{}", event.message);
        let Ok(permit) = self.events.clone().try_acquire_owned() else {
            return tracing::warn!("dropped an Event: too many at once");
        };
        let store = self.store.clone();
        tasks.spawn(async move {
            let _permit = permit;
            if tokio::time::timeout(WRITE_TIMEOUT, store.record_event(event))
                .await
                .is_err()
            {
                tracing::warn!("dropped an Event: timed out");
            }
            TaskOutput::Nothing
        });
    }
}

async fn call_host<S: Store>(
    store: &S,
    transport: &HostTransport,
    starts: &UnansweredStarts,
    host_id: &str,
    command: Command,
    timeout: Duration,
) -> Outcome {
    let request = match command {
        Command::Stop { id } => {
            starts.forget(&id);
            HostRequest::Stop(id.to_string())
        }
        Command::Status { id } => HostRequest::Status(id.to_string()),
        Command::Heartbeat => HostRequest::Heartbeat,
        Command::Start { workload, id } => {
            let unanswered = starts.get(&id);
            let is_repeated = unanswered.is_some();
            let content = match unanswered {
                Some(content) => content,
                None => match resolve_workload(store, &workload, &id).await {
                    Ok(content) => Arc::new(content),
                    Err(InvalidRequest(reason)) => return Outcome::InvalidRequest(reason),
                },
            };
            starts.insert(&id, content.clone());
            let request = HostRequest::Start(id.to_string(), content);
            let outcome = transport.call(host_id, request, timeout).await;
            starts.record_outcome(&id, is_repeated, &outcome);
            return outcome;
        }
    };
    transport.call(host_id, request, timeout).await
}

fn command_verb(command: &Command) -> &'static str {
    match command {
        Command::Start { .. } => "start",
        Command::Stop { .. } => "stop",
        Command::Status { .. } => "status",
        Command::Heartbeat => "heartbeat",
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
