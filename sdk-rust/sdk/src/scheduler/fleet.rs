//! A live view of all hosts, from their heartbeats and from probes.

mod source;
mod view;
mod watch;

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::source::{HeartbeatSource, HostConnector, Source};
use self::view::Views;
pub use self::view::{FleetEvent, HostView};
use self::watch::Watcher;
use super::{ClientError, Health, Heartbeats, HostClient, LivenessOptions};
use crate::bus::{Bus, BusError};

/// Capacity of the event queue of one reader. A reader that falls further behind gets the number of
/// events that it missed.
const MAX_QUEUED_EVENTS: usize = 1024;

/// Capacity of the queue of [`BusyUpdate`]s: rarely used, because they are processed immediately.
const MAX_QUEUED_UPDATES: usize = 1024;

/// Options for watching a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetOptions {
    /// Timing of the liveness detection.
    pub liveness: LivenessOptions,
}

/// All current and recent hosts; cheap to clone. Watching ends when the last clone is dropped.
///
/// A new fleet asks for hosts: those with the label `berth.dev/discover` appear within about a
/// second. The others are discovered by their next heartbeat: within 15 s with `wash host`, 30 s at
/// most.
#[derive(Clone, Debug)]
pub struct Fleet {
    connector: HostConnector,
    views: Arc<Views>,
    updates: mpsc::Sender<BusyUpdate>,
    _watching: Arc<DropGuard>,
}

impl Fleet {
    /// Starts watching. Every host that is discovered yields an event.
    ///
    /// # Errors
    ///
    /// Fails only if the connection is closed for good.
    pub async fn watch(bus: Bus, options: FleetOptions) -> Result<(Self, FleetEvents), FleetError> {
        let heartbeats = Heartbeats::subscribe(&bus).await.map_err(FleetError)?;
        let source = Source {
            connection: bus.connection_state(),
            connector: HostConnector::Bus(bus),
            heartbeats: HeartbeatSource::Bus(heartbeats),
        };
        Ok(Self::start(source, options))
    }

    /// Starts watching the hosts that send heartbeats over gRPC. They are probed and commanded at
    /// the URLs in their heartbeats. `tls` applies to `https://` URLs; if it is not empty,
    /// `http://` URLs are rejected. Must be called in a Tokio runtime.
    #[cfg(feature = "grpc")]
    pub fn watch_grpc(
        heartbeats: crate::grpc::Heartbeats,
        tls: crate::grpc::ClientTls,
        options: FleetOptions,
    ) -> (Self, FleetEvents) {
        let channels = Arc::new(crate::grpc::PeerChannels::new(tls));
        let source = Source {
            connection: source::always_connected(),
            connector: HostConnector::Grpc(channels),
            heartbeats: HeartbeatSource::Grpc(heartbeats),
        };
        Self::start(source, options)
    }

    fn start(source: Source, options: FleetOptions) -> (Self, FleetEvents) {
        let connector = source.connector.clone();
        let (events, receiver) = broadcast::channel(MAX_QUEUED_EVENTS);
        let (updates, queued_updates) = mpsc::channel(MAX_QUEUED_UPDATES);
        let views = Arc::new(Views::new(events));
        let end = CancellationToken::new();
        let watcher = Watcher::new(source, options.liveness, views.clone(), queued_updates);
        tokio::spawn(end.clone().run_until_cancelled_owned(watcher.run()));
        let fleet = Self {
            connector,
            views,
            updates,
            _watching: Arc::new(end.drop_guard()),
        };
        (fleet, FleetEvents { receiver })
    }

    /// Returns all hosts in the order of their IDs, including lost hosts that are not forgotten
    /// yet.
    pub fn hosts(&self) -> Vec<HostView> {
        self.views.all()
    }

    /// Returns one host.
    pub fn host(&self, host_id: &str) -> Option<HostView> {
        self.views.get(host_id)
    }

    /// Returns the hosts that are not lost: healthy hosts before suspect ones, then by number of
    /// workloads. A starting point for placement, not a scheduler.
    pub fn by_load(&self) -> Vec<HostView> {
        let mut hosts = self.views.all();
        hosts.retain(|host| host.health != Health::Lost);
        hosts.sort_by_key(|host| (host.health != Health::Alive, host.heartbeat.workload_count));
        hosts
    }

    /// Creates a client for one host.
    ///
    /// # Errors
    ///
    /// Fails if the ID cannot be part of a subject, or over gRPC if the heartbeats of the host
    /// named no URL.
    pub fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        self.connector.client(host_id)
    }

    /// Marks a host as busy with a start until the time `until`. Silence does not make a busy host
    /// lost: a `wash host` is silent while it pulls an image. Drop the returned guard when the host
    /// has replied. If a host has several guards, the latest deadline counts.
    #[must_use = "the host counts as busy until this is dropped"]
    pub fn expect_busy(&self, host_id: &str, until: Instant) -> BusyGuard {
        let guard = BusyGuard {
            updates: self.updates.clone(),
            host: host_id.to_owned(),
            start: uuid::Uuid::new_v4(),
        };
        guard.send(Some(until));
        guard
    }

    /// Returns another receiver of events, from now on.
    pub fn events(&self) -> FleetEvents {
        FleetEvents {
            receiver: self.views.subscribe(),
        }
    }
}

/// Guard of a start in flight: the host counts as busy. Drop it when the host has replied.
#[derive(Debug)]
pub struct BusyGuard {
    updates: mpsc::Sender<BusyUpdate>,
    host: String,
    start: uuid::Uuid,
}

impl BusyGuard {
    fn send(&self, until: Option<Instant>) {
        let update = BusyUpdate {
            host: self.host.clone(),
            start: self.start,
            until,
        };
        // A closed channel means that the fleet is no longer watched.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.updates.try_send(update) {
            tracing::warn!("queue of busy updates is full, update dropped");
        }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.send(None);
    }
}

/// A start in flight on a host, with its deadline; `until` is `None` after the host has replied.
#[derive(Debug)]
struct BusyUpdate {
    host: String,
    start: uuid::Uuid,
    until: Option<Instant>,
}

/// A receiver of the events of a fleet, in order.
#[derive(Debug)]
pub struct FleetEvents {
    receiver: broadcast::Receiver<FleetEvent>,
}

impl FleetEvents {
    /// Returns the next event, or `None` after the fleet is no longer watched. Cancel safe.
    pub async fn next(&mut self) -> Option<FleetEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(FleetEvent::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Reason a fleet cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot subscribe to heartbeats")]
pub struct FleetError(#[source] BusError);
