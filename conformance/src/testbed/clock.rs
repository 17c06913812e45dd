//! The suite's own sense of time: how late its timers fire, so that a stalled machine is not blamed on a host.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often the watch looks at the time.
const TICK: Duration = Duration::from_millis(20);
/// A timer that fires this late means that the machine stood still, and misses prove nothing.
pub const STALL: Duration = Duration::from_millis(400);
/// A machine that stands still for a fourth of the time cannot judge anybody.
const UNUSABLE_SHARE: u32 = 4;
/// Stalls remembered: a machine that stalls more often than this is of no use.
const MAX_STALLS: usize = 10_000;

/// Never less patient than this: two context switches and a page of JSON on a busy machine.
const PATIENCE_MIN: Duration = Duration::from_millis(250);
/// Never more patient than this: beyond it the machine is stalled, which is said instead.
const PATIENCE_MAX: Duration = Duration::from_millis(1_500);
/// How many times the slowest round trip of the doctor the suite allows for its own share.
const PATIENCE_RTTS: u32 = 20;

/// What the suite adds to every deadline for its own delays. Clones share it.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The watch over the machine.
    pub clock: Clock,
    measured_us: Arc<AtomicU64>,
}

impl Patience {
    /// The least there is, until something is measured. Needs a runtime.
    pub fn start() -> Patience {
        Patience {
            clock: Clock::start(),
            measured_us: Arc::new(AtomicU64::new(PATIENCE_MIN.as_micros() as u64)),
        }
    }

    /// As much as the suite has at the moment.
    pub fn now(&self) -> Duration {
        let measured = Duration::from_micros(self.measured_us.load(Ordering::Relaxed));
        (measured + self.clock.worst_lateness()).min(PATIENCE_MAX)
    }

    /// Takes over the slowest round trip to the broker that was seen.
    pub fn measured(&self, slowest_rtt: Duration) {
        let patience = (slowest_rtt * PATIENCE_RTTS).clamp(PATIENCE_MIN, PATIENCE_MAX);
        self.measured_us
            .store(patience.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Watches its own timer in the background. Clones share the watch; it ends with the last.
#[derive(Clone, Debug)]
pub struct Clock {
    late: Arc<Mutex<Lateness>>,
    _watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Lateness {
    stalls: VecDeque<(Instant, Duration)>,
    worst: Duration,
}

#[derive(Debug)]
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Clock {
    /// Begins to watch. Needs a runtime.
    pub fn start() -> Clock {
        let late = Arc::<Mutex<Lateness>>::default();
        let watch = tokio::spawn(watch(late.clone()));
        Clock {
            late,
            _watch: Arc::new(Watch(watch)),
        }
    }

    /// How long the machine stood still since `from`, all stalls together. Waits go on for so long more.
    pub fn stood_still(&self, from: Instant) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.stalls
            .iter()
            .filter(|(ended, _)| *ended >= from)
            .map(|(_, length)| *length)
            .sum()
    }

    /// [`Clock::stood_still`] when it is so much of the time since `from` that nothing seen then
    /// proves anything: a miss is inconclusive. A smaller stall has been waited for.
    pub fn stalled_since(&self, from: Instant) -> Option<Duration> {
        let still = self.stood_still(from);
        (still * UNUSABLE_SHARE > from.elapsed()).then_some(still)
    }

    /// The latest that the timer ever fired.
    pub fn worst_lateness(&self) -> Duration {
        self.late
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .worst
    }
}

async fn watch(late: Arc<Mutex<Lateness>>) {
    loop {
        let slept = Instant::now();
        tokio::time::sleep(TICK).await;
        let overslept = slept.elapsed().saturating_sub(TICK);
        let mut late = late.lock().unwrap_or_else(PoisonError::into_inner);
        late.worst = late.worst.max(overslept);
        if overslept >= STALL {
            if late.stalls.len() == MAX_STALLS {
                late.stalls.pop_front();
            }
            late.stalls.push_back((Instant::now(), overslept));
        }
    }
}
