//! The activity of one connection, from which its deadline follows. Reads no clock.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::ConnectionLimits;

/// Requests of one connection, and the time since which it has none.
#[derive(Debug)]
pub(super) struct Activity {
    /// Beginning of each request in flight, by number.
    in_flight: BTreeMap<u64, Instant>,
    requests: u64,
    quiet: Quiet,
}

/// The state of a connection without a request in flight.
#[derive(Clone, Copy, Debug)]
enum Quiet {
    /// A head is expected or has partly arrived.
    Head(Instant),
    /// Nothing has arrived since the last request ended.
    Idle(Instant),
}

impl Activity {
    pub fn accepted(now: Instant) -> Self {
        Self {
            in_flight: BTreeMap::new(),
            requests: 0,
            quiet: Quiet::Head(now),
        }
    }

    /// Records the arrival of bytes.
    pub fn receive(&mut self, now: Instant) {
        if let Quiet::Idle(_) = self.quiet
            && self.in_flight.is_empty()
        {
            self.quiet = Quiet::Head(now);
        }
    }

    /// Records the beginning of a request and returns its number.
    pub fn begin_request(&mut self, now: Instant) -> u64 {
        self.requests += 1;
        self.in_flight.insert(self.requests, now);
        self.requests
    }

    pub fn end_request(&mut self, number: u64, now: Instant) {
        self.in_flight.remove(&number);
        self.quiet = Quiet::Idle(now);
    }

    /// Returns the time at which the connection has to end if nothing else happens.
    pub fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        let oldest = self.in_flight.values().next();
        let (since, limit) = match (oldest, self.quiet) {
            (Some(&since), _) => (since, limits.request_timeout),
            (None, Quiet::Head(since)) => (since, Some(limits.head_timeout)),
            (None, Quiet::Idle(since)) => (since, limits.idle_timeout),
        };
        limit.and_then(|limit| since.checked_add(limit))
    }

    /// Returns the order in which connections without a request in flight give way: first those
    /// that never made a request, then the longest idle. `None` for one with a request in flight.
    pub fn quiet_rank(&self) -> Option<(bool, Instant)> {
        let since = match self.quiet {
            Quiet::Head(since) | Quiet::Idle(since) => since,
        };
        self.in_flight
            .is_empty()
            .then_some((self.requests > 0, since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections_max: 1,
        head_timeout: Duration::from_secs(30),
        idle_timeout: Some(Duration::from_secs(75)),
        request_timeout: Some(Duration::from_secs(600)),
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn bytes_do_not_extend_the_deadline_of_a_head() {
        let start = Instant::now();
        let mut activity = Activity::accepted(start);
        for n in 0..29 {
            activity.receive(start + seconds(n));
        }
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(30)));
    }

    #[test]
    fn deadline_follows_from_the_oldest_request_or_the_idle_time() {
        let start = Instant::now();
        let mut activity = Activity::accepted(start);
        let one = activity.begin_request(start + seconds(1));
        let two = activity.begin_request(start + seconds(2));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(601)));
        activity.receive(start + seconds(2));
        activity.end_request(one, start + seconds(3));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(602)));
        activity.end_request(two, start + seconds(4));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(79)));
        activity.receive(start + seconds(50));
        assert_eq!(activity.deadline(&LIMITS), Some(start + seconds(80)));
    }

    #[test]
    fn unused_connections_give_way_before_idle_ones() {
        let start = Instant::now();
        let mut used = Activity::accepted(start);
        let request = used.begin_request(start);
        assert_eq!(used.quiet_rank(), None);
        used.end_request(request, start);
        let unused = Activity::accepted(start + seconds(9));
        assert!(unused.quiet_rank() < used.quiet_rank());
        let older = Activity::accepted(start + seconds(8));
        assert!(older.quiet_rank() < unused.quiet_rank());
    }
}
