//! The server side of `WorkloadService`, for a host.

use std::sync::Arc;

use berth_proto::{
    WorkloadStartRequest, WorkloadStartResponse, WorkloadStatus, WorkloadStatusRequest,
    WorkloadStatusResponse, WorkloadStopRequest, WorkloadStopResponse,
};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::services::workload_service_server::{WorkloadService, WorkloadServiceServer};
use super::{ERROR_CODE, ERROR_TEXT, HOST_ID, Listener, MAX_MESSAGE_BYTES};
use crate::reply::Status;

/// Executes commands. Each method accepts its command before it returns; the future resolves to the
/// outcome, or to `None` if the host ends first.
pub(crate) trait CommandHandler: Send + Sync + 'static {
    fn start(&self, request: WorkloadStartRequest) -> BoxFuture<'static, Option<Status>>;
    fn stop(&self, request: WorkloadStopRequest) -> BoxFuture<'static, Option<Status>>;
    fn status(&self, request: WorkloadStatusRequest) -> BoxFuture<'static, Option<Status>>;
}

/// Serves the commands of one host until `close`, then finishes calls in flight, until `end`.
pub(crate) async fn serve_commands(
    listener: Listener,
    host_id: String,
    handler: Arc<impl CommandHandler>,
    close: CancellationToken,
    end: CancellationToken,
) {
    let service = WorkloadServiceServer::new(Service { host_id, handler })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    listener.serve(service, close, end).await;
}

struct Service<H> {
    host_id: String,
    handler: Arc<H>,
}

impl<H> Service<H> {
    /// Returns the message if it is for this host: its address may have belonged to another host.
    fn accept<M>(&self, request: Request<M>) -> Result<M, tonic::Status> {
        let id = request.metadata().get(HOST_ID);
        if id.is_some_and(|id| id.as_bytes() != self.host_id.as_bytes()) {
            return Err(tonic::Status::not_found("another host has this address"));
        }
        Ok(request.into_inner())
    }
}

#[tonic::async_trait]
impl<H: CommandHandler> WorkloadService for Service<H> {
    async fn workload_start(
        &self,
        request: Request<WorkloadStartRequest>,
    ) -> Result<Response<WorkloadStartResponse>, tonic::Status> {
        let status = self.handler.start(self.accept(request)?).await;
        respond(status, |status| WorkloadStartResponse {
            workload_status: Some(status),
        })
    }

    async fn workload_status(
        &self,
        request: Request<WorkloadStatusRequest>,
    ) -> Result<Response<WorkloadStatusResponse>, tonic::Status> {
        let status = self.handler.status(self.accept(request)?).await;
        respond(status, |status| WorkloadStatusResponse {
            workload_status: Some(status),
        })
    }

    async fn workload_stop(
        &self,
        request: Request<WorkloadStopRequest>,
    ) -> Result<Response<WorkloadStopResponse>, tonic::Status> {
        let status = self.handler.stop(self.accept(request)?).await;
        respond(status, |status| WorkloadStopResponse {
            workload_status: Some(status),
        })
    }
}

/// Builds the response. A refused command gets one, too, with its code in the metadata.
fn respond<M>(
    status: Option<Status>,
    message: impl FnOnce(WorkloadStatus) -> M,
) -> Result<Response<M>, tonic::Status> {
    let Some(status) = status else {
        return Err(tonic::Status::unavailable("the host is shutting down"));
    };
    let error = status.service_error();
    let mut response = Response::new(message(WorkloadStatus {
        workload_id: status.id,
        workload_state: status.state.into(),
        message: status.message,
    }));
    if let Some((code, text)) = error {
        let metadata = response.metadata_mut();
        metadata.insert(ERROR_CODE, MetadataValue::from(code));
        if let Ok(text) = text.parse() {
            metadata.insert(ERROR_TEXT, text);
        }
    }
    Ok(response)
}
