//! Threads that keep every processor busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Busy threads, one for each processor, until dropped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts the threads.
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
