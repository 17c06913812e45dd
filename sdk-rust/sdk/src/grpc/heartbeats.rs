//! `HostService`, as a scheduler serves it.

use berth_proto::HostHeartbeatRequest;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use super::beat::Beat;
use super::services::host_service_server::{HostService, HostServiceServer};
use super::{HOST_URL, Listener, MAX_MESSAGE_BYTES};
use crate::subject;

/// Heartbeats that wait to be taken in; more are refused, and their hosts try again.
const MAX_WAITING: usize = 1024;

/// The heartbeats of the hosts that beat over gRPC. Listening ends when it is dropped.
#[derive(Debug)]
pub struct Heartbeats {
    beats: mpsc::Receiver<Beat>,
    _close: DropGuard,
}

impl Heartbeats {
    /// Serves `HostService` from now on, in a task of the current Tokio runtime.
    pub fn listen(listener: Listener) -> Self {
        let (sender, beats) = mpsc::channel(MAX_WAITING);
        let close = CancellationToken::new();
        let service = HostServiceServer::new(Service { beats: sender })
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        tokio::spawn(listener.serve(service, close.clone(), close.clone()));
        Self {
            beats,
            _close: close.drop_guard(),
        }
    }

    /// The next heartbeat with the id of a host; others are refused. `None` when nothing is served any
    /// more. Cancel safe.
    pub async fn next(&mut self) -> Option<Beat> {
        self.beats.recv().await
    }
}

struct Service {
    beats: mpsc::Sender<Beat>,
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
                "field `heartbeat.id` is not the id of a host",
            ));
        }
        match self.beats.try_send(Beat { heartbeat, url }) {
            Ok(()) => Ok(Response::new(())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Status::resource_exhausted("too many heartbeats wait"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Status::unavailable("the scheduler has ended"))
            }
        }
    }
}
