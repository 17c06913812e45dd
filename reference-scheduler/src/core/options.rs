//! Options of the core, with its intervals and timeouts.

use std::time::Duration;

use berth_sdk::scheduler::LivenessOptions;

/// Options of the core.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Namespace of the Host objects.
    pub host_namespace: String,
    /// Whether workloads may run on hosts whose environment is not the workload's namespace.
    pub allow_shared_hosts: bool,
    /// Whether to delete objects whose owner no longer exists. Kubernetes deletes them itself, a
    /// directory store does not.
    pub collect_garbage: bool,
    /// Unix time of the start from which the core's times are measured, for timestamps in objects,
    /// until the first [`Event::ClockChanged`](super::Event::ClockChanged).
    pub epoch: Duration,
    /// Intervals and timeouts.
    pub timings: Timings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host_namespace: "default".to_owned(),
            allow_shared_hosts: true,
            collect_garbage: false,
            epoch: Duration::ZERO,
            timings: Timings::default(),
        }
    }
}

/// Intervals and timeouts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// Time limit of a start: 60 s. Then the workload is started on another host.
    pub start_timeout: Duration,
    /// Delay before the first status poll of an unanswered start: 5 s, in case the start or its
    /// reply was lost.
    pub start_poll_delay: Duration,
    /// Maximum time in STARTING: 300 s.
    pub starting_timeout: Duration,
    /// Time limit of a stop: 10 s.
    pub stop_timeout: Duration,
    /// First delay before a stop is repeated or its result is polled: 500 ms, doubled each time.
    pub stop_retry: Duration,
    /// Maximum delay before a stop is repeated: 10 s.
    pub stop_retry_max: Duration,
    /// Time limit of a status query: 5 s.
    pub status_timeout: Duration,
    /// Interval between status polls of a workload: 30 s.
    pub status_interval: Duration,
    /// Interval between status polls of a workload in STARTING: 1 s.
    pub starting_interval: Duration,
    /// First backoff after a failure: 1 s, doubled each time.
    pub backoff: Duration,
    /// Maximum backoff after a failure: 300 s.
    pub backoff_max: Duration,
    /// Time without failures after which the backoff starts over: 60 s.
    pub backoff_reset: Duration,
    /// Time after the first connection during which hosts are discovered and nothing is placed: 1
    /// s.
    pub discovery_period: Duration,
    /// Maximum time for which a new scheduler waits for the heartbeats of the hosts in the store
    /// before it places anything: 3 s, within which every host replies that is not busy or gone.
    pub takeover_patience: Duration,
    /// Delay before waiting workloads are placed together: 300 ms.
    pub placement_delay: Duration,
    /// Time that a lost host may continue to run guests: 30 s, for workloads that must never run
    /// twice.
    pub fence: Duration,
    /// Time without progress after which a rollout counts as stuck: 600 s.
    pub progress_deadline: Duration,
    /// Additional replicas during a rollout, in percent, rounded up: 25.
    pub surge_percent: u32,
    /// Time after which a lost host without pending stops is forgotten: 1 hour.
    pub forget_lost_after: Duration,
    /// Time for which the pending stops of a lost host are remembered: 24 hours, the minimum of
    /// SCHED-FAIL-007. They are stored in an annotation, which bounds their number.
    pub remember_stops_for: Duration,
    /// Time that a drained host stays cordoned: 30 s.
    pub cordon_after_drain: Duration,
    /// Minimum interval between status updates of a host in which only figures (CPU, memory,
    /// counts) changed: 3 s, shorter than both the heartbeat interval and the limit of
    /// SCHED-KUBE-014.
    pub figures_write_interval: Duration,
    /// Minimum interval between status updates of a replica set or deployment whose counts change:
    /// 500 ms.
    pub counts_write_interval: Duration,
    /// First backoff of a failed write: 1 s, doubled up to 30 s.
    pub write_retry: Duration,
    /// When hosts become suspect and lost.
    pub liveness: LivenessOptions,
}

impl Timings {
    /// Returns the number of additional replicas of a rollout: at least one, because without any
    /// the rollout would make no progress.
    pub fn surge(&self, replicas: u32) -> u32 {
        let percent = u64::from(replicas) * u64::from(self.surge_percent);
        u32::try_from(percent.div_ceil(100))
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(60),
            start_poll_delay: Duration::from_secs(5),
            starting_timeout: Duration::from_secs(300),
            stop_timeout: Duration::from_secs(10),
            stop_retry: Duration::from_millis(500),
            stop_retry_max: Duration::from_secs(10),
            status_timeout: Duration::from_secs(5),
            status_interval: Duration::from_secs(30),
            starting_interval: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            backoff_reset: Duration::from_secs(60),
            discovery_period: Duration::from_secs(1),
            takeover_patience: Duration::from_secs(3),
            placement_delay: Duration::from_millis(300),
            fence: Duration::from_secs(30),
            progress_deadline: Duration::from_secs(600),
            surge_percent: 25,
            forget_lost_after: Duration::from_secs(3600),
            remember_stops_for: Duration::from_secs(24 * 3600),
            cordon_after_drain: Duration::from_secs(30),
            figures_write_interval: Duration::from_secs(3),
            counts_write_interval: Duration::from_millis(500),
            write_retry: Duration::from_secs(1),
            liveness: LivenessOptions::default(),
        }
    }
}
