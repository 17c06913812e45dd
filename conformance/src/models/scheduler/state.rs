//! The state of the model scheduler, of which a part survives restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A replica of a set, or a bare workload; it has at most one id at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Replica {
    /// Unique number.
    pub number: u64,
    /// Name of the replica's Workload.
    pub name: String,
    /// Namespace of the replica's Workload.
    pub namespace: String,
    /// Key of the object that the replica belongs to: `Kind/namespace/name`.
    pub owner: String,
    /// Revision of the template.
    pub revision: String,
    /// Spec of the Workload.
    pub spec: Value,
    /// Annotations of the template.
    pub annotations: Value,
    /// Id on the wire, if the replica is assigned to a host.
    pub id: Option<String>,
    /// Host to which the replica is assigned.
    pub host: Option<String>,
    /// Phase of the lifecycle.
    pub phase: Phase,
    /// Message for the status.
    pub message: String,
    /// Start request as it was sent, so that a retry has the same content.
    pub request: String,
    /// Number of starts that were sent for the id.
    pub attempts: u32,
    /// Number of consecutive failures.
    pub failures: u32,
    /// Host of the most recent failure.
    pub last_failed_host: Option<String>,
    /// Earliest time of the next start.
    #[serde(skip, default = "Instant::now")]
    pub not_before: Instant,
    /// Time of the most recent start or status request.
    #[serde(skip, default = "Instant::now")]
    pub requested_at: Instant,
    /// Whether a status request is in flight.
    #[serde(skip)]
    pub request_in_flight: bool,
    /// Time since which the replica has been running.
    #[serde(skip, default = "Instant::now")]
    pub running_since: Instant,
}

/// Phase of a replica's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The replica has no host.
    Waiting,
    /// The start was sent and is in flight.
    Sent,
    /// The start received no valid reply.
    Unknown,
    /// The host reported STARTING.
    Starting,
    /// The host reported RUNNING.
    Running,
    /// The host reported STOPPING although no stop was sent.
    Stopping,
    /// The host reported COMPLETED.
    Completed,
}

impl Replica {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Completed)
    }

    /// Resets the replica, so that it starts under another id, not before `not_before`.
    pub(super) fn reset(&mut self, message: &str, not_before: Instant) {
        self.id = None;
        self.host = None;
        self.phase = Phase::Waiting;
        self.message = message.to_owned();
        self.not_before = not_before;
        self.request_in_flight = false;
        self.attempts = 0;
        self.request.clear();
    }
}

/// An id that must be stopped on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PendingStop {
    /// Id to stop.
    pub id: String,
    /// Host of the id.
    pub host: String,
    /// Key of the object that the replica belongs to.
    pub owner: String,
    /// Number of the replica that had the id.
    pub replica: u64,
    /// Whether the host is lost; the stop is sent when the host returns.
    pub on_lost_host: bool,
    /// Earliest time of the next stop request.
    #[serde(skip, default = "Instant::now")]
    pub not_before: Instant,
    /// Whether a stop request is in flight.
    #[serde(skip)]
    pub request_in_flight: bool,
    /// Whether the stop is complete.
    #[serde(skip)]
    pub finished: bool,
}

/// A host, as known from its heartbeats and replies.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Most recent heartbeat.
    pub heartbeat: Value,
    /// Start time of the host's process.
    pub started_at: Option<String>,
    /// Time of the most recent sign of life.
    pub last_seen_at: Instant,
    /// Time of the most recent heartbeat.
    pub last_heartbeat_at: Instant,
    /// Whether a heartbeat has arrived on the current connection.
    pub heartbeat_since_connect: bool,
    /// Time of the first of the consecutive no-responders replies, and their number.
    pub no_responders: Option<(Instant, u32)>,
    /// Whether the host belongs to a mass loss: many hosts without responders at the same time.
    pub in_mass_loss: bool,
    /// Whether the host is lost.
    pub lost: bool,
    /// Time until which the host may be silent because of a start in flight.
    pub busy_until: Option<Instant>,
    /// Number of starts without a reply so far.
    pub starts_in_flight: u32,
    /// Time of the next probe.
    pub next_probe_at: Instant,
    /// Whether a probe is in flight.
    pub probe_in_flight: bool,
    /// Time of the first heartbeat.
    pub first_heartbeat_at: Instant,
    /// Number of heartbeats.
    pub heartbeats: u32,
}

/// State that survives a restart of the scheduler.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PersistedState {
    /// All replicas.
    pub replicas: Vec<Replica>,
    /// Stops that are not complete.
    pub pending_stops: Vec<PendingStop>,
    /// Accepted objects by key.
    pub accepted: BTreeMap<String, Value>,
    /// Hosts that have received a start.
    pub hosts: BTreeSet<String>,
    /// Number of the most recently created replica.
    pub last_number: u64,
}

/// Intervals and timeouts; [`super::timings`] declares them with a margin for a busy machine.
pub(super) mod durations {
    use super::Duration;

    /// Interval of the main loop.
    pub const TICK: Duration = Duration::from_millis(40);
    /// Interval between scans of the directory.
    pub const SCAN_INTERVAL: Duration = Duration::from_millis(80);
    /// Interval between status requests for a running workload.
    pub const POLL_INTERVAL: Duration = Duration::from_millis(700);
    /// Interval between probes of a host.
    pub const PROBE_INTERVAL: Duration = Duration::from_millis(600);
    /// Interval between probes of a host without responders.
    pub const NO_RESPONDERS_PROBE_INTERVAL: Duration = Duration::from_millis(300);
    /// Time without responders after which a host is lost.
    pub const NO_RESPONDERS_FOR: Duration = Duration::from_millis(1_500);
    /// Minimum interval between probes of all hosts.
    pub const PROBE_ALL_INTERVAL: Duration = Duration::from_millis(500);
    /// Time of silence after which a host is lost.
    pub const LOST_AFTER: Duration = Duration::from_millis(5_500);
    /// Timeout for the reply to a start.
    pub const START_TIMEOUT: Duration = Duration::from_secs(60);
    /// Timeout for the reply to a status request or a probe.
    pub const REPLY_TIMEOUT: Duration = Duration::from_secs(6);
    /// Timeout for the reply to a stop.
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(2);
    /// Time after a start without a reply at which the status is requested.
    pub const STATUS_AFTER_START: Duration = Duration::from_secs(2);
    /// Time that hosts have to return after a reconnect or a mass loss.
    pub const SETTLING_PERIOD: Duration = Duration::from_millis(11_000);
    /// Time after a mass loss within which more hosts without responders are added to it.
    pub const MASS_LOSS_FOR: Duration = Duration::from_secs(2);
    /// Delay before a replacement that must not overlap with a replica on a lost host.
    pub const FENCE: Duration = Duration::from_secs(10);
    /// Delay after which the variant `SlowWithinDeadlines` uses a new host.
    pub const SLOW_REGISTRATION: Duration = Duration::from_millis(2_200);
    /// Interval between answered stops in the variant `SlowWithinDeadlines`.
    pub const SLOW_STOP_INTERVAL: Duration = Duration::from_millis(2_800);
    /// Delay after [`STOP_TIMEOUT`] before the variant `SlowWithinDeadlines` repeats an unanswered
    /// stop.
    pub const SLOW_STOP_RESEND: Duration = Duration::from_millis(1_200);
    /// [`SETTLING_PERIOD`] in the variant `SlowWithinDeadlines`.
    pub const SLOW_SETTLING_PERIOD: Duration = Duration::from_millis(15_500);
    /// Minimum backoff after a failure.
    pub const BACKOFF_MIN: Duration = Duration::from_millis(500);
    /// Maximum backoff after a failure.
    pub const BACKOFF_MAX: Duration = Duration::from_secs(8);
}
