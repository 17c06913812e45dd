//! Accepts commands from any transport and awaits their outcomes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::executor::Executor;
use super::request::Request;
use crate::host::Host;
use crate::reply::{Code, Status};

/// Maximum number of starts of one host in flight; further ones are refused with 503. Far above the
/// number that any scheduler has in flight, because a start gets its reply within seconds.
const MAX_STARTS: usize = 512;

/// Maximum number of stops of one host in flight. Stops have a bound of their own, so that a burst
/// of slow starts never prevents a stop.
const MAX_STOPS: usize = 512;

/// The commands of one host.
pub(super) struct Commands<H: Host> {
    executor: Arc<Executor<H>>,
    starts: Arc<Semaphore>,
    stops: Arc<Semaphore>,
}

impl<H: Host> Commands<H> {
    pub fn new(executor: Arc<Executor<H>>) -> Self {
        Self {
            executor,
            starts: Arc::new(Semaphore::new(MAX_STARTS)),
            stops: Arc::new(Semaphore::new(MAX_STOPS)),
        }
    }

    /// Accepts a command immediately. Commands take effect in the order of the calls, so that a
    /// stop does not overtake the start before it. A status needs no permit, because it never
    /// waits.
    pub fn accept(&self, request: Request) -> AcceptedCommand {
        let permits = match request {
            Request::Start { .. } => Some(&self.starts),
            Request::Stop { .. } => Some(&self.stops),
            Request::Status { .. } | Request::Refused(_) => None,
        };
        let (request, permit) = match permits.map(|permits| permits.clone().try_acquire_owned()) {
            None => (request, None),
            Some(Ok(permit)) => (request, Some(permit)),
            Some(Err(_)) => (Request::Refused(overloaded(request)), None),
        };
        let outcome = match request {
            Request::Refused(status) => Outcome::Ready(status),
            Request::Start { id, workload } => Outcome::Pending(self.executor.start(id, *workload)),
            Request::Stop { id } => Outcome::Pending(self.executor.stop(id)),
            Request::Status { id } => Outcome::Pending(self.executor.status(id)),
        };
        AcceptedCommand { outcome, permit }
    }
}

/// An accepted command. Dropping it abandons the reply, not the command.
pub(super) struct AcceptedCommand {
    outcome: Outcome,
    permit: Option<OwnedSemaphorePermit>,
}

impl AcceptedCommand {
    /// Returns whether the command counts towards a bound until it has its outcome.
    pub fn is_bounded(&self) -> bool {
        self.permit.is_some()
    }

    /// Waits for the outcome, a few seconds at most; `None` if the host ends first.
    pub async fn outcome(self) -> Option<Status> {
        let status = match self.outcome {
            Outcome::Ready(status) => Some(status),
            Outcome::Pending(status) => status.await.ok(),
        };
        if status.is_none() {
            tracing::error!("request dropped without a reply");
        }
        drop(self.permit);
        status
    }
}

enum Outcome {
    Ready(Status),
    Pending(oneshot::Receiver<Status>),
}

fn overloaded(request: Request) -> Status {
    let (bound, kind) = match request {
        Request::Stop { .. } => (MAX_STOPS, "stops"),
        _ => (MAX_STARTS, "starts"),
    };
    let message = format!("the host already has {bound} {kind} in flight");
    Status::refused(request.into_id(), Code::Unavailable, message)
}
