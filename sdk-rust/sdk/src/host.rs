//! The host's side: implement [`Host`], call [`serve`], and the protocol is taken care of.

mod description;
mod lifecycle;
mod report;
mod serve;
mod server;

use std::future::Future;

use berth_proto::Workload;

pub use self::description::Description;
pub use self::report::{Report, ReportedState, Reporter, Reports};
pub use self::serve::{Connection, ServeError, ServeOptions, serve};

/// What a host author writes; everything between this trait and the bus is done by [`serve`].
///
/// The SDK decides about ids, states and replies. The host is asked only for work that is due: it is
/// never asked to start an id that it already has, and each instance it returned is handed back to
/// [`Host::stop`] exactly once. Methods are called concurrently for different workloads.
pub trait Host: Send + Sync + 'static {
    /// What a started workload is: whatever must be kept to serve it and to end it.
    type Instance: Send + 'static;

    /// Everything of a heartbeat that the SDK cannot know.
    ///
    /// Called before each heartbeat and for each `heartbeat` request. It must return at once: sample
    /// in the background. `friendly_name` must not change while the process lives.
    fn describe(&self) -> Description;

    /// Brings a workload up. Routes and subscriptions must be live when this returns `Ok`.
    ///
    /// The future may take as long as it needs: the caller is answered with STARTING meanwhile.
    /// Cancel safety: when the workload is stopped before it is up, the future is dropped at its next
    /// await; whatever it holds must be released by `Drop`.
    fn start(&self, start: Start) -> impl Future<Output = Result<Self::Instance, Refusal>> + Send;

    /// Ends a workload: guest execution, routes, subscriptions, memory, directories.
    ///
    /// Called once for each instance, on a stop command, at shutdown, and after the host itself
    /// reported [`Reporter::completed`] or [`Reporter::failed`]. When it returns, the id is free.
    fn stop(&self, instance: Self::Instance) -> impl Future<Output = ()> + Send;
}

/// A workload to bring up, with the id under which the scheduler knows it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Start {
    /// The id, byte for byte as the scheduler sent it: any text of 1 to 256 bytes.
    pub id: String,
    /// What to run. It may carry registry credentials: never log it whole.
    pub workload: Workload,
    /// Tells the SDK of this workload's later life. Drop it when there is nothing to tell.
    pub reporter: Reporter,
}

impl Start {
    /// A start as the SDK would hand it out; for tests of a host.
    pub fn new(id: impl Into<String>, workload: Workload, reporter: Reporter) -> Self {
        Self {
            id: id.into(),
            workload,
            reporter,
        }
    }
}

/// Why a workload could not be brought up; the caller reads the message in state ERROR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    guest_ran: bool,
}

impl Refusal {
    /// A refusal before any guest code ran. The id may be started again at once.
    ///
    /// The message goes to the scheduler and from there to people: name the component and the image,
    /// and never a credential.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            guest_ran: false,
        }
    }

    /// Marks that guest code has run: the id stays taken until it is stopped, so that the retry of a
    /// lost reply cannot run it twice.
    #[must_use]
    pub fn after_guest_ran(mut self) -> Self {
        self.guest_ran = true;
        self
    }

    /// What the scheduler is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether guest code has run.
    pub fn guest_ran(&self) -> bool {
        self.guest_ran
    }
}
