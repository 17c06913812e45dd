//! Executes the actions of the lifecycle: starts, stops and watches runs, and replies to callers.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::Workload;
use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Tasks;
use crate::host::lifecycle::{Action, Event, Lifecycle, RequestId, RunId};
use crate::host::{Host, StartError, StartRequest, StatusReporter, StatusReports};
use crate::reply::Status;

/// Runs all workloads of one host.
pub(super) struct Executor<H: Host> {
    host: Arc<H>,
    tasks: Tasks,
    started_at: Instant,
    state: Mutex<State>,
    /// Notified after each step, because a step may change the time of the next tick or release
    /// the only remaining run.
    stepped: Notify,
}

#[derive(Default)]
struct State {
    lifecycle: Lifecycle,
    /// Number of the most recent request.
    latest_request: u64,
    callers: HashMap<RequestId, oneshot::Sender<Status>>,
    /// Workload of each start request, only while the step of the request executes.
    requested_workloads: HashMap<RequestId, Workload>,
    stop_tokens: HashMap<RunId, CancellationToken>,
}

impl<H: Host> Executor<H> {
    pub fn new(host: Arc<H>, tasks: Tasks) -> Arc<Self> {
        let (state, stepped) = (Mutex::default(), Notify::new());
        Arc::new(Self {
            host,
            tasks,
            started_at: Instant::now(),
            state,
            stepped,
        })
    }

    /// Starts a workload, unless its ID is in use. The reply is the outcome, or STARTING if the
    /// start takes long.
    pub fn start(self: &Arc<Self>, id: String, workload: Workload) -> oneshot::Receiver<Status> {
        self.request(Some(workload), |request| Event::Start { request, id })
    }

    pub fn stop(self: &Arc<Self>, id: String) -> oneshot::Receiver<Status> {
        self.request(None, |request| Event::Stop { request, id })
    }

    pub fn status(self: &Arc<Self>, id: String) -> oneshot::Receiver<Status> {
        self.request(None, |request| Event::Status { request, id })
    }

    pub fn workload_count(&self) -> u64 {
        self.lock().lifecycle.workload_count()
    }

    /// Refuses further starts and cancels those in progress, then lets the host finish what its
    /// workloads are doing.
    pub async fn drain(self: &Arc<Self>) {
        self.step(Event::Drain);
        let drained = AssertUnwindSafe(self.host.drain()).catch_unwind();
        if drained.await.is_err() {
            tracing::error!("the host panicked in drain()");
        }
    }

    /// Stops all workloads and refuses further starts.
    pub fn shut_down(self: &Arc<Self>) {
        self.step(Event::Shutdown);
    }

    /// Waits until the host has released all runs. Cancel safe.
    pub async fn wait_until_idle(&self) {
        loop {
            let stepped = self.stepped.notified();
            if self.lock().lifecycle.is_idle() {
                return;
            }
            stepped.await;
        }
    }

    /// Sends ticks to the lifecycle when they are due. Never returns.
    pub async fn run_ticks(self: Arc<Self>) {
        loop {
            let stepped = self.stepped.notified();
            let due = self.lock().lifecycle.next_tick_at();
            match due {
                None => stepped.await,
                Some(due) => tokio::select! {
                    () = stepped => {}
                    () = tokio::time::sleep_until(self.started_at + due) => self.step(Event::Tick),
                },
            }
        }
    }

    fn request(
        self: &Arc<Self>,
        workload: Option<Workload>,
        event: impl FnOnce(RequestId) -> Event,
    ) -> oneshot::Receiver<Status> {
        let (caller, reply) = oneshot::channel();
        let mut state = self.lock();
        state.latest_request += 1;
        let request = RequestId(state.latest_request);
        state.callers.insert(request, caller);
        if let Some(workload) = workload {
            state.requested_workloads.insert(request, workload);
        }
        self.step_locked(&mut state, event(request));
        state.requested_workloads.remove(&request);
        drop(state);
        self.stepped.notify_waiters();
        reply
    }

    fn step(self: &Arc<Self>, event: Event) {
        self.step_locked(&mut self.lock(), event);
        self.stepped.notify_waiters();
    }

    fn step_locked(self: &Arc<Self>, state: &mut State, event: Event) {
        let now: Duration = self.started_at.elapsed();
        if let Event::Released { run } = &event {
            state.stop_tokens.remove(run);
        }
        for action in state.lifecycle.step(now, event) {
            match action {
                Action::Reply { request, status } => {
                    if let Some(caller) = state.callers.remove(&request) {
                        let _ = caller.send(status);
                    }
                }
                Action::StartRun { request, run, id } => {
                    let Some(workload) = state.requested_workloads.remove(&request) else {
                        continue;
                    };
                    let stop = CancellationToken::new();
                    state.stop_tokens.insert(run, stop.clone());
                    let (reporter, reports) = StatusReporter::channel();
                    let request = StartRequest {
                        id,
                        workload,
                        reporter,
                    };
                    self.tasks
                        .spawn(self.clone().run(run, request, reports, stop));
                }
                Action::StopRun { run } => {
                    if let Some(stop) = state.stop_tokens.get(&run) {
                        stop.cancel();
                    }
                }
            }
        }
    }

    /// Executes one run, from its start until the host has released it.
    async fn run(
        self: Arc<Self>,
        run: RunId,
        request: StartRequest,
        mut reports: StatusReports,
        stop: CancellationToken,
    ) {
        match self.start_instance(run, request, &mut reports, &stop).await {
            StartOutcome::Started(instance) => {
                self.step(Event::Started { run });
                self.forward_reports(run, reports, &stop).await;
                let stopped = AssertUnwindSafe(self.host.stop(instance)).catch_unwind();
                if stopped.await.is_err() {
                    tracing::error!("the host panicked in stop()");
                }
            }
            StartOutcome::Failed(error) => self.step(Event::StartFailed { run, error }),
            StartOutcome::Cancelled => {}
        }
        self.step(Event::Released { run });
    }

    async fn start_instance(
        self: &Arc<Self>,
        run: RunId,
        request: StartRequest,
        reports: &mut StatusReports,
        stop: &CancellationToken,
    ) -> StartOutcome<H::Instance> {
        let start = AssertUnwindSafe(self.host.start(request)).catch_unwind();
        tokio::pin!(start);
        let mut reporting = true;
        let result = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return StartOutcome::Cancelled,
                report = reports.next(), if reporting => match report {
                    Some(report) => self.step(Event::Reported { run, report }),
                    None => reporting = false,
                },
                result = &mut start => break result,
            }
        };
        // A report made before the start returned takes effect before the result of the start.
        if let Some(Some(report)) = reports.next().now_or_never() {
            self.step(Event::Reported { run, report });
        }
        match result {
            Ok(Ok(instance)) => StartOutcome::Started(instance),
            Ok(Err(error)) => StartOutcome::Failed(error),
            Err(_panic) => {
                tracing::error!("the host panicked in start()");
                let error = StartError::new("the host failed while it started the workload");
                StartOutcome::Failed(error.non_retryable())
            }
        }
    }

    /// Forwards the reports of the workload until `stop` is cancelled.
    async fn forward_reports(
        self: &Arc<Self>,
        run: RunId,
        mut reports: StatusReports,
        stop: &CancellationToken,
    ) {
        loop {
            let report = tokio::select! {
                () = stop.cancelled() => return,
                report = reports.next() => report,
            };
            match report {
                Some(report) => self.step(Event::Reported { run, report }),
                None => return stop.cancelled().await,
            }
        }
    }

    /// No code of the host author runs under this lock, so a poisoned lock is still consistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outcome of a start.
enum StartOutcome<I> {
    Started(I),
    Failed(StartError),
    Cancelled,
}
