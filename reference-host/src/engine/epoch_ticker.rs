//! The thread that advances the engine's epoch, so that guests yield.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Interval at which guests yield. It also bounds the time until a stop takes effect.
pub const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch each [`TICK`] until it is dropped.
///
/// Runs on its own thread: guests that never return can occupy every worker of the async runtime,
/// so a timer of that runtime might never fire.
pub struct EpochTicker {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    /// Starts the thread. If that fails, guests cannot be interrupted. The failure is logged, and
    /// the host still runs guests that return by themselves.
    pub fn start(engine: &Engine) -> Self {
        let (stop, stopped) = sync_channel::<()>(0);
        let engine = engine.weak();
        let ticking = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
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
            stop: Some(stop),
            thread: thread.ok(),
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
