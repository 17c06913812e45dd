//! Commands to hosts, whichever way they are reached, each ending in one outcome.

use std::time::Duration;

use berth_proto::WorkloadState;
use berth_sdk::scheduler::{ClientError, Status, Timeouts};

use super::Ways;
use crate::core::Outcome;

/// A command with everything that goes over the wire.
#[derive(Clone, Debug)]
pub enum Request {
    /// Start this under this id.
    Start(String, Box<berth_proto::Workload>),
    /// Stop this id.
    Stop(String),
    /// Ask for the state of this id.
    Status(String),
}

impl Ways {
    /// Sends one command and waits for its end, `timeout` at the longest.
    ///
    /// Cancel safety: a dropped call may have been carried out or not.
    pub async fn call(&self, host_id: &str, request: Request, timeout: Duration) -> Outcome {
        let client = match self.client(host_id) {
            Ok(client) => client.with_timeouts(all(timeout)),
            Err(error) => return outcome(Err(error)),
        };
        outcome(match request {
            Request::Start(id, workload) => client.start(&id, &workload).await,
            Request::Stop(id) => client.stop(&id).await,
            Request::Status(id) => client.status(&id).await,
        })
    }
}

fn outcome(answer: Result<Status, ClientError>) -> Outcome {
    match answer {
        Ok(Status { state, message, .. }) => Outcome::Status {
            state,
            message,
            code: None,
        },
        Err(ClientError::Refused {
            code,
            state,
            message,
        }) => Outcome::Status {
            // A refusal of a host that sends a code and leaves the state out.
            state: match state {
                WorkloadState::Unspecified => WorkloadState::Error,
                state => state,
            },
            message,
            code,
        },
        Err(ClientError::NoResponders) => Outcome::NoResponders,
        // Over gRPC a host may be there and out of reach, or lost over a command: nothing is proven.
        Err(
            ClientError::Timeout { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Lost { .. },
        ) => Outcome::TimedOut,
        Err(ClientError::Malformed { reason }) => Outcome::Malformed(reason),
        Err(ClientError::Disconnected) => Outcome::Disconnected,
        Err(error) => Outcome::Unbuildable(error.to_string()),
    }
}

fn all(timeout: Duration) -> Timeouts {
    Timeouts {
        start: timeout,
        stop: timeout,
        status: timeout,
        heartbeat: timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_status_with_its_code() {
        let refused = |state| ClientError::Refused {
            code: Some(409),
            state,
            message: "in use".to_owned(),
        };
        for state in [WorkloadState::Error, WorkloadState::Unspecified] {
            let expected = Outcome::Status {
                state: WorkloadState::Error,
                message: "in use".to_owned(),
                code: Some(409),
            };
            assert_eq!(outcome(Err(refused(state))), expected);
        }
    }

    #[test]
    fn what_was_not_sent_is_not_a_timeout() {
        let too_large = outcome(Err(ClientError::TooLarge));
        assert!(
            matches!(too_large, Outcome::Unbuildable(_)),
            "{too_large:?}"
        );
        let away = outcome(Err(ClientError::Disconnected));
        assert_eq!(away, Outcome::Disconnected);
    }
}
