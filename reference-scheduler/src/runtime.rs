//! The event loop around the core: feeds it events and executes the actions that it returns.

mod executor;
mod resolve;
mod unanswered_starts;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_sdk::bus::{BusError, ConnectionState};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::executor::{Executor, TaskOutput};
use crate::core::{Action, Event, Options, Scheduler};
use crate::health::HealthProbe;
use crate::metrics::Metrics;
use crate::store::{Store, StoreEvent};
use crate::transport::{HeartbeatStream, HostTransport};

/// Deadline of the writes in flight, and of closing the store, at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest sleep of the loop, so that the health endpoint can distinguish an idle loop from a stuck
/// one.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Shortest sleep of the loop, because a core that is always due must not starve other events.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Deviation of timestamps from the clock that is corrected: they have whole seconds.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Interval between counts of hosts and workloads, if metrics are served.
const STATS_INTERVAL: Duration = Duration::from_secs(2);

/// The dependencies of the loop.
pub struct Dependencies<S> {
    /// Desired state and status.
    pub store: Arc<S>,
    /// Transport to the hosts.
    pub transport: HostTransport,
    /// Options of the core; each term sets `epoch`.
    pub options: Options,
    /// Counters and gauges of the process.
    pub metrics: Arc<Metrics>,
    /// Liveness and readiness of the loop.
    pub health: Arc<HealthProbe>,
}

/// Error that ends the loop before `shutdown` is cancelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The store has failed; the log has the reason.
    #[error("the store has failed")]
    StoreFailed,
    /// The subscription to heartbeats failed.
    #[error("cannot subscribe to heartbeats")]
    Heartbeats(#[source] BusError),
    /// The connection to NATS is closed and will not be restored.
    #[error("the connection to NATS was closed")]
    BusClosed,
}

/// Runs the scheduler whenever this process is the leader, until `shutdown` is cancelled.
///
/// Every term as leader begins with a new core and the objects in the store.
pub async fn run<S: Store>(
    dependencies: Dependencies<S>,
    shutdown: CancellationToken,
) -> Result<(), RuntimeError> {
    let mut leadership = dependencies.store.leadership();
    let problems = dependencies.store.problems();
    dependencies.health.watch_problems(problems.clone());
    dependencies.metrics.watch_problems(problems);
    let result = loop {
        let elected = elected(&mut leadership, &dependencies.health);
        match shutdown.run_until_cancelled(elected).await {
            None => break Ok(()),
            Some(false) => break Err(RuntimeError::StoreFailed),
            Some(true) => tracing::info!("this scheduler is the leader"),
        }
        dependencies.metrics.start_term();
        let term = Term::start(&dependencies, leadership.clone()).await;
        match term {
            Ok(term) => match term.run(&dependencies, &shutdown).await {
                Ok(TermEnd::Shutdown) => break Ok(()),
                Ok(TermEnd::LeadershipLost) => tracing::warn!("lost leadership"),
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, dependencies.store.close())
        .await
        .is_err()
    {
        tracing::warn!("the store was not closed cleanly: timed out");
    }
    result
}

/// Reason why a term ended without an error.
enum TermEnd {
    Shutdown,
    LeadershipLost,
}

/// One period during which this process is the leader.
struct Term<S> {
    core: Scheduler,
    started_at: Instant,
    stats_at: Option<Instant>,
    heartbeats: HeartbeatStream,
    objects: mpsc::Receiver<StoreEvent>,
    connection: watch::Receiver<ConnectionState>,
    last_connection: ConnectionState,
    leadership: watch::Receiver<bool>,
    executor: Executor<S>,
    calls: JoinSet<TaskOutput>,
    writes: JoinSet<TaskOutput>,
    metrics: Arc<Metrics>,
    health: Arc<HealthProbe>,
}

impl<S: Store> Term<S> {
    async fn start(
        dependencies: &Dependencies<S>,
        leadership: watch::Receiver<bool>,
    ) -> Result<Self, RuntimeError> {
        let heartbeats = dependencies.transport.heartbeats().await;
        let heartbeats = heartbeats.map_err(RuntimeError::Heartbeats)?;
        let mut options = dependencies.options.clone();
        options.epoch = unix_time();
        Ok(Self {
            core: Scheduler::new(options),
            started_at: Instant::now(),
            stats_at: None,
            heartbeats,
            objects: dependencies.store.watch(),
            connection: dependencies.transport.connection_state(),
            last_connection: ConnectionState::default(),
            leadership,
            executor: Executor::new(
                dependencies.store.clone(),
                dependencies.transport.clone(),
                dependencies.metrics.clone(),
            ),
            calls: JoinSet::new(),
            writes: JoinSet::new(),
            metrics: dependencies.metrics.clone(),
            health: dependencies.health.clone(),
        })
    }

    /// Runs the term. Calls and writes in flight at its end are dropped; the next term reconciles
    /// their results.
    async fn run(
        mut self,
        dependencies: &Dependencies<S>,
        shutdown: &CancellationToken,
    ) -> Result<TermEnd, RuntimeError> {
        let end = self.event_loop(shutdown).await;
        self.health.set_standby();
        if matches!(end, Ok(TermEnd::Shutdown)) {
            self.step(Event::ShuttingDown);
            self.calls.abort_all();
            self.finish_writes().await;
        }
        dependencies.metrics.end_term();
        end
    }

    async fn event_loop(&mut self, shutdown: &CancellationToken) -> Result<TermEnd, RuntimeError> {
        self.update_connection();
        loop {
            self.health.record_progress();
            self.update_stats();
            self.update_clock(unix_time());
            let sleep = self.sleep();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(TermEnd::Shutdown),
                lost = lost(&mut self.leadership) => return if lost {
                    Ok(TermEnd::LeadershipLost)
                } else {
                    Err(RuntimeError::StoreFailed)
                },
                event = self.objects.recv() => match event {
                    Some(event) => {
                        if event == StoreEvent::Synced {
                            self.health.set_synced();
                        }
                        self.step(event.into());
                    }
                    None => return Err(RuntimeError::StoreFailed),
                },
                heartbeat = self.heartbeats.next() => match heartbeat {
                    Some(heartbeat) => self.step(Event::Heartbeat(Box::new(heartbeat))),
                    None => return Err(RuntimeError::BusClosed),
                },
                Some(output) = self.calls.join_next() => self.finish_task(output),
                Some(output) = self.writes.join_next() => self.finish_task(output),
                changed = self.connection.changed() => match changed {
                    Ok(()) => self.update_connection(),
                    Err(_) => return Err(RuntimeError::BusClosed),
                },
                () = tokio::time::sleep(sleep) => self.tick(),
            }
        }
    }

    fn update_stats(&mut self) {
        let is_due = |at: Instant| at.elapsed() >= STATS_INTERVAL;
        if self.metrics.are_served() && self.stats_at.is_none_or(is_due) {
            self.stats_at = Some(Instant::now());
            self.metrics.set_stats(self.core.stats());
        }
    }

    /// Reports to the core that the clock was set, for example because it was wrong at the start
    /// and has been synchronized, or because the machine was suspended.
    fn update_clock(&mut self, unix_time: Duration) {
        let expected = self.core.unix_time_at(self.started_at.elapsed());
        if unix_time.abs_diff(expected) > CLOCK_TOLERANCE {
            self.step(Event::ClockChanged { unix_time });
        }
    }

    /// Returns the time until the next `Tick` of the core is due.
    fn sleep(&self) -> Duration {
        let now = self.started_at.elapsed();
        let wake = self.core.next_wake_at().unwrap_or(Duration::MAX);
        wake.saturating_sub(now).clamp(SLEEP_MIN, SLEEP_MAX)
    }

    fn tick(&mut self) {
        let due = self.core.next_wake_at();
        if due.is_some_and(|due| due <= self.started_at.elapsed()) {
            self.step(Event::Tick);
        }
    }

    fn finish_task(&mut self, output: Result<TaskOutput, JoinError>) {
        match output {
            Ok(TaskOutput::Event(event)) => self.step(event),
            Ok(TaskOutput::Nothing) => {}
            Err(error) => tracing::error!(%error, "a task of the scheduler failed"),
        }
    }

    /// Reports changes of the connection to the core. A connection that was lost and restored since
    /// the previous call is two events.
    fn update_connection(&mut self) {
        let new = *self.connection.borrow_and_update();
        let old = std::mem::replace(&mut self.last_connection, new);
        if old.connected && new.generation != old.generation {
            self.step(Event::BusDisconnected);
        }
        if new.generation != old.generation {
            self.step(Event::BusConnected);
        }
        if !new.connected && (old.connected || new.generation != old.generation) {
            self.step(Event::BusDisconnected);
        }
        self.metrics.set_connected(new.connected);
    }

    fn step(&mut self, event: Event) {
        let began = Instant::now();
        let actions = self.core.step(self.started_at.elapsed(), event);
        self.metrics.record_step(began.elapsed());
        for action in actions {
            match action {
                Action::Call { .. } => self.executor.spawn(action, &mut self.calls),
                Action::Write { .. } | Action::RecordEvent(_) => {
                    self.executor.spawn(action, &mut self.writes);
                }
            }
        }
    }

    /// Waits for the writes in flight, so that the next process finds their results.
    async fn finish_writes(&mut self) {
        let all = async { while self.writes.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
            tracing::warn!("dropped writes in flight: timed out");
        }
    }
}

fn unix_time() -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default()
}

/// Waits until this process is the leader; returns `false` if the store has failed.
async fn elected(leadership: &mut watch::Receiver<bool>, health: &HealthProbe) -> bool {
    loop {
        health.record_progress();
        let waiting = leadership.wait_for(|is_leader| *is_leader);
        if let Ok(waited) = tokio::time::timeout(SLEEP_MAX, waiting).await {
            return waited.is_ok();
        }
        // A standby reads the store only once it is elected, but can take over at any time.
        health.set_standby();
    }
}

/// Waits until this process is no longer the leader; returns `false` if the store has failed.
async fn lost(leadership: &mut watch::Receiver<bool>) -> bool {
    leadership.wait_for(|is_leader| !is_leader).await.is_ok()
}
