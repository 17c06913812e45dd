//! Listens, probes, keeps time, and lets liveness judge.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::Note;
use super::side::{Heard, Side, Way};
use super::view::Views;
use crate::bus::Link;
use crate::scheduler::liveness::{Action, Event, Liveness};
use crate::scheduler::{ClientError, HostClient, LivenessOptions, Timeouts};

/// Hosts that are kept in view; beyond this somebody is making them up.
const MAX_HOSTS: usize = 10_000;

/// Results of probes that wait to be taken in; a probe waits when there are more.
const MAX_RESULTS: usize = 1024;

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The id that probes ask for. No workload should be called so; if one is, nothing happens to it.
const PROBE_ID: &str = "berth-probe";

/// The loop behind a fleet.
pub(super) struct Watch {
    side: Side,
    views: Arc<Views>,
    liveness: Liveness,
    began: Instant,
    heartbeats: Heard,
    link: watch::Receiver<Link>,
    seen: Link,
    notes: mpsc::Receiver<Note>,
    /// The starts that hosts owe the answer to, and until when they may.
    owed: HashMap<String, HashMap<uuid::Uuid, Instant>>,
    results: mpsc::Sender<Event>,
    probed: mpsc::Receiver<Event>,
}

impl Watch {
    pub fn begin(
        (side, heartbeats, link): Way,
        options: LivenessOptions,
        views: Arc<Views>,
        notes: mpsc::Receiver<Note>,
    ) -> Self {
        let (results, probed) = mpsc::channel(MAX_RESULTS);
        Self {
            link,
            side,
            views,
            liveness: Liveness::new(options),
            began: Instant::now(),
            heartbeats,
            seen: Link::default(),
            notes,
            owed: HashMap::new(),
            results,
            probed,
        }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(Liveness::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heartbeat = self.heartbeats.next() => match heartbeat {
                    Some((heartbeat, url)) => self.heartbeat(heartbeat, url).await,
                    None => return tracing::warn!("no heartbeats can come any more; no longer watching"),
                },
                Some(event) = self.probed.recv() => self.step(event),
                Some(note) = self.notes.recv() => self.note(note),
                _ = ticks.tick() => {
                    self.look_at_link();
                    self.step(Event::Tick);
                }
            }
        }
    }

    async fn heartbeat(&mut self, heartbeat: HostHeartbeat, url: Option<String>) {
        let host_id = heartbeat.id.clone();
        if self.views.get(&host_id).is_none() && self.liveness.len() >= MAX_HOSTS {
            return tracing::warn!(host_id, "there are too many hosts; one is left out");
        }
        if let Some(url) = url {
            self.side.learn(&host_id, &url).await;
        }
        self.views.beat(heartbeat);
        self.step(Event::Heartbeat { host: host_id });
    }

    fn note(&mut self, note: Note) {
        let host = note.host;
        let owed = self.owed.entry(host.clone()).or_default();
        match note.until {
            Some(until) => owed.insert(note.start, until),
            None => owed.remove(&note.start),
        };
        let latest = owed.values().max().copied();
        if latest.is_none() {
            self.owed.remove(&host);
        }
        if note.until.is_none() {
            self.step(Event::Idle { host: host.clone() });
        }
        if let Some(latest) = latest {
            let until = latest.saturating_duration_since(self.began);
            self.step(Event::BusyUntil { host, until });
        }
    }

    /// A connection that went and came back between two looks is two events.
    fn look_at_link(&mut self) {
        let link = *self.link.borrow();
        let seen = std::mem::replace(&mut self.seen, link);
        if link.connects != seen.connects {
            self.step(Event::LinkUp);
        }
        if !link.connected && link != seen {
            self.step(Event::LinkDown);
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.liveness.step(self.began.elapsed(), event) {
            match action {
                Action::Probe { host } => self.probe(host),
                Action::Tell {
                    host,
                    health,
                    reason,
                } => self.views.judge(host, health, reason),
                Action::Forget { host } => self.views.forget(&host),
            }
        }
    }

    fn probe(&self, host: String) {
        let (client, results) = (self.side.client(&host), self.results.clone());
        tokio::spawn(async move {
            let event = probe(client, host).await;
            // The watch may have ended meanwhile.
            let _ = results.send(event).await;
        });
    }
}

/// `status` and not `heartbeat`, which disturbs the load that a `wash host` measures.
async fn probe(client: Result<HostClient, ClientError>, host: String) -> Event {
    let timeouts = Timeouts {
        status: PROBE_TIMEOUT,
        ..Timeouts::default()
    };
    let asked = match client {
        Ok(client) => client
            .with_timeouts(timeouts)
            .status(PROBE_ID)
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) | Err(ClientError::Refused { .. } | ClientError::Malformed { .. }) => {
            Event::Answered { host }
        }
        Err(ClientError::NoResponders) => Event::NoResponders { host },
        Err(_) => Event::NoAnswer { host },
    }
}
