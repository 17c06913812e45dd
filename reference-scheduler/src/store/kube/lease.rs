//! Decisions of leader election, from the latest state of the Lease, without I/O.
//!
//! wasmCloud's operator uses the same Lease by the same rules, so that this scheduler and the
//! operator wait for each other. Times are durations since an arbitrary start, except `wall`.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;

/// Timings of leader election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimings {
    /// Time after the last observed renewal until other candidates may take over the Lease.
    pub duration: Duration,
    /// Time after its last renewal for which the holder remains the leader. Shorter than
    /// `duration`, so that there are never two leaders.
    pub renew_deadline: Duration,
    /// Interval at which the holder renews the Lease, and at which other candidates read it.
    pub retry: Duration,
}

impl Default for LeaseTimings {
    /// Returns the timings of wasmCloud's operator.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate in the election.
pub(super) struct Candidate {
    identity: String,
    timings: LeaseTimings,
    /// Latest state of the Lease, and when this process first observed that state by its own clock,
    /// because the clocks of machines differ.
    observed: Option<(LeaseSpec, Duration)>,
}

/// Decision of a candidate about the Lease.
#[derive(Debug, PartialEq)]
pub(super) enum LeaseAction {
    /// Create the Lease, because it does not exist.
    Create(LeaseSpec),
    /// Renew the Lease or take it over, if it has not changed in the meantime.
    Replace(LeaseSpec),
    /// Wait, because another candidate holds the Lease.
    Wait,
}

impl Candidate {
    pub(super) fn new(identity: String, timings: LeaseTimings) -> Self {
        Self {
            identity,
            timings,
            observed: None,
        }
    }

    /// Returns the action for the current `lease`. `now` is a monotonic time, `wall` the system
    /// time.
    pub(super) fn decide(
        &mut self,
        lease: Option<&LeaseSpec>,
        now: Duration,
        wall: jiff::Timestamp,
    ) -> LeaseAction {
        let Some(lease) = lease else {
            return LeaseAction::Create(self.held(Some(wall), 0, wall));
        };
        let since = match &self.observed {
            Some((observed, since)) if observed == lease => *since,
            _ => {
                self.observed = Some((lease.clone(), now));
                now
            }
        };
        let transitions = lease.lease_transitions.unwrap_or(0);
        let holder = lease.holder_identity.as_deref().unwrap_or("");
        if holder == self.identity {
            let acquired = lease.acquire_time.as_ref().map(|time| time.0);
            return LeaseAction::Replace(self.held(acquired, transitions, wall));
        }
        if holder.is_empty() || now >= since.saturating_add(self.duration_of(lease)) {
            return LeaseAction::Replace(self.held(
                Some(wall),
                transitions.saturating_add(1),
                wall,
            ));
        }
        LeaseAction::Wait
    }

    /// Returns the released `lease`, or `None` if this candidate does not hold it.
    pub(super) fn released(&self, lease: &LeaseSpec, wall: jiff::Timestamp) -> Option<LeaseSpec> {
        (lease.holder_identity.as_deref() == Some(&self.identity)).then(|| LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..lease.clone()
        })
    }

    /// Returns the duration for which other candidates wait, as the holder has set it.
    fn duration_of(&self, lease: &LeaseSpec) -> Duration {
        let seconds = lease
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        seconds
            .filter(|seconds| *seconds > 0)
            .map_or(self.timings.duration, Duration::from_secs)
    }

    fn held(
        &self,
        acquired: Option<jiff::Timestamp>,
        transitions: i32,
        wall: jiff::Timestamp,
    ) -> LeaseSpec {
        // The API server accepts only whole seconds, at least one.
        let seconds = i32::try_from(self.timings.duration.as_secs())
            .unwrap_or(i32::MAX)
            .max(1);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: acquired.map(MicroTime),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(seconds: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(seconds).expect("a time")
    }

    fn candidate(name: &str) -> Candidate {
        Candidate::new(name.to_owned(), LeaseTimings::default())
    }

    fn written(action: LeaseAction) -> LeaseSpec {
        match action {
            LeaseAction::Create(lease) | LeaseAction::Replace(lease) => lease,
            LeaseAction::Wait => panic!("nothing to write"),
        }
    }

    #[test]
    fn first_candidate_acquires_and_renews() {
        let mut a = candidate("a");
        let first = written(a.decide(None, at(0), wall(100)));
        assert_eq!(first.holder_identity.as_deref(), Some("a"));
        let second = written(a.decide(Some(&first), at(2), wall(102)));
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.lease_transitions, Some(0));
        assert_eq!(second.renew_time, Some(MicroTime(wall(102))));
    }

    #[test]
    fn other_candidate_waits_while_it_observes_renewals() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let mut lease = written(a.decide(None, at(0), wall(0)));
        for seconds in (0..60).step_by(10) {
            assert_eq!(
                b.decide(Some(&lease), at(seconds), wall(0)),
                LeaseAction::Wait
            );
            lease = written(a.decide(
                Some(&lease),
                at(seconds),
                wall(i64::try_from(seconds).expect("small") + 1),
            ));
        }
        assert_eq!(b.decide(Some(&lease), at(60), wall(0)), LeaseAction::Wait);
        assert_eq!(b.decide(Some(&lease), at(74), wall(0)), LeaseAction::Wait);
        let acquired = written(b.decide(Some(&lease), at(75), wall(0)));
        assert_eq!(acquired.holder_identity.as_deref(), Some("b"));
        assert_eq!(acquired.lease_transitions, Some(1));
    }

    #[test]
    fn system_time_does_not_matter() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.decide(None, at(0), wall(-1_000_000)));
        assert_eq!(
            b.decide(Some(&lease), at(0), wall(1_000_000)),
            LeaseAction::Wait
        );
    }

    #[test]
    fn released_lease_is_acquired_at_once() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.decide(None, at(0), wall(0)));
        assert_eq!(b.decide(Some(&lease), at(1), wall(1)), LeaseAction::Wait);
        let released = a.released(&lease, wall(1)).expect("a held Lease");
        assert_eq!(b.released(&lease, wall(1)), None);
        assert_eq!(
            written(b.decide(Some(&released), at(1), wall(1)))
                .holder_identity
                .as_deref(),
            Some("b")
        );
    }
}
