//! The clock that makes guests yield.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest runs at a stretch before it lets others run. Every guest is asked at this rate
/// whether it may go on, so it also bounds how fast a stop takes effect.
pub const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch each [`TICK`] until it is dropped.
///
/// It is a thread of its own: guests that never yield can occupy every worker of the async runtime,
/// and a timer of that runtime would then never fire.
pub struct Ticker {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts it. Without a thread guests could not be interrupted, so a failure to start one shows
    /// in the log; the host then still serves guests that behave.
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
            tracing::error!(%error, "no thread for the ticker: guests cannot be interrupted");
        }
        Self {
            stop: Some(stop),
            thread: thread.ok(),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The only way to fail is that the thread panicked, and it does nothing that could.
            let _ = thread.join();
        }
    }
}
