//! Carries out what the table of ids decides: starts, ends and watches runs, and answers callers.

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
use crate::host::{Host, Refusal, Reporter, Reports, Start};
use crate::reply::Status;

/// All workloads of one host.
pub(super) struct Runs<H: Host> {
    host: Arc<H>,
    tasks: Tasks,
    began: Instant,
    table: Mutex<Table>,
    /// Told after each step: the next tick may have moved, or nothing may be left.
    stepped: Notify,
}

#[derive(Default)]
struct Table {
    lifecycle: Lifecycle,
    last_request: u64,
    callers: HashMap<RequestId, oneshot::Sender<Status>>,
    workloads: HashMap<RequestId, Workload>,
    ends: HashMap<RunId, CancellationToken>,
}

impl<H: Host> Runs<H> {
    pub fn new(host: Arc<H>, tasks: Tasks) -> Arc<Self> {
        let (table, stepped) = (Mutex::default(), Notify::new());
        Arc::new(Self {
            host,
            tasks,
            began: Instant::now(),
            table,
            stepped,
        })
    }

    /// Starts a workload, unless its id is known. The answer is the outcome, or STARTING when that
    /// takes long.
    pub fn start(self: &Arc<Self>, id: String, workload: Workload) -> oneshot::Receiver<Status> {
        self.ask(Some(workload), |request| Event::Start { request, id })
    }

    pub fn stop(self: &Arc<Self>, id: String) -> oneshot::Receiver<Status> {
        self.ask(None, |request| Event::Stop { request, id })
    }

    pub fn status(self: &Arc<Self>, id: String) -> oneshot::Receiver<Status> {
        self.ask(None, |request| Event::Status { request, id })
    }

    pub fn workload_count(&self) -> u64 {
        self.lock().lifecycle.workload_count()
    }

    /// Ends everything, begins nothing more.
    pub fn shut_down(self: &Arc<Self>) {
        self.step(Event::Shutdown);
    }

    /// Waits until nothing is left in the host. Cancel safe.
    pub async fn idle(&self) {
        loop {
            let stepped = self.stepped.notified();
            if self.lock().lifecycle.is_idle() {
                return;
            }
            stepped.await;
        }
    }

    /// Tells the table of the time when it wants to know, for ever.
    pub async fn tick(self: Arc<Self>) {
        loop {
            let stepped = self.stepped.notified();
            let due = self.lock().lifecycle.next_tick();
            match due {
                None => stepped.await,
                Some(due) => tokio::select! {
                    () = stepped => {}
                    () = tokio::time::sleep_until(self.began + due) => self.step(Event::Tick),
                },
            }
        }
    }

    fn ask(
        self: &Arc<Self>,
        workload: Option<Workload>,
        event: impl FnOnce(RequestId) -> Event,
    ) -> oneshot::Receiver<Status> {
        let (caller, answer) = oneshot::channel();
        let mut table = self.lock();
        table.last_request += 1;
        let request = RequestId(table.last_request);
        table.callers.insert(request, caller);
        if let Some(workload) = workload {
            table.workloads.insert(request, workload);
        }
        self.step_locked(&mut table, event(request));
        table.workloads.remove(&request);
        drop(table);
        self.stepped.notify_waiters();
        answer
    }

    fn step(self: &Arc<Self>, event: Event) {
        self.step_locked(&mut self.lock(), event);
        self.stepped.notify_waiters();
    }

    fn step_locked(self: &Arc<Self>, table: &mut Table, event: Event) {
        let now: Duration = self.began.elapsed();
        if let Event::Gone { run } = &event {
            table.ends.remove(run);
        }
        for action in table.lifecycle.step(now, event) {
            match action {
                Action::Reply { request, status } => {
                    if let Some(caller) = table.callers.remove(&request) {
                        let _ = caller.send(status);
                    }
                }
                Action::Begin { request, run, id } => {
                    let Some(workload) = table.workloads.remove(&request) else {
                        continue;
                    };
                    let end = CancellationToken::new();
                    table.ends.insert(run, end.clone());
                    let (reporter, reports) = Reporter::channel();
                    let start = Start {
                        id,
                        workload,
                        reporter,
                    };
                    self.tasks.spawn(self.clone().run(run, start, reports, end));
                }
                Action::End { run } => {
                    if let Some(end) = table.ends.get(&run) {
                        end.cancel();
                    }
                }
            }
        }
    }

    /// One run from its start to the moment when nothing of it is left.
    async fn run(
        self: Arc<Self>,
        run: RunId,
        start: Start,
        mut reports: Reports,
        end: CancellationToken,
    ) {
        match self.bring_up(run, start, &mut reports, &end).await {
            Brought::Up(instance) => {
                self.step(Event::Up { run });
                self.watch(run, reports, &end).await;
                let stop = AssertUnwindSafe(self.host.stop(instance)).catch_unwind();
                if stop.await.is_err() {
                    tracing::error!("the host panicked while it stopped a workload");
                }
            }
            Brought::Refused(refusal) => self.step(Event::Refused { run, refusal }),
            Brought::Cancelled => {}
        }
        self.step(Event::Gone { run });
    }

    async fn bring_up(
        self: &Arc<Self>,
        run: RunId,
        start: Start,
        reports: &mut Reports,
        end: &CancellationToken,
    ) -> Brought<H::Instance> {
        let start = AssertUnwindSafe(self.host.start(start)).catch_unwind();
        tokio::pin!(start);
        let mut listening = true;
        let outcome = loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return Brought::Cancelled,
                report = reports.next(), if listening => match report {
                    Some(report) => self.step(Event::Reported { run, report }),
                    None => listening = false,
                },
                outcome = &mut start => break outcome,
            }
        };
        // What was reported before the end of the start comes before it.
        if let Some(Some(report)) = reports.next().now_or_never() {
            self.step(Event::Reported { run, report });
        }
        match outcome {
            Ok(Ok(instance)) => Brought::Up(instance),
            Ok(Err(refusal)) => Brought::Refused(refusal),
            Err(_panic) => {
                tracing::error!("the host panicked while it started a workload");
                let refusal = Refusal::new("the host failed while it started the workload");
                Brought::Refused(refusal.after_guest_ran())
            }
        }
    }

    /// Passes on what the workload reports until it is to end.
    async fn watch(self: &Arc<Self>, run: RunId, mut reports: Reports, end: &CancellationToken) {
        loop {
            let report = tokio::select! {
                () = end.cancelled() => return,
                report = reports.next() => report,
            };
            match report {
                Some(report) => self.step(Event::Reported { run, report }),
                None => return end.cancelled().await,
            }
        }
    }

    /// No code of the host's author runs under this lock, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a start.
enum Brought<I> {
    Up(I),
    Refused(Refusal),
    Cancelled,
}
