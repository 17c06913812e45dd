//! Running host: its id, its traffic, and its process if the suite launched it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::Bridge;
use crate::host::monitors::MonitorSet;
use crate::testbed::process::Process;
use crate::testbed::tap::Tap;
use crate::wire::trace::Trace;

/// Host under test. Dropping it kills its process and all child processes.
#[derive(Debug)]
pub struct RunningHost {
    /// Host id in the subjects.
    pub id: String,
    /// `ADDRESS:PORT` of the HTTP ingress.
    pub http_addr: Option<String>,
    /// Trace of the traffic between the host and the broker.
    pub trace: Trace,
    /// Monitors of the host.
    pub monitors: MonitorSet,
    // Declared before the tap, so that a drop kills the process before its connection closes.
    /// Process, if the suite launched the host.
    pub process: Option<Process>,
    /// Tap between the host and the broker, if the suite launched the host.
    pub tap: Option<Tap>,
    pub(super) stop_signal: Signal,
    pub(super) stop_requested: AtomicBool,
    pub(super) _recorder: AbortOnDropHandle<()>,
    pub(super) _http_port: Option<tokio::net::TcpSocket>,
    pub(super) _dir: Option<TempDir>,
    /// Bridge between the host and the bus, for gRPC.
    pub(super) _bridge: Option<Bridge>,
}

impl RunningHost {
    /// Returns whether the process exited before the suite requested its exit.
    pub fn has_crashed(&self) -> bool {
        let stop_requested = self.stop_requested.load(Ordering::Relaxed);
        !stop_requested && self.process.as_ref().is_some_and(Process::has_exited)
    }

    /// Sends the stop signal and waits up to `timeout` for the exit. Dropping the host kills the
    /// process.
    pub async fn stop(&self, timeout: Duration) {
        self.stop_requested.store(true, Ordering::Relaxed);
        if let Some(process) = &self.process {
            process.signal(self.stop_signal);
            process.wait_exit(timeout).await;
        }
    }
}
