//! The threads that guests run on, separate from those of the control plane.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// An async runtime for guests and for HTTP requests to them.
///
/// A guest that never returns runs for one tick before it yields, so hundreds of them make a long
/// run queue. Commands and heartbeats run on the caller's runtime and never wait in that queue
/// (HOST-RES-015).
///
/// Dropping the runtime ends its tasks, without waiting for them.
pub struct GuestThreads {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl GuestThreads {
    /// Starts one thread for each processor.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("berth-guests")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Returns the handle of the runtime.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
