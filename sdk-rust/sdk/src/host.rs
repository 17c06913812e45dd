//! The host side: implement [`Host`] and call [`serve`], which handles the protocol.

mod description;
mod lifecycle;
mod report;
mod serve;
mod server;

use std::future::Future;

use berth_proto::Workload;

pub use self::description::Description;
pub use self::report::{ReportedState, StatusReport, StatusReporter, StatusReports};
pub use self::serve::{Connection, ServeError, ServeOptions, serve};

/// The part of a host that its author writes; [`serve`] implements everything between this trait
/// and the bus.
///
/// The SDK manages IDs, states and replies. It never starts an ID that already exists, and it
/// passes each instance to [`Host::stop`] exactly once. Methods are called concurrently for
/// different workloads.
pub trait Host: Send + Sync + 'static {
    /// State of a started workload, needed to serve and to stop it.
    type Instance: Send + 'static;

    /// Returns the fields of a heartbeat that the SDK cannot know.
    ///
    /// Called before each heartbeat and for each `heartbeat` request. It must not block, so sample
    /// metrics in the background. `friendly_name` must not change during the life of the process.
    fn describe(&self) -> Description;

    /// Starts a workload. Routes and subscriptions must be live when this returns `Ok`.
    ///
    /// The future may take any time; in the meantime the SDK replies with STARTING. Cancel safety:
    /// if the workload is stopped before it has started, the future is dropped at its next await,
    /// and `Drop` must release all resources.
    fn start(
        &self,
        request: StartRequest,
    ) -> impl Future<Output = Result<Self::Instance, StartError>> + Send;

    /// Stops a workload: guest execution, routes, subscriptions, memory, directories.
    ///
    /// Called once for each instance, on a stop command, at shutdown, and after the host itself has
    /// reported [`StatusReporter::completed`] or [`StatusReporter::failed`]. The ID is free as soon
    /// as this returns.
    fn stop(&self, instance: Self::Instance) -> impl Future<Output = ()> + Send;

    /// Finishes what the workloads are doing, such as HTTP requests in flight, and returns as soon
    /// as nothing is left. By default there is nothing to finish.
    ///
    /// Called once, at shutdown, after the host has stopped receiving commands and before its
    /// workloads are stopped; their routes stay until then. Cancel safety: the future is dropped
    /// when the time for it is over, which is the grace period without a reserve for the stops.
    fn drain(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A request to start a workload under an ID.
#[derive(Debug)]
#[non_exhaustive]
pub struct StartRequest {
    /// ID of the workload, byte for byte as the scheduler sent it: any text of 1 to 256 bytes.
    pub id: String,
    /// Workload to start. It may contain registry credentials, so never log it as a whole.
    pub workload: Workload,
    /// Reports state changes of this workload after its start. Drop it if the host reports none.
    pub reporter: StatusReporter,
}

impl StartRequest {
    /// Creates a request, for tests of a host.
    pub fn new(id: impl Into<String>, workload: Workload, reporter: StatusReporter) -> Self {
        Self {
            id: id.into(),
            workload,
            reporter,
        }
    }
}

/// Reason a workload cannot be started. The scheduler receives the message with state ERROR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    message: String,
    retryable: bool,
}

impl StartError {
    /// Creates an error of a start that ran no guest code. The ID may be started again immediately.
    ///
    /// The message is forwarded to the scheduler and its users: name the component and the image,
    /// and never a credential.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retryable: true,
        }
    }

    /// Marks the start as not retryable, because guest code has run. The ID stays in use until it
    /// is stopped, so that a retry after a lost reply cannot run the guest twice.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// Returns the message for the scheduler.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether the ID may be started again: no guest code has run.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}
