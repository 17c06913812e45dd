//! Lateness of the suite's own timers, so that a stall of the machine does not fail a target.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// Interval of the monitored timer.
const TICK: Duration = Duration::from_millis(20);
/// Lateness of a timer from which the machine counts as stalled, so that a missed deadline proves
/// nothing.
pub const STALL: Duration = Duration::from_millis(400);
/// Divisor: if the machine stalls for more than 1/4 of a check or wait, a missed deadline is
/// inconclusive.
const UNUSABLE_SHARE: u32 = 4;
/// Maximum number of recorded stalls. The oldest stall is then discarded.
const MAX_STALLS: usize = 10_000;

/// Minimum patience, enough for two context switches and a page of JSON on a busy machine.
const PATIENCE_MIN: Duration = Duration::from_millis(250);
/// Maximum patience. A slower machine counts as stalled, which the report shows.
const PATIENCE_MAX: Duration = Duration::from_millis(1_500);
/// Patience as a multiple of the slowest round trip that preflight has measured.
const PATIENCE_RTTS: u32 = 20;

/// Time that the suite adds to every deadline for its own delays. Clones share it.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Monitor of stalls of the machine.
    pub clock: Clock,
    measured_us: Arc<AtomicU64>,
}

impl Patience {
    /// Starts with the minimum, until a round trip is measured. Requires a runtime.
    pub fn start() -> Patience {
        Patience {
            clock: Clock::start(),
            measured_us: Arc::new(AtomicU64::new(PATIENCE_MIN.as_micros() as u64)),
        }
    }

    /// Returns the current patience.
    pub fn current(&self) -> Duration {
        let measured = Duration::from_micros(self.measured_us.load(Ordering::Relaxed));
        (measured + self.clock.max_timer_lateness()).min(PATIENCE_MAX)
    }

    /// Sets the slowest measured round trip to the broker.
    pub fn set_slowest_rtt(&self, slowest_rtt: Duration) {
        let patience = (slowest_rtt * PATIENCE_RTTS).clamp(PATIENCE_MIN, PATIENCE_MAX);
        self.measured_us
            .store(patience.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Monitors the lateness of a timer in the background. Clones share the monitor, which ends when
/// the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Clock {
    lateness: Arc<Mutex<Lateness>>,
    _monitor: Arc<Monitor>,
}

#[derive(Debug, Default)]
struct Lateness {
    /// End and length of each stall.
    stalls: VecDeque<(Instant, Duration)>,
    max: Duration,
}

#[derive(Debug)]
struct Monitor(JoinHandle<()>);

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Clock {
    /// Starts the monitor. Requires a runtime.
    pub fn start() -> Clock {
        let lateness = Arc::<Mutex<Lateness>>::default();
        let monitor = tokio::spawn(monitor(lateness.clone()));
        Clock {
            lateness,
            _monitor: Arc::new(Monitor(monitor)),
        }
    }

    /// Returns the total length of all stalls since `from`, by which waits are extended.
    pub fn stall_time_since(&self, from: Instant) -> Duration {
        let lateness = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        lateness
            .stalls
            .iter()
            .filter(|(ended, _)| *ended >= from)
            .map(|(_, length)| *length)
            .sum()
    }

    /// Returns the total length of all stalls since `from` if it is so large that a missed deadline
    /// is inconclusive. Waits already compensate for smaller stalls.
    pub fn stalled_since(&self, from: Instant) -> Option<Duration> {
        let stalled = self.stall_time_since(from);
        (stalled * UNUSABLE_SHARE > from.elapsed()).then_some(stalled)
    }

    /// Returns the greatest lateness of the timer so far.
    pub fn max_timer_lateness(&self) -> Duration {
        self.lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .max
    }
}

async fn monitor(lateness: Arc<Mutex<Lateness>>) {
    loop {
        let started_at = Instant::now();
        tokio::time::sleep(TICK).await;
        let late_by = started_at.elapsed().saturating_sub(TICK);
        let mut lateness = lateness.lock().unwrap_or_else(PoisonError::into_inner);
        lateness.max = lateness.max.max(late_by);
        if late_by >= STALL {
            if lateness.stalls.len() == MAX_STALLS {
                lateness.stalls.pop_front();
            }
            lateness.stalls.push_back((Instant::now(), late_by));
        }
    }
}
