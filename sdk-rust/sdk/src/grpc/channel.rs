//! A channel to one peer.

use std::fmt;
use std::time::Duration;

use berth_proto::{
    HostHeartbeat, HostHeartbeatRequest, WorkloadStartRequest, WorkloadStatus,
    WorkloadStatusRequest, WorkloadStopRequest,
};
use prost::Message;
use tonic::transport::Endpoint;
use tonic::{Request, Response};

use super::failure::client_error;
use super::services::host_service_client::HostServiceClient;
use super::services::workload_service_client::WorkloadServiceClient;
use super::tls::{ClientTls, GrpcError};
use super::{ERROR_CODE, HOST_ID, HOST_URL, KEEP_ALIVE, MAX_MESSAGE_BYTES};
use crate::client_error::ClientError;
use crate::connect::redact_userinfo;
use crate::reply::RawReply;

/// Options for connecting to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub url: String,
    /// TLS settings; allowed only with `https://`.
    pub tls: ClientTls,
    /// Timeout of one attempt to connect.
    pub connect_timeout: Duration,
}

impl ChannelOptions {
    /// Creates options for this URL, without TLS files.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls: ClientTls::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// A channel to one peer; cheap to clone. It connects on the first call, and reconnects on the next
/// call after the connection is lost.
#[derive(Clone)]
pub struct Channel {
    channel: tonic::transport::Channel,
    url: String,
}

impl Channel {
    /// Opens a channel without connecting it. TLS files are read once, here.
    ///
    /// # Errors
    ///
    /// Fails if the URL is invalid or a file cannot be read or used, but not if the peer is
    /// unreachable.
    pub async fn open(options: &ChannelOptions) -> Result<Self, GrpcError> {
        let url = &options.url;
        let invalid = || GrpcError::InvalidUrl(redact_userinfo(url));
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| invalid())?;
        let uri = endpoint.uri();
        let plain = uri.authority().is_some_and(|at| !at.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        let endpoint = match uri.scheme_str() {
            Some("http") if plain && options.tls.is_empty() => endpoint,
            Some("http") if plain => return Err(GrpcError::PlaintextUrl(url.clone())),
            Some("https") if plain => endpoint
                .tls_config(options.tls.read()?)
                .map_err(|error| GrpcError::Tls(Box::new(error)))?,
            _ => return Err(invalid()),
        };
        let channel = endpoint
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_lazy();
        Ok(Self {
            channel,
            url: url.clone(),
        })
    }

    /// Returns the URL of the peer.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn start(
        &self,
        host_id: Option<&str>,
        request: WorkloadStartRequest,
        timeout: Duration,
    ) -> Result<RawReply, ClientError> {
        let mut client = self.commands();
        let request = request_to(host_id, request, timeout)?;
        let response = with_deadline(timeout, client.workload_start(request)).await?;
        Ok(raw_reply(response, |message| message.workload_status))
    }

    pub(crate) async fn stop(
        &self,
        host_id: Option<&str>,
        request: WorkloadStopRequest,
        timeout: Duration,
    ) -> Result<RawReply, ClientError> {
        let mut client = self.commands();
        let request = request_to(host_id, request, timeout)?;
        let response = with_deadline(timeout, client.workload_stop(request)).await?;
        Ok(raw_reply(response, |message| message.workload_status))
    }

    pub(crate) async fn status(
        &self,
        host_id: Option<&str>,
        request: WorkloadStatusRequest,
        timeout: Duration,
    ) -> Result<RawReply, ClientError> {
        let mut client = self.commands();
        let request = request_to(host_id, request, timeout)?;
        let response = with_deadline(timeout, client.workload_status(request)).await?;
        Ok(raw_reply(response, |message| message.workload_status))
    }

    /// Sends a heartbeat to a scheduler, with the URL where the host accepts commands.
    pub(crate) async fn send_heartbeat(
        &self,
        heartbeat: HostHeartbeat,
        url: Option<&str>,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let message = HostHeartbeatRequest {
            heartbeat: Some(heartbeat),
        };
        let mut request = request_to(None, message, timeout)?;
        if let Some(url) = url.and_then(|url| url.parse().ok()) {
            request.metadata_mut().insert(HOST_URL, url);
        }
        let mut client = HostServiceClient::new(self.channel.clone());
        with_deadline(timeout, client.host_heartbeat(request)).await?;
        Ok(())
    }

    fn commands(&self) -> WorkloadServiceClient<tonic::transport::Channel> {
        WorkloadServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Builds a request to this host, or to any host at the address, with a deadline for the peer.
fn request_to<M: Message>(
    host_id: Option<&str>,
    message: M,
    timeout: Duration,
) -> Result<Request<M>, ClientError> {
    if message.encoded_len() > MAX_MESSAGE_BYTES {
        return Err(ClientError::RequestTooLarge);
    }
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    if let Some(host_id) = host_id {
        let value = host_id.parse();
        let value = value.map_err(|_| ClientError::InvalidHostId(host_id.to_owned()))?;
        request.metadata_mut().insert(HOST_ID, value);
    }
    Ok(request)
}

/// Runs a call with one deadline for connecting, sending and waiting.
async fn with_deadline<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(status)) => Err(client_error(&status, timeout)),
        Err(_) => Err(ClientError::Timeout { after: timeout }),
    }
}

fn raw_reply<M>(
    response: Response<M>,
    status: impl FnOnce(M) -> Option<WorkloadStatus>,
) -> RawReply {
    let code = response.metadata().get(ERROR_CODE);
    let error_code = code.and_then(|code| code.to_str().ok()?.trim().parse().ok());
    RawReply {
        status: status(response.into_inner()),
        error_code,
    }
}
