//! Accepts commands from any transport and awaits their outcomes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::executor::Executor;
use super::request::Request;
use crate::host::Host;
use crate::reply::{Code, Status};

/// Maximum number of starts and stops of one host in flight; further ones are refused with 503. Far
/// above the number that any scheduler has in flight, because a start gets its reply within
/// seconds.
const MAX_IN_FLIGHT: usize = 512;

/// The commands of one host.
pub(super) struct Commands<H: Host> {
    executor: Arc<Executor<H>>,
    permits: Arc<Semaphore>,
}

impl<H: Host> Commands<H> {
    pub fn new(executor: Arc<Executor<H>>) -> Self {
        Self {
            executor,
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Accepts a command immediately. Commands take effect in the order of the calls, so that a
    /// stop does not overtake the start before it. A status needs no permit, because it never
    /// waits.
    pub fn accept(&self, request: Request) -> AcceptedCommand {
        let mut permit = None;
        let request = match request {
            request @ (Request::Start { .. } | Request::Stop { .. }) => {
                match self.permits.clone().try_acquire_owned() {
                    Ok(acquired) => {
                        permit = Some(acquired);
                        request
                    }
                    Err(_) => Request::Refused(overloaded(request)),
                }
            }
            request => request,
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
    let message = format!("the host already has {MAX_IN_FLIGHT} requests in flight");
    Status::refused(request.into_id(), Code::Unavailable, message)
}
