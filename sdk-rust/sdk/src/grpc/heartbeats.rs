//! The server side of `HostService`, for a scheduler.

use berth_proto::HostHeartbeatRequest;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use super::heartbeat::ReceivedHeartbeat;
use super::services::host_service_server::{HostService, HostServiceServer};
use super::{HOST_URL, Listener, MAX_MESSAGE_BYTES};
use crate::subject;

/// Capacity of the queue of heartbeats. If it is full, heartbeats are refused and the hosts retry.
const MAX_QUEUED: usize = 1024;

/// Heartbeats received over gRPC. Dropping it stops the server.
#[derive(Debug)]
pub struct Heartbeats {
    receiver: mpsc::Receiver<ReceivedHeartbeat>,
    _close: DropGuard,
}

impl Heartbeats {
    /// Starts serving `HostService` in a task of the current Tokio runtime.
    pub fn listen(listener: Listener) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let close = CancellationToken::new();
        let service =
            HostServiceServer::new(Service { sender }).max_decoding_message_size(MAX_MESSAGE_BYTES);
        tokio::spawn(listener.serve(service, close.clone(), close.clone()));
        Self {
            receiver,
            _close: close.drop_guard(),
        }
    }

    /// Returns the next heartbeat. Heartbeats without a valid host ID are refused. Returns `None`
    /// after the server has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<ReceivedHeartbeat> {
        self.receiver.recv().await
    }
}

struct Service {
    sender: mpsc::Sender<ReceivedHeartbeat>,
}

#[tonic::async_trait]
impl HostService for Service {
    async fn host_heartbeat(
        &self,
        request: Request<HostHeartbeatRequest>,
    ) -> Result<Response<()>, Status> {
        let url = request.metadata().get(HOST_URL);
        let url = url.and_then(|url| url.to_str().ok()).map(ToOwned::to_owned);
        let Some(heartbeat) = request.into_inner().heartbeat else {
            return Err(Status::invalid_argument("field `heartbeat` is missing"));
        };
        if !subject::is_host_id(&heartbeat.id) {
            return Err(Status::invalid_argument(
                "field `heartbeat.id` is not a valid host ID",
            ));
        }
        match self.sender.try_send(ReceivedHeartbeat { heartbeat, url }) {
            Ok(()) => Ok(Response::new(())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Status::resource_exhausted("too many queued heartbeats"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Status::unavailable("the scheduler is shutting down"))
            }
        }
    }
}
