//! Sends a command to a host and maps the result to an [`Outcome`].

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_sdk::scheduler::{ClientError, Status, Timeouts};

use super::HostTransport;
use crate::core::Outcome;

/// A command as it is sent to a host.
#[derive(Clone, Debug)]
pub enum HostRequest {
    /// Start a workload under an id.
    Start(String, Arc<berth_proto::Workload>),
    /// Stop the workload with this id.
    Stop(String),
    /// Query the state of the workload with this id.
    Status(String),
    /// Request a heartbeat.
    Heartbeat,
}

impl HostTransport {
    /// Sends one command and waits up to `timeout` for the reply.
    ///
    /// Cancel safety: if the future is dropped, the host may or may not have executed the command.
    pub async fn call(&self, host_id: &str, request: HostRequest, timeout: Duration) -> Outcome {
        let client = match self.client(host_id) {
            Ok(client) => client.with_timeouts(uniform(timeout)),
            Err(error) => return failure(error),
        };
        let result = match request {
            HostRequest::Start(id, workload) => client.start(&id, &workload).await,
            HostRequest::Stop(id) => client.stop(&id).await,
            HostRequest::Status(id) => client.status(&id).await,
            HostRequest::Heartbeat => {
                let heartbeat = client.heartbeat().await;
                let heartbeat = heartbeat.map(|it| Outcome::Heartbeat(Box::new(it)));
                return heartbeat.unwrap_or_else(failure);
            }
        };
        result.map_or_else(failure, |Status { state, message, .. }| Outcome::Status {
            state,
            message,
            code: None,
        })
    }
}

fn failure(error: ClientError) -> Outcome {
    match error {
        ClientError::Refused {
            code,
            state,
            message,
        } => Outcome::Status {
            // Some hosts send a code without a state when they refuse a command.
            state: match state {
                WorkloadState::Unspecified => WorkloadState::Error,
                state => state,
            },
            message,
            code,
        },
        ClientError::NoResponders => Outcome::NoResponders,
        // Over gRPC, an unreachable host may still be running, so it is not treated as missing.
        ClientError::Timeout { .. }
        | ClientError::Unreachable { .. }
        | ClientError::ConnectionLost { .. } => Outcome::TimedOut,
        ClientError::InvalidResponse { reason } => Outcome::InvalidResponse(reason),
        ClientError::Disconnected => Outcome::Disconnected,
        error => Outcome::InvalidRequest(error.to_string()),
    }
}

fn uniform(timeout: Duration) -> Timeouts {
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
    fn maps_refusal_to_status_with_code() {
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
            assert_eq!(failure(refused(state)), expected);
        }
    }

    #[test]
    fn does_not_map_unsent_requests_to_timeout() {
        let too_large = failure(ClientError::RequestTooLarge);
        assert!(
            matches!(too_large, Outcome::InvalidRequest(_)),
            "{too_large:?}"
        );
        let disconnected = failure(ClientError::Disconnected);
        assert_eq!(disconnected, Outcome::Disconnected);
    }
}
