//! A live view of all hosts, from their heartbeats and from probes.

mod side;
mod view;
mod watch;

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::side::{Heard, Side, Way};
use self::view::Views;
pub use self::view::{FleetEvent, HostView};
use self::watch::Watch;
use super::{ClientError, Health, Heartbeats, HostClient, LivenessOptions};
use crate::bus::{Bus, BusError};

/// Events that one reader may be behind; a slower one is told how many it missed.
const MAX_EVENTS_BEHIND: usize = 1024;

/// Notes of busy hosts that wait to be taken in; taken in at once, so this is never reached.
const MAX_NOTES: usize = 1024;

/// How a fleet is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetOptions {
    /// The times by which hosts are judged.
    pub liveness: LivenessOptions,
}

/// All hosts that are or were there; a cheap clone. Watching ends when the last clone is dropped.
///
/// Hosts are learnt of by their heartbeats only, so a new fleet is complete after one interval: 15 s
/// with deployed hosts, 30 s at most.
#[derive(Clone, Debug)]
pub struct Fleet {
    side: Side,
    views: Arc<Views>,
    notes: mpsc::Sender<Note>,
    _watching: Arc<DropGuard>,
}

impl Fleet {
    /// Begins to watch. The events begin with the first host.
    ///
    /// # Errors
    ///
    /// Only when the connection is closed for good.
    pub async fn watch(bus: Bus, options: FleetOptions) -> Result<(Self, FleetEvents), FleetError> {
        let heartbeats = Heartbeats::subscribe(&bus).await.map_err(FleetError)?;
        let link = bus.link();
        Ok(Self::begin(
            (Side::Bus(bus), Heard::Bus(heartbeats), link),
            options,
        ))
    }

    /// Begins to watch the hosts that beat to this scheduler over gRPC; they are probed and commanded where their
    /// heartbeats say. The files are those to command hosts behind `https://` with: with any, no host is commanded in
    /// the clear. Must be called in a Tokio runtime.
    #[cfg(feature = "grpc")]
    pub fn watch_grpc(
        heartbeats: crate::grpc::Heartbeats,
        tls: crate::grpc::ClientTls,
        options: FleetOptions,
    ) -> (Self, FleetEvents) {
        let side = Side::Grpc(Arc::new(crate::grpc::Routes::new(tls)));
        Self::begin(
            (side, Heard::Grpc(heartbeats), side::link_of_none()),
            options,
        )
    }

    fn begin(way: Way, options: FleetOptions) -> (Self, FleetEvents) {
        let side = way.0.clone();
        let (events, reader) = broadcast::channel(MAX_EVENTS_BEHIND);
        let (notes, noted) = mpsc::channel(MAX_NOTES);
        let views = Arc::new(Views::new(events));
        let end = CancellationToken::new();
        let watch = Watch::begin(way, options.liveness, views.clone(), noted);
        tokio::spawn(end.clone().run_until_cancelled_owned(watch.run()));
        let fleet = Self {
            side,
            views,
            notes,
            _watching: Arc::new(end.drop_guard()),
        };
        (fleet, FleetEvents { reader })
    }

    /// All hosts, the lost ones that are still remembered included, in the order of their ids.
    pub fn hosts(&self) -> Vec<HostView> {
        self.views.all()
    }

    /// One host.
    pub fn host(&self, host_id: &str) -> Option<HostView> {
        self.views.get(host_id)
    }

    /// The hosts that are not lost, fewest workloads first; those that are not suspect before those
    /// that are. A first idea of where to place something, not a scheduler.
    pub fn by_load(&self) -> Vec<HostView> {
        let mut hosts = self.views.all();
        hosts.retain(|host| host.health != Health::Lost);
        hosts.sort_by_key(|host| (host.health != Health::Alive, host.heartbeat.workload_count));
        hosts
    }

    /// A client for one host.
    ///
    /// # Errors
    ///
    /// An id that cannot stand in a subject; over gRPC, a host that has not said where it takes commands.
    pub fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        self.side.client(host_id)
    }

    /// Notes that a host is given a start and may be silent over it: it is not lost for its silence
    /// until then, or until what comes back is dropped, because it has answered. A `wash host` is silent
    /// while it pulls. Of several notes of one host the latest counts.
    #[must_use = "the host counts as busy until this is dropped"]
    pub fn expect_busy(&self, host_id: &str, until: Instant) -> Busy {
        let busy = Busy {
            notes: self.notes.clone(),
            host: host_id.to_owned(),
            start: uuid::Uuid::new_v4(),
        };
        busy.tell(Some(until));
        busy
    }

    /// Events from now on, for one more reader.
    pub fn events(&self) -> FleetEvents {
        FleetEvents {
            reader: self.views.subscribe(),
        }
    }
}

/// A host owes the answer to a start. Dropped when it has answered.
#[derive(Debug)]
pub struct Busy {
    notes: mpsc::Sender<Note>,
    host: String,
    start: uuid::Uuid,
}

impl Busy {
    fn tell(&self, until: Option<Instant>) {
        let note = Note {
            host: self.host.clone(),
            start: self.start,
            until,
        };
        // A fleet that is no longer watched takes no notes.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.notes.try_send(note) {
            tracing::warn!("too many notes of busy hosts at once; one is dropped");
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// That a host owes the answer to a start until then, or has answered it.
#[derive(Debug)]
struct Note {
    host: String,
    start: uuid::Uuid,
    until: Option<Instant>,
}

/// The events of a fleet, in order.
#[derive(Debug)]
pub struct FleetEvents {
    reader: broadcast::Receiver<FleetEvent>,
}

impl FleetEvents {
    /// The next event; `None` when the fleet is no longer watched. Cancel safe.
    pub async fn next(&mut self) -> Option<FleetEvent> {
        match self.reader.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(FleetEvent::Missed { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Why a fleet cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot subscribe to heartbeats")]
pub struct FleetError(#[source] BusError);
