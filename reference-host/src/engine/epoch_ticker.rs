//! The thread that advances the engine's epoch, so that guests yield.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Interval between ticks while no guest runs for longer. It also bounds the time until a stop
/// takes effect.
const IDLE_TICK: Duration = Duration::from_millis(10);

/// Interval at which guests yield as long as some run for longer than a tick: another guest waits
/// for one interval of each of them, hundreds at most.
const BUSY_TICK: Duration = Duration::from_millis(1);

/// Advances the engine's epoch until it is dropped.
///
/// Runs on its own thread: guests that never return can occupy every worker of the async runtime,
/// so a timer of that runtime might never fire.
pub struct EpochTicker {
    yields: Yields,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    /// Starts the thread. If that fails, guests cannot be interrupted. The failure is logged, and
    /// the host still runs guests that return by themselves.
    pub fn start(engine: &Engine) -> Self {
        let (stop, stopped) = sync_channel::<()>(0);
        let (engine, yields) = (engine.weak(), Yields::default());
        let yielded = yields.clone();
        let ticking = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(yielded.next_tick()) {
                let Some(engine) = engine.upgrade() else {
                    return;
                };
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new()
            .name("berth-ticker".into())
            .spawn(ticking);
        if let Err(error) = &thread {
            tracing::error!(%error, "cannot start the epoch ticker: guests cannot be interrupted");
        }
        Self {
            yields,
            stop: Some(stop),
            thread: thread.ok(),
        }
    }

    /// Returns the record of yields, to which each guest adds its own.
    pub fn yields(&self) -> Yields {
        self.yields.clone()
    }
}

/// Whether any guest has yielded since the previous tick. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Yields(Arc<AtomicBool>);

impl Yields {
    pub fn record(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn next_tick(&self) -> Duration {
        if self.0.swap(false, Ordering::Relaxed) {
            BUSY_TICK
        } else {
            IDLE_TICK
        }
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Joining fails only if the thread panicked, and its code cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_yield_shorten_the_next_tick_only() {
        let yields = Yields::default();
        assert_eq!(yields.next_tick(), IDLE_TICK);
        yields.clone().record();
        yields.record();
        assert_eq!(yields.next_tick(), BUSY_TICK);
        assert_eq!(yields.next_tick(), IDLE_TICK);
    }
}
