//! Who of several schedulers acts: what to do about a Lease that was read. Pure.
//!
//! Works as the leader election of upstream does, on the same Lease, so that a scheduler of either
//! kind waits for one of the other.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;

/// How long a Lease is good for, and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimings {
    /// How long others wait after the last renewal that they saw.
    pub duration: Duration,
    /// How long after its last renewal a holder goes on acting. Less than `duration`, or two would
    /// act at once.
    pub renew_deadline: Duration,
    /// How often a holder renews, and another one looks.
    pub retry: Duration,
}

impl Default for LeaseTimings {
    /// What upstream has.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// One that stands for election.
pub(super) struct Candidate {
    identity: String,
    timings: LeaseTimings,
    /// The Lease as it last was and when it was first seen so, by this process's own clock: clocks
    /// of machines differ.
    seen: Option<(LeaseSpec, Duration)>,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There is no Lease: make one.
    Create(LeaseSpec),
    /// Renew it, or take it over: in its place, if it has not changed since.
    Replace(LeaseSpec),
    /// Somebody else holds it.
    Wait,
}

impl Candidate {
    pub(super) fn new(identity: String, timings: LeaseTimings) -> Self {
        Self {
            identity,
            timings,
            seen: None,
        }
    }

    /// Decides about `lease`, read just now: `now` by a clock that never goes back, `wall` by the
    /// one on the wall.
    pub(super) fn step(
        &mut self,
        lease: Option<&LeaseSpec>,
        now: Duration,
        wall: jiff::Timestamp,
    ) -> Step {
        let Some(lease) = lease else {
            return Step::Create(self.held(Some(wall), 0, wall));
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == lease => *since,
            _ => {
                self.seen = Some((lease.clone(), now));
                now
            }
        };
        let transitions = lease.lease_transitions.unwrap_or(0);
        let holder = lease.holder_identity.as_deref().unwrap_or("");
        if holder == self.identity {
            let acquired = lease.acquire_time.as_ref().map(|time| time.0);
            return Step::Replace(self.held(acquired, transitions, wall));
        }
        if holder.is_empty() || now >= since.saturating_add(self.duration_of(lease)) {
            return Step::Replace(self.held(Some(wall), transitions.saturating_add(1), wall));
        }
        Step::Wait
    }

    /// `lease` given back; `None` when it is not ours.
    pub(super) fn released(&self, lease: &LeaseSpec, wall: jiff::Timestamp) -> Option<LeaseSpec> {
        (lease.holder_identity.as_deref() == Some(&self.identity)).then(|| LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..lease.clone()
        })
    }

    /// The holder says how long others have to wait for it.
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
        // Whole seconds, at least one: the API server takes nothing else.
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

    fn written(step: Step) -> LeaseSpec {
        match step {
            Step::Create(lease) | Step::Replace(lease) => lease,
            Step::Wait => panic!("nothing to write"),
        }
    }

    #[test]
    fn the_first_one_takes_it_and_renews_it() {
        let mut a = candidate("a");
        let first = written(a.step(None, at(0), wall(100)));
        assert_eq!(first.holder_identity.as_deref(), Some("a"));
        let second = written(a.step(Some(&first), at(2), wall(102)));
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.lease_transitions, Some(0));
        assert_eq!(second.renew_time, Some(MicroTime(wall(102))));
    }

    #[test]
    fn another_one_waits_as_long_as_it_sees_renewals() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let mut lease = written(a.step(None, at(0), wall(0)));
        for seconds in (0..60).step_by(10) {
            assert_eq!(b.step(Some(&lease), at(seconds), wall(0)), Step::Wait);
            lease = written(a.step(
                Some(&lease),
                at(seconds),
                wall(i64::try_from(seconds).expect("small") + 1),
            ));
        }
        assert_eq!(b.step(Some(&lease), at(60), wall(0)), Step::Wait);
        assert_eq!(b.step(Some(&lease), at(74), wall(0)), Step::Wait);
        let taken = written(b.step(Some(&lease), at(75), wall(0)));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[test]
    fn the_clock_on_the_wall_decides_nothing() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.step(None, at(0), wall(-1_000_000)));
        assert_eq!(b.step(Some(&lease), at(0), wall(1_000_000)), Step::Wait);
    }

    #[test]
    fn what_is_given_back_is_taken_at_once() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.step(None, at(0), wall(0)));
        assert_eq!(b.step(Some(&lease), at(1), wall(1)), Step::Wait);
        let released = a.released(&lease, wall(1)).expect("its own");
        assert_eq!(b.released(&lease, wall(1)), None);
        assert_eq!(
            written(b.step(Some(&released), at(1), wall(1)))
                .holder_identity
                .as_deref(),
            Some("b")
        );
    }
}
