//! The way to one peer, and the calls on it.

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
use crate::connect::without_userinfo;
use crate::scheduler::{ClientError, Told};

/// How to reach a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub url: String,
    /// Whom to trust and who we are; only with `https://`.
    pub tls: ClientTls,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

impl ChannelOptions {
    /// Options for this URL, without files of certificates.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls: ClientTls::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// The way to one peer; a cheap clone. It connects at the first call, and again at the next one after it
/// was cut.
#[derive(Clone)]
pub struct Channel {
    channel: tonic::transport::Channel,
    url: String,
}

impl Channel {
    /// A channel that is not connected yet. Files are read now, and not again.
    ///
    /// # Errors
    ///
    /// A URL that is none, files that cannot be read or used. A peer that is away is not an error.
    pub async fn open(options: &ChannelOptions) -> Result<Self, GrpcError> {
        let url = &options.url;
        let bad = || GrpcError::Url(without_userinfo(url));
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| bad())?;
        let uri = endpoint.uri();
        let plain = uri.authority().is_some_and(|at| !at.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        let endpoint = match uri.scheme_str() {
            Some("http") if plain && options.tls.is_empty() => endpoint,
            Some("http") if plain => return Err(GrpcError::PlainUrl(url.clone())),
            Some("https") if plain => endpoint
                .tls_config(options.tls.read()?)
                .map_err(|error| GrpcError::Tls(Box::new(error)))?,
            _ => return Err(bad()),
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

    /// The URL of the peer.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn start(
        &self,
        host_id: Option<&str>,
        request: WorkloadStartRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        let mut client = self.commands();
        let request = to(host_id, request, timeout)?;
        let answer = within(timeout, client.workload_start(request)).await?;
        Ok(told(answer, |answer| answer.workload_status))
    }

    pub(crate) async fn stop(
        &self,
        host_id: Option<&str>,
        request: WorkloadStopRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        let mut client = self.commands();
        let request = to(host_id, request, timeout)?;
        let answer = within(timeout, client.workload_stop(request)).await?;
        Ok(told(answer, |answer| answer.workload_status))
    }

    pub(crate) async fn status(
        &self,
        host_id: Option<&str>,
        request: WorkloadStatusRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        let mut client = self.commands();
        let request = to(host_id, request, timeout)?;
        let answer = within(timeout, client.workload_status(request)).await?;
        Ok(told(answer, |answer| answer.workload_status))
    }

    /// Hands a heartbeat to a scheduler, with the URL under which the host takes commands.
    pub(crate) async fn beat(
        &self,
        heartbeat: HostHeartbeat,
        url: Option<&str>,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let message = HostHeartbeatRequest {
            heartbeat: Some(heartbeat),
        };
        let mut request = to(None, message, timeout)?;
        if let Some(url) = url.and_then(|url| url.parse().ok()) {
            request.metadata_mut().insert(HOST_URL, url);
        }
        let mut client = HostServiceClient::new(self.channel.clone());
        within(timeout, client.host_heartbeat(request)).await?;
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

/// A request to this host, or to whichever is there, with the deadline that the peer is told of.
fn to<M: Message>(
    host_id: Option<&str>,
    message: M,
    timeout: Duration,
) -> Result<Request<M>, ClientError> {
    if message.encoded_len() > MAX_MESSAGE_BYTES {
        return Err(ClientError::TooLarge);
    }
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    if let Some(host_id) = host_id {
        let value = host_id.parse();
        let value = value.map_err(|_| ClientError::HostId(host_id.to_owned()))?;
        request.metadata_mut().insert(HOST_ID, value);
    }
    Ok(request)
}

/// One deadline around connecting, asking and waiting.
async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(client_error(&status, timeout)),
        Err(_) => Err(ClientError::Timeout { after: timeout }),
    }
}

fn told<M>(answer: Response<M>, status: impl FnOnce(M) -> Option<WorkloadStatus>) -> Told {
    let code = answer.metadata().get(ERROR_CODE);
    let error_code = code.and_then(|code| code.to_str().ok()?.trim().parse().ok());
    Told {
        status: status(answer.into_inner()),
        error_code,
    }
}
