//! A host that is up: its id, its traffic, and its process when the suite launched it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::Bridge;
use crate::host::monitors::Watch;
use crate::testbed::process::Process;
use crate::testbed::tap::Tap;
use crate::wire::trace::Trace;

/// One host under test. Dropping it kills its process and everything it started.
#[derive(Debug)]
pub struct RunningHost {
    /// The id in its subjects.
    pub id: String,
    /// `ADDRESS:PORT` of its HTTP ingress.
    pub http_addr: Option<String>,
    /// Everything that was on the wire between it and the broker.
    pub trace: Trace,
    /// The monitors.
    pub watch: Watch,
    // The process stands before the tap: it is killed before its connection goes.
    /// Its process, when the suite launched it.
    pub process: Option<Process>,
    /// What sits between it and the broker, when the suite launched it.
    pub tap: Option<Tap>,
    pub(super) stop_signal: Signal,
    pub(super) ended: AtomicBool,
    pub(super) _recorder: AbortOnDropHandle<()>,
    pub(super) _http_port: Option<tokio::net::TcpSocket>,
    pub(super) _dir: Option<TempDir>,
    /// What stands between it and the bus, when it is reached by gRPC.
    pub(super) _bridge: Option<Bridge>,
}

impl RunningHost {
    /// Whether its process ended although nobody asked it to.
    pub fn has_died(&self) -> bool {
        let asked = self.ended.load(Ordering::Relaxed);
        !asked && self.process.as_ref().is_some_and(Process::has_exited)
    }

    /// Asks its process to end, and waits a moment for it; dropping does the rest.
    pub async fn end(&self, within: Duration) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(process) = &self.process {
            process.signal(self.stop_signal);
            process.wait_exit(within).await;
        }
    }
}
