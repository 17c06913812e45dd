//! What the model scheduler knows, and what of it outlives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One replica: a workload that is wanted, with at most one id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Replica {
    /// A number that no other replica has.
    pub number: u64,
    /// The name of its Workload.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `Kind/namespace/name` of what it belongs to.
    pub owner: String,
    /// The revision of the template that it is made from.
    pub revision: String,
    /// The spec of its Workload.
    pub spec: Value,
    /// Annotations of the template.
    pub annotations: Value,
    /// Its id on the wire, once it is placed.
    pub id: Option<String>,
    /// Its host, once it is placed.
    pub host: Option<String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// What is told of it.
    pub message: String,
    /// The request as it was sent, so that a retry is the same.
    pub request: String,
    /// How often the id was sent.
    pub attempts: u32,
    /// Failures in a row.
    pub failures: u32,
    /// The host that refused it last.
    pub refused_by: Option<String>,
    /// Nothing is done before.
    #[serde(skip, default = "Instant::now")]
    pub not_before: Instant,
    /// When it was last asked for, or its start was sent.
    #[serde(skip, default = "Instant::now")]
    pub asked_at: Instant,
    /// An answer is awaited.
    #[serde(skip)]
    pub asking: bool,
    /// Since when it runs.
    #[serde(skip, default = "Instant::now")]
    pub since: Instant,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// It has no host.
    Waiting,
    /// Its start was sent and not answered.
    Sent,
    /// Its start had no answer that means anything.
    Unknown,
    /// Its host is at work.
    Starting,
    /// It runs.
    Running,
    /// Its host takes it down, and nobody asked for that.
    Stopping,
    /// It has ended well.
    Completed,
}

impl Replica {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Completed)
    }

    /// Back to the beginning, to be started under another id.
    pub(super) fn wait(&mut self, message: &str, not_before: Instant) {
        self.id = None;
        self.host = None;
        self.phase = Phase::Waiting;
        self.message = message.to_owned();
        self.not_before = not_before;
        self.asking = false;
        self.attempts = 0;
        self.request.clear();
    }
}

/// An id that is to be stopped on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    /// The id.
    pub id: String,
    /// The host.
    pub host: String,
    /// What it belonged to.
    pub owner: String,
    /// The replica that it was.
    pub replica: u64,
    /// Its host is lost: it is stopped when that returns.
    pub orphan: bool,
    /// Nothing is done before.
    #[serde(skip, default = "Instant::now")]
    pub not_before: Instant,
    /// An answer is awaited.
    #[serde(skip)]
    pub asking: bool,
    /// It is over.
    #[serde(skip)]
    pub over: bool,
}

/// A host as its heartbeats have it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// The latest heartbeat.
    pub beat: Value,
    /// The process behind the id.
    pub started_at: Option<String>,
    /// The last sign of life.
    pub heard: Instant,
    /// The last heartbeat.
    pub beat_at: Instant,
    /// A heartbeat came since our connection was made.
    pub beaten: bool,
    /// Since when nobody listens, and how often that was seen.
    pub deaf: Option<(Instant, u32)>,
    /// It was deaf while a crowd was: the broker is suspected first.
    pub in_crowd: bool,
    /// Taken for gone.
    pub lost: bool,
    /// It owes the reply to a start until then.
    pub owes_until: Option<Instant>,
    /// When to probe it next.
    pub probe_at: Instant,
    /// A probe is under way.
    pub probing: bool,
    /// When its first heartbeat came.
    pub known_at: Instant,
    /// Heartbeats so far.
    pub beats: u32,
}

/// What of it all is kept on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// What is to be stopped.
    pub endings: Vec<Ending>,
    /// The objects as they were accepted.
    pub accepted: BTreeMap<String, Value>,
    /// Hosts that workloads were sent to.
    pub hosts: BTreeSet<String>,
    /// The next number of a replica.
    pub numbers: u64,
}

/// The times of the model; [`crate::models::scheduler::timings`] declares them, with room for a busy machine.
pub(super) mod times {
    use super::Duration;

    /// How often everything is looked at.
    pub const TICK: Duration = Duration::from_millis(40);
    /// How often the directory is read.
    pub const READ: Duration = Duration::from_millis(80);
    /// How often a workload that runs is asked for.
    pub const POLL: Duration = Duration::from_millis(700);
    /// How often a host is probed.
    pub const PROBE: Duration = Duration::from_millis(600);
    /// How often one where nobody listened is.
    pub const PROBE_DEAF: Duration = Duration::from_millis(300);
    /// How long nobody must listen.
    pub const DEAF_FOR: Duration = Duration::from_millis(1_500);
    /// When one is found deaf, the others are asked, no more often than this.
    pub const PROBE_ALL: Duration = Duration::from_millis(500);
    /// How long a host may say nothing.
    pub const SILENCE: Duration = Duration::from_millis(5_500);
    /// How long a start may take to be answered.
    pub const START: Duration = Duration::from_secs(60);
    /// How long any other answer may take.
    pub const ANSWER: Duration = Duration::from_secs(6);
    /// How long the answer to a stop is waited for.
    pub const STOP: Duration = Duration::from_secs(2);
    /// How soon a start without an answer is asked after.
    pub const DOUBT: Duration = Duration::from_secs(2);
    /// How long a crowd that vanished, or a host not heard since the connection was made, is waited for.
    pub const SETTLE: Duration = Duration::from_millis(11_000);
    /// How long a crowd is suspected after it was last seen.
    pub const CROWD: Duration = Duration::from_secs(2);
    /// The fence of those that must not overlap.
    pub const FENCE: Duration = Duration::from_secs(10);
    /// When a variant uses a host.
    pub const LATE_REGISTER: Duration = Duration::from_millis(2_200);
    /// When it goes on with a stop that was answered.
    pub const LATE_STOP: Duration = Duration::from_millis(2_800);
    /// When it repeats one that was not, after [`STOP`].
    pub const LATE_RESEND: Duration = Duration::from_millis(1_200);
    /// When it takes a host for lost that was not heard since the connection was made.
    pub const LATE_SETTLE: Duration = Duration::from_millis(15_500);
    /// The first pause after a failure.
    pub const BACKOFF: Duration = Duration::from_millis(500);
    /// The longest.
    pub const BACKOFF_MAX: Duration = Duration::from_secs(8);
}
