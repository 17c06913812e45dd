//! The one loop: what happens goes into the core, what the core wants is carried out.

mod request;
mod work;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_sdk::bus::{BusError, Link};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::work::{Done, Worker};
use crate::core::{Action, Event, Options, Scheduler};
use crate::health::Pulse;
use crate::metrics::Metrics;
use crate::store::{Store, StoreEvent};
use crate::ways::{Heard, Ways};

/// How long writes that are under way may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// The longest pause of the loop, so that the health endpoint can tell a loop that rests from one that is stuck.
const REST_MAX: Duration = Duration::from_secs(1);
/// The shortest pause before the core is told that time has passed: a core that is never content must not keep
/// everything else from its turn.
const REST_MIN: Duration = Duration::from_millis(1);

/// How often hosts and workloads are counted for the metrics, where these are served.
const CENSUS_EVERY: Duration = Duration::from_secs(2);

/// What the loop works with.
pub struct Parts<S> {
    /// Where desired state and status are.
    pub store: Arc<S>,
    /// The ways to the hosts.
    pub ways: Ways,
    /// What the core goes by; the epoch is set here.
    pub options: Options,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the loop shows that it is well.
    pub pulse: Arc<Pulse>,
}

/// Why the loop ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShellError {
    /// The store is no longer there; the log says why.
    #[error("the store has ended")]
    StoreEnded,
    /// Heartbeats cannot be listened to.
    #[error("cannot listen to heartbeats")]
    Heartbeats(#[source] BusError),
    /// The connection to the broker is closed for good.
    #[error("the connection to the broker was closed")]
    BusClosed,
}

/// Schedules until `shutdown` is cancelled, whenever this process is the one that acts. Every term begins with a new
/// core and what the store holds.
pub async fn run<S: Store>(parts: Parts<S>, shutdown: CancellationToken) -> Result<(), ShellError> {
    let mut leadership = parts.store.leadership();
    let result = loop {
        let led = led(&mut leadership, &parts.pulse);
        match shutdown.run_until_cancelled(led).await {
            None => break Ok(()),
            Some(false) => break Err(ShellError::StoreEnded),
            Some(true) => tracing::info!("this scheduler acts"),
        }
        parts.metrics.term_began();
        let term = Term::begin(&parts, leadership.clone()).await;
        match term {
            Ok(term) => match term.run(&parts, &shutdown).await {
                Ok(End::Shutdown) => break Ok(()),
                Ok(End::LeadershipLost) => tracing::warn!("another scheduler acts now"),
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    if tokio::time::timeout(LAST_WRITES, parts.store.close())
        .await
        .is_err()
    {
        tracing::warn!("the store was not let go of in order");
    }
    result
}

/// Why a term ended in order.
enum End {
    Shutdown,
    LeadershipLost,
}

/// One time of being the scheduler that acts.
struct Term<S> {
    core: Scheduler,
    began: Instant,
    counted_at: Option<Instant>,
    heartbeats: Heard,
    objects: mpsc::Receiver<StoreEvent>,
    link: watch::Receiver<Link>,
    seen: Link,
    leadership: watch::Receiver<bool>,
    worker: Worker<S>,
    calls: JoinSet<Done>,
    writes: JoinSet<Done>,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
}

impl<S: Store> Term<S> {
    async fn begin(
        parts: &Parts<S>,
        leadership: watch::Receiver<bool>,
    ) -> Result<Self, ShellError> {
        let heartbeats = parts.ways.heartbeats().await;
        let heartbeats = heartbeats.map_err(ShellError::Heartbeats)?;
        let mut options = parts.options.clone();
        options.epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            core: Scheduler::new(options),
            began: Instant::now(),
            counted_at: None,
            heartbeats,
            objects: parts.store.watch(),
            link: parts.ways.link(),
            seen: Link::default(),
            leadership,
            worker: Worker::new(
                parts.store.clone(),
                parts.ways.clone(),
                parts.metrics.clone(),
            ),
            calls: JoinSet::new(),
            writes: JoinSet::new(),
            metrics: parts.metrics.clone(),
            pulse: parts.pulse.clone(),
        })
    }

    /// Whatever is under way when it ends is dropped; the next term finds out what became of it.
    async fn run(
        mut self,
        parts: &Parts<S>,
        shutdown: &CancellationToken,
    ) -> Result<End, ShellError> {
        let end = self.turn(shutdown).await;
        self.pulse.stand_by();
        if matches!(end, Ok(End::Shutdown)) {
            self.step(Event::Ending);
            self.calls.abort_all();
            self.finish_writes().await;
        }
        parts.metrics.term_ended();
        end
    }

    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<End, ShellError> {
        self.look_at_link();
        loop {
            self.pulse.beat();
            self.count();
            let rest = self.rest();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(End::Shutdown),
                lost = lost(&mut self.leadership) => return match lost {
                    true => Ok(End::LeadershipLost),
                    false => Err(ShellError::StoreEnded),
                },
                event = self.objects.recv() => match event {
                    Some(event) => {
                        if event == StoreEvent::Synced {
                            self.pulse.synced();
                        }
                        self.step(event.into());
                    }
                    None => return Err(ShellError::StoreEnded),
                },
                heartbeat = self.heartbeats.next() => match heartbeat {
                    Some(heartbeat) => self.step(Event::Heartbeat(Box::new(heartbeat))),
                    None => return Err(ShellError::BusClosed),
                },
                Some(done) = self.calls.join_next() => self.done(done),
                Some(done) = self.writes.join_next() => self.done(done),
                changed = self.link.changed() => match changed {
                    Ok(()) => self.look_at_link(),
                    Err(_) => return Err(ShellError::BusClosed),
                },
                () = tokio::time::sleep(rest) => self.tick(),
            }
        }
    }

    fn count(&mut self) {
        let is_due = |at: Instant| at.elapsed() >= CENSUS_EVERY;
        if self.metrics.are_served() && self.counted_at.is_none_or(is_due) {
            self.counted_at = Some(Instant::now());
            self.metrics.counted(self.core.census());
        }
    }

    /// Until the core wants to be told the time.
    fn rest(&self) -> Duration {
        let now = self.began.elapsed();
        let wake = self.core.next_wake().unwrap_or(Duration::MAX);
        wake.saturating_sub(now).clamp(REST_MIN, REST_MAX)
    }

    fn tick(&mut self) {
        let due = self.core.next_wake();
        if due.is_some_and(|due| due <= self.began.elapsed()) {
            self.step(Event::Tick);
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Event(event)) => self.step(event),
            Ok(Done::Nothing) => {}
            Err(error) => tracing::error!(%error, "a task of the scheduler failed"),
        }
    }

    /// A connection that went and came back between two looks is two events.
    fn look_at_link(&mut self) {
        let link = *self.link.borrow_and_update();
        let seen = std::mem::replace(&mut self.seen, link);
        if seen.connected && link.connects != seen.connects {
            self.step(Event::BusDown);
        }
        if link.connects != seen.connects {
            self.step(Event::BusUp);
        }
        if !link.connected && (seen.connected || link.connects != seen.connects) {
            self.step(Event::BusDown);
        }
        self.metrics.set_connected(link.connected);
    }

    fn step(&mut self, event: Event) {
        let began = Instant::now();
        let actions = self.core.step(self.began.elapsed(), event);
        self.metrics.stepped(began.elapsed());
        for action in actions {
            match action {
                Action::Call { .. } => self.worker.spawn(action, &mut self.calls),
                Action::Write { .. } | Action::Note(_) => {
                    self.worker.spawn(action, &mut self.writes);
                }
            }
        }
    }

    /// What was being written when the end came is still written, so that the next process finds it.
    async fn finish_writes(&mut self) {
        let all = async { while self.writes.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WRITES, all).await.is_err() {
            tracing::warn!("writes that were under way are given up");
        }
    }
}

/// Waits until this process acts; `false` when the store has ended.
async fn led(leadership: &mut watch::Receiver<bool>, pulse: &Pulse) -> bool {
    loop {
        pulse.beat();
        let waiting = leadership.wait_for(|leads| *leads);
        if let Ok(waited) = tokio::time::timeout(REST_MAX, waiting).await {
            return waited.is_ok();
        }
        // It sees the store's manifests only when it acts, and could do so at once.
        pulse.stand_by();
    }
}

/// Waits until this process no longer acts; `false` when the store has ended.
async fn lost(leadership: &mut watch::Receiver<bool>) -> bool {
    leadership.wait_for(|leads| !leads).await.is_ok()
}
