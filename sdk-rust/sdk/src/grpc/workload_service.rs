//! `WorkloadService`, as a host serves it.

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

/// Whoever carries the commands out. Each is taken in when the method is called; the future waits for
/// what it comes to, and yields `None` when the host has ended before.
pub(crate) trait Obey: Send + Sync + 'static {
    fn start(&self, request: WorkloadStartRequest) -> BoxFuture<'static, Option<Status>>;
    fn stop(&self, request: WorkloadStopRequest) -> BoxFuture<'static, Option<Status>>;
    fn status(&self, request: WorkloadStatusRequest) -> BoxFuture<'static, Option<Status>>;
}

/// Serves the commands of one host until `close`, and then what is under way, until `end` at the latest.
pub(crate) async fn serve_commands(
    listener: Listener,
    host_id: String,
    commands: Arc<impl Obey>,
    close: CancellationToken,
    end: CancellationToken,
) {
    let service = WorkloadServiceServer::new(Commands { host_id, commands })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    listener.serve(service, close, end).await;
}

struct Commands<O> {
    host_id: String,
    commands: Arc<O>,
}

impl<O> Commands<O> {
    /// The message, when this host is meant: another process may have its address by now.
    fn meant<M>(&self, request: Request<M>) -> Result<M, tonic::Status> {
        let id = request.metadata().get(HOST_ID);
        if id.is_some_and(|id| id.as_bytes() != self.host_id.as_bytes()) {
            return Err(tonic::Status::not_found("another host is here"));
        }
        Ok(request.into_inner())
    }
}

#[tonic::async_trait]
impl<O: Obey> WorkloadService for Commands<O> {
    async fn workload_start(
        &self,
        request: Request<WorkloadStartRequest>,
    ) -> Result<Response<WorkloadStartResponse>, tonic::Status> {
        let status = self.commands.start(self.meant(request)?).await;
        respond(status, |status| WorkloadStartResponse {
            workload_status: Some(status),
        })
    }

    async fn workload_status(
        &self,
        request: Request<WorkloadStatusRequest>,
    ) -> Result<Response<WorkloadStatusResponse>, tonic::Status> {
        let status = self.commands.status(self.meant(request)?).await;
        respond(status, |status| WorkloadStatusResponse {
            workload_status: Some(status),
        })
    }

    async fn workload_stop(
        &self,
        request: Request<WorkloadStopRequest>,
    ) -> Result<Response<WorkloadStopResponse>, tonic::Status> {
        let status = self.commands.stop(self.meant(request)?).await;
        respond(status, |status| WorkloadStopResponse {
            workload_status: Some(status),
        })
    }
}

/// The ordinary response, also for a command that is not obeyed; its code is in the metadata.
fn respond<M>(
    status: Option<Status>,
    message: impl FnOnce(WorkloadStatus) -> M,
) -> Result<Response<M>, tonic::Status> {
    let Some(status) = status else {
        return Err(tonic::Status::unavailable("the host has ended"));
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
