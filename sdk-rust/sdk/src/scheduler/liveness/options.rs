//! The times by which hosts are judged.

use std::time::Duration;

/// The times by which hosts are judged. The defaults fit hosts that beat every 15 s, as deployed ones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessOptions {
    /// How often a host is probed when the budget allows it: 500 ms.
    pub probe_interval: Duration,
    /// The budget for the whole fleet: 400 probes a second.
    pub probes_per_second: u32,
    /// How soon a probe that found nobody is repeated: 300 ms.
    pub deaf_probe_interval: Duration,
    /// How long nobody must listen before a host is lost: 1 s. Less would take a reconnect for a death.
    pub deaf_for: Duration,
    /// How often nobody must have listened in that time: 3 times.
    pub deaf_times: u32,
    /// How soon a probe that was not answered at all is repeated: 5 s. A busy host has to work off
    /// each of them later.
    pub silent_probe_interval: Duration,
    /// Silence after which a host is suspect: 20 s, one heartbeat and its way.
    pub suspect_after: Duration,
    /// Silence after which a host is lost: 35 s, so that its workloads run elsewhere within 40 s. Not
    /// before the end of a start that it may be busy with.
    pub lost_after: Duration,
    /// How long after a connection was made, and after a crowd of hosts vanished at once, nothing is
    /// concluded: 12 s. Hosts need to come back, too, and have 10 s (SCHED-CONT-003).
    pub settle: Duration,
    /// How many hosts must seem gone at once before the broker can be suspected instead: 3.
    pub mass_vanish_from: usize,
    /// And how large a part of the fleet they must be: 25 percent, safely less than what one broker of
    /// a cluster of three takes with it.
    pub mass_vanish_share_percent: usize,
    /// How long a lost host is remembered: 10 minutes.
    pub forget_after: Duration,
}

impl Default for LivenessOptions {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(500),
            probes_per_second: 400,
            deaf_probe_interval: Duration::from_millis(300),
            deaf_for: Duration::from_secs(1),
            deaf_times: 3,
            silent_probe_interval: Duration::from_secs(5),
            suspect_after: Duration::from_secs(20),
            lost_after: Duration::from_secs(35),
            settle: Duration::from_secs(12),
            mass_vanish_from: 3,
            mass_vanish_share_percent: 25,
            forget_after: Duration::from_secs(600),
        }
    }
}
