//! Timing of the liveness detection.

use std::time::Duration;

/// Timing of the liveness detection. The defaults fit heartbeats every 15 s, the interval of
/// `wash host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessOptions {
    /// Interval between probes of a host, if `probes_per_second` permits: 500 ms.
    pub probe_interval: Duration,
    /// Maximum rate of probes for the whole fleet: 400 per second.
    pub probes_per_second: u32,
    /// Delay before the next probe after "no responders": 300 ms.
    pub no_responders_probe_interval: Duration,
    /// Time that "no responders" must last before a host is lost: 1 s, because a reconnect takes
    /// less.
    pub no_responders_for: Duration,
    /// Number of probes that must end in "no responders" during `no_responders_for`: 3.
    pub no_responders_count: u32,
    /// Delay before the next probe of a silent host, which has not replied to the previous probe:
    /// 5 s. Long, because probes queue up on a busy host, which must process all of them later.
    pub silent_probe_interval: Duration,
    /// Silence after which a host is suspect: 20 s, one heartbeat interval and a margin. With a
    /// shorter `lost_after`, at most 4/7 of it, so that every host is suspect before it is lost.
    pub suspect_after: Duration,
    /// Silence after which a host is lost: 35 s, so that its workloads run elsewhere within 40 s.
    /// A start in flight extends it to the deadline of the start.
    pub lost_after: Duration,
    /// Time after a reconnect, or after the simultaneous loss of many hosts, before a host is
    /// lost: 12 s, because the hosts must reconnect, too, and have 10 s to do so (SCHED-CONT-003).
    pub settling_period: Duration,
    /// Minimum number of hosts without responders to suspect the broker instead of the hosts: 3.
    pub mass_loss_threshold: usize,
    /// Minimum share of the fleet without responders to suspect the broker, in percent: 25, well
    /// below the third of the hosts that is connected to one broker of a cluster of three.
    pub mass_loss_percent: usize,
    /// Time after which a lost host is forgotten: 10 minutes.
    pub forget_after: Duration,
}

impl LivenessOptions {
    /// Returns the same options with `suspect_after` within its limit.
    pub(super) fn within_limits(self) -> Self {
        Self {
            suspect_after: self.suspect_after.min(self.lost_after / 7 * 4),
            ..self
        }
    }
}

impl Default for LivenessOptions {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(500),
            probes_per_second: 400,
            no_responders_probe_interval: Duration::from_millis(300),
            no_responders_for: Duration::from_secs(1),
            no_responders_count: 3,
            silent_probe_interval: Duration::from_secs(5),
            suspect_after: Duration::from_secs(20),
            lost_after: Duration::from_secs(35),
            settling_period: Duration::from_secs(12),
            mass_loss_threshold: 3,
            mass_loss_percent: 25,
            forget_after: Duration::from_secs(600),
        }
    }
}
