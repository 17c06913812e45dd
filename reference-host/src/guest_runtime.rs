//! The threads that guests run on, apart from those of the control plane.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// An async runtime for guests and for the requests that lead to them.
///
/// A guest that never yields runs for a tick at a stretch, and hundreds of them make a long queue.
/// Commands and heartbeats run on the caller's runtime and never stand in that queue (HOST-RES-015).
///
/// Dropping it ends what still runs there, without waiting.
pub struct GuestRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl GuestRuntime {
    /// As many threads as there are processors.
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

    /// Where guests are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
