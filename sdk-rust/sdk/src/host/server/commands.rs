//! Takes commands in, whichever way they came, and waits for what they come to.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::request::Request;
use super::runs::Runs;
use crate::host::Host;
use crate::reply::{Code, Status};

/// Starts and stops that are worked on at once; more are answered with 503. Each start waits for
/// seconds at most, so this is far more than any scheduler keeps open.
const MAX_IN_FLIGHT: usize = 512;

/// The commands to one host.
pub(super) struct Commands<H: Host> {
    runs: Arc<Runs<H>>,
    room: Arc<Semaphore>,
}

impl<H: Host> Commands<H> {
    pub fn new(runs: Arc<Runs<H>>) -> Self {
        Self {
            runs,
            room: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Takes a command in at once, in the order of the calls: a stop must not overtake the start before
    /// it. Status always has room: it waits for nobody.
    pub fn take(&self, request: Request) -> Taken {
        let mut room = None;
        let request = match request {
            request @ (Request::Start { .. } | Request::Stop { .. }) => {
                match self.room.clone().try_acquire_owned() {
                    Ok(permit) => {
                        room = Some(permit);
                        request
                    }
                    Err(_) => Request::Refused(full(request)),
                }
            }
            request => request,
        };
        let outcome = match request {
            Request::Refused(status) => Outcome::Known(status),
            Request::Start { id, workload } => Outcome::Later(self.runs.start(id, *workload)),
            Request::Stop { id } => Outcome::Later(self.runs.stop(id)),
            Request::Status { id } => Outcome::Later(self.runs.status(id)),
        };
        Taken { outcome, room }
    }
}

/// A command that was taken in. Dropping it gives up the answer, not the command.
pub(super) struct Taken {
    outcome: Outcome,
    room: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// What it came to; `None` when the host has ended before. Takes a few seconds at most.
    pub async fn outcome(self) -> Option<Status> {
        let status = match self.outcome {
            Outcome::Known(status) => Some(status),
            Outcome::Later(status) => status.await.ok(),
        };
        if status.is_none() {
            tracing::error!("a request was lost");
        }
        drop(self.room);
        status
    }
}

enum Outcome {
    Known(Status),
    Later(oneshot::Receiver<Status>),
}

fn full(request: Request) -> Status {
    let message = format!("the host is working on {MAX_IN_FLIGHT} requests already");
    Status::refused(request.into_id(), Code::Unavailable, message)
}
