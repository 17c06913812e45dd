//! Watching a fleet: receives heartbeats, sends probes, and applies the decisions of liveness.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::BusyUpdate;
use super::source::{HeartbeatSource, HostConnector, Source};
use super::view::Views;
use crate::bus::ConnectionState;
use crate::scheduler::liveness::{Action, Event, Liveness};
use crate::scheduler::{ClientError, HostClient, LivenessOptions, Timeouts};

/// Maximum number of hosts in a fleet. Heartbeats of further hosts are ignored, because they are
/// probably forged.
const MAX_HOSTS: usize = 10_000;

/// Capacity of the queue of probe results; a probe waits while it is full.
const MAX_RESULTS: usize = 1024;

/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Workload ID in the status request of a probe. It need not exist, because only the arrival of a
/// reply counts.
const PROBE_ID: &str = "berth-probe";

/// The task behind a fleet.
pub(super) struct Watcher {
    connector: HostConnector,
    views: Arc<Views>,
    liveness: Liveness,
    started_at: Instant,
    heartbeats: HeartbeatSource,
    connection: watch::Receiver<ConnectionState>,
    /// State of the connection at the most recent tick.
    previous_connection: ConnectionState,
    updates: mpsc::Receiver<BusyUpdate>,
    /// Starts in flight by host, with their deadlines.
    starts: HashMap<String, HashMap<uuid::Uuid, Instant>>,
    result_sender: mpsc::Sender<Event>,
    results: mpsc::Receiver<Event>,
}

impl Watcher {
    pub fn new(
        source: Source,
        options: LivenessOptions,
        views: Arc<Views>,
        updates: mpsc::Receiver<BusyUpdate>,
    ) -> Self {
        let (result_sender, results) = mpsc::channel(MAX_RESULTS);
        Self {
            connection: source.connection,
            connector: source.connector,
            views,
            liveness: Liveness::new(options),
            started_at: Instant::now(),
            heartbeats: source.heartbeats,
            previous_connection: ConnectionState::default(),
            updates,
            starts: HashMap::new(),
            result_sender,
            results,
        }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(Liveness::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heartbeat = self.heartbeats.next() => match heartbeat {
                    Some((heartbeat, url)) => self.on_heartbeat(heartbeat, url).await,
                    None => return tracing::warn!("end of heartbeats, no longer watching"),
                },
                Some(event) = self.results.recv() => self.step(event),
                Some(update) = self.updates.recv() => self.on_busy_update(update),
                _ = ticks.tick() => {
                    self.check_connection();
                    self.step(Event::Tick);
                }
            }
        }
    }

    async fn on_heartbeat(&mut self, heartbeat: HostHeartbeat, url: Option<String>) {
        let host_id = heartbeat.id.clone();
        if self.views.get(&host_id).is_none() && self.liveness.len() >= MAX_HOSTS {
            return tracing::warn!(host_id, "too many hosts, heartbeat ignored");
        }
        if let Some(url) = url {
            self.connector.update(&host_id, &url).await;
        }
        self.views.apply_heartbeat(heartbeat);
        self.step(Event::Heartbeat { host: host_id });
    }

    fn on_busy_update(&mut self, update: BusyUpdate) {
        let host = update.host;
        let starts = self.starts.entry(host.clone()).or_default();
        match update.until {
            Some(until) => starts.insert(update.start, until),
            None => starts.remove(&update.start),
        };
        let latest = starts.values().max().copied();
        if latest.is_none() {
            self.starts.remove(&host);
        }
        if update.until.is_none() {
            self.step(Event::Idle { host: host.clone() });
        }
        if let Some(latest) = latest {
            let until = latest.saturating_duration_since(self.started_at);
            self.step(Event::BusyUntil { host, until });
        }
    }

    /// Passes on the changes of the connection since the previous tick. A connection that was
    /// established and lost again in between yields two events.
    fn check_connection(&mut self) {
        let current = *self.connection.borrow();
        let previous = std::mem::replace(&mut self.previous_connection, current);
        if current.generation != previous.generation {
            self.step(Event::Connected);
        }
        if !current.connected && current != previous {
            self.step(Event::Disconnected);
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.liveness.step(self.started_at.elapsed(), event) {
            match action {
                Action::Probe { host } => self.probe(host),
                Action::SetHealth {
                    host,
                    health,
                    reason,
                } => self.views.set_health(host, health, reason),
                Action::Forget { host } => self.views.forget(&host),
            }
        }
    }

    fn probe(&self, host: String) {
        let (client, results) = (self.connector.client(&host), self.result_sender.clone());
        tokio::spawn(async move {
            let event = probe(client, host).await;
            // The watcher may have ended in the meantime.
            let _ = results.send(event).await;
        });
    }
}

/// Probes with `status`, because `heartbeat` would disturb the load measurement of a `wash host`.
async fn probe(client: Result<HostClient, ClientError>, host: String) -> Event {
    let timeouts = Timeouts {
        status: PROBE_TIMEOUT,
        ..Timeouts::default()
    };
    let result = match client {
        Ok(client) => client
            .with_timeouts(timeouts)
            .status(PROBE_ID)
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) | Err(ClientError::Refused { .. } | ClientError::InvalidResponse { .. }) => {
            Event::ProbeReplied { host }
        }
        Err(ClientError::NoResponders) => Event::NoResponders { host },
        Err(_) => Event::ProbeTimedOut { host },
    }
}
