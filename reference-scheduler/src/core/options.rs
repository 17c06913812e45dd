//! What can be chosen, and the times by which everything goes.

use std::time::Duration;

use berth_sdk::scheduler::LivenessOptions;

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The namespace of the Host objects.
    pub host_namespace: String,
    /// Whether workloads may run on hosts of an environment that is not their namespace.
    pub allow_shared_hosts: bool,
    /// Whether to delete what has lost its owner. Kubernetes does that itself, a directory does not.
    pub collect_garbage: bool,
    /// The Unix time at `now` zero, for what is written down.
    pub epoch: Duration,
    /// The times.
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

/// The times by which the scheduler goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// How long a host may take over the answer to a start: 60 s. After that the workload goes elsewhere.
    pub start_timeout: Duration,
    /// When an unanswered start is first asked after: 5 s, in case its answer or itself was lost.
    pub start_doubt: Duration,
    /// How long a host may say STARTING: 300 s.
    pub starting_patience: Duration,
    /// How long the answer to a stop may take: 10 s.
    pub stop_timeout: Duration,
    /// How soon a stop is repeated, or seen to be done, at first: 500 ms, then more and more.
    pub stop_retry: Duration,
    /// And at most: 10 s.
    pub stop_retry_max: Duration,
    /// How long the answer to a status may take: 5 s.
    pub status_timeout: Duration,
    /// How often each workload is asked for: 30 s.
    pub status_interval: Duration,
    /// How soon a workload that is STARTING is asked for again: 1 s.
    pub starting_interval: Duration,
    /// The first pause after a failure: 1 s, then double.
    pub backoff: Duration,
    /// The longest pause after a failure: 300 s.
    pub backoff_max: Duration,
    /// How long a workload has to run for its failures to be forgotten: 60 s.
    pub backoff_reset: Duration,
    /// How long after the first connection nothing is placed, so that hosts can be heard: 1 s.
    pub gather: Duration,
    /// How long what waits for a host lets others join when one does: 300 ms.
    pub join: Duration,
    /// How long a host that is gone may go on running guests: 30 s, for those that must never run twice.
    pub fence: Duration,
    /// How long a rollout may stand still before it is called stuck: 600 s.
    pub progress_deadline: Duration,
    /// How many more than wanted may run during a rollout, in percent, rounded up: 25.
    pub surge_percent: u32,
    /// How long what must be stopped on a lost host is remembered: 1 hour.
    pub remember_lost: Duration,
    /// How long a drained host gets nothing new: 30 s.
    pub drain_hold: Duration,
    /// How often what a host reports of itself is written down when only figures have changed: 3 s, less than
    /// between two heartbeats and than may pass until they are shown (SCHED-KUBE-014).
    pub report_interval: Duration,
    /// How often the counts of a replica set or deployment are written while they change: 500 ms.
    pub count_interval: Duration,
    /// How long a write that failed waits: 1 s, then double up to 30 s.
    pub write_retry: Duration,
    /// When hosts are suspect and lost.
    pub liveness: LivenessOptions,
}

impl Timings {
    /// How many more than `replicas` may run during a rollout; at least one, or nothing would move.
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
            start_doubt: Duration::from_secs(5),
            starting_patience: Duration::from_secs(300),
            stop_timeout: Duration::from_secs(10),
            stop_retry: Duration::from_millis(500),
            stop_retry_max: Duration::from_secs(10),
            status_timeout: Duration::from_secs(5),
            status_interval: Duration::from_secs(30),
            starting_interval: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            backoff_reset: Duration::from_secs(60),
            gather: Duration::from_secs(1),
            join: Duration::from_millis(300),
            fence: Duration::from_secs(30),
            progress_deadline: Duration::from_secs(600),
            surge_percent: 25,
            remember_lost: Duration::from_secs(3600),
            drain_hold: Duration::from_secs(30),
            report_interval: Duration::from_secs(3),
            count_interval: Duration::from_millis(500),
            write_retry: Duration::from_secs(1),
            liveness: LivenessOptions::default(),
        }
    }
}
