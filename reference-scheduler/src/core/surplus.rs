//! Hosts that run more workloads than this scheduler knows there, for example because they were
//! away for longer than their pending stops are remembered.
//!
//! The protocol has no list of the ids of a host, so such workloads can be reported and not
//! stopped. Times are durations since an arbitrary start.

use std::time::Duration;

use super::Scheduler;

/// Time for which the surplus must last: heartbeats and stops overlap, and a stop may take this
/// long.
const SURPLUS_PATIENCE: Duration = Duration::from_secs(120);

/// Reason of the Event.
const REASON: &str = "UnknownWorkloads";

/// The surplus of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Surplus {
    #[default]
    None,
    /// Since this time.
    Since(Duration),
    /// Reported to the user.
    Reported,
}

impl Surplus {
    /// Returns the state after a heartbeat.
    fn next(self, now: Duration, has_surplus: bool) -> Self {
        match (self, has_surplus) {
            (_, false) => Self::None,
            (Self::None, true) => Self::Since(now),
            (Self::Since(since), true) if now >= since + SURPLUS_PATIENCE => Self::Reported,
            (unchanged, true) => unchanged,
        }
    }
}

impl Scheduler {
    /// Compares the number of running workloads in the latest heartbeat of a host with the number
    /// of known ids, and reports a lasting surplus once.
    pub(super) fn check_surplus(&mut self, host_index: u32) {
        let (now, is_synced) = (self.now, self.synced);
        let Some(host) = self.fleet.get_mut(host_index) else {
            return;
        };
        let heartbeat = host.last_heartbeat.as_ref();
        let running = heartbeat.map_or(0, |heartbeat| heartbeat.workload_count);
        let known = (host.workloads.len() + host.stops.len()) as u64;
        let surplus = host.surplus.next(now, is_synced && running > known);
        let before = std::mem::replace(&mut host.surplus, surplus);
        if surplus != Surplus::Reported || before == Surplus::Reported {
            return;
        }
        let message = format!(
            "host {} runs {} workloads that this scheduler does not know: another client has \
             started them, or the host was away for longer than their stops are remembered; \
             restart the host to stop them",
            host.id,
            running - known
        );
        let object = host.object.and_then(|object| self.host_objects.get(object));
        if let Some((key, uid)) = object.map(|object| (object.key.clone(), object.uid())) {
            self.record_warning(key, uid, REASON, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_is_reported_once_it_has_lasted() {
        let seconds = Duration::from_secs;
        let mut surplus = Surplus::None;
        let mut reports = 0;
        for (now, has_surplus) in [
            (0, true),
            (100, true),
            (110, false),
            (120, true),
            (239, true),
            (240, true),
            (255, true),
        ] {
            let next = surplus.next(seconds(now), has_surplus);
            reports += u32::from(next == Surplus::Reported && surplus != Surplus::Reported);
            assert!(reports == 0 || now >= 240, "{now}");
            surplus = next;
        }
        assert_eq!(reports, 1);
    }
}
