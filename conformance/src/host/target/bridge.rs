//! Bridge between a gRPC host and the suite's bus, so that checks use NATS for every host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::spec::schema;
use crate::wire::grpc::{CallError, Channel};
use crate::wire::nats::{BusError, Delivery, PeerConnection};
use crate::wire::response::{ERROR_CODE_HEADER, ERROR_HEADER, Headers};
use crate::wire::{nats, protobuf};

/// Delay before a reconnect to the broker.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);

/// Maximum number of concurrent calls; further commands are dropped without a reply. The limit is
/// never reached, because the suite has at most a few hundred requests in flight.
const MAX_CALLS: usize = 1024;

/// Running bridge; dropping it removes the host from the bus.
#[derive(Debug)]
pub struct Bridge {
    _serving: AbortOnDropHandle<()>,
}

impl Bridge {
    /// Serves the commands for `host_id` on this broker with gRPC calls.
    ///
    /// # Errors
    /// Fails if it cannot connect to the broker.
    pub async fn start(
        broker_url: &str,
        host_id: &str,
        channel: Channel,
    ) -> Result<Bridge, BusError> {
        let connection =
            PeerConnection::connect(broker_url, "berth-conformance bridge", RECONNECT_AFTER)
                .await?;
        let mut commands = connection
            .subscribe(&nats::commands_subject(host_id))
            .await?;
        let channel = Arc::new(channel);
        let serving = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            while let Some(delivery) = commands.next().await {
                while calls.join_next().now_or_never().flatten().is_some() {}
                if calls.len() < MAX_CALLS {
                    calls.spawn(forward(channel.clone(), connection.clone(), delivery));
                }
            }
        });
        Ok(Bridge {
            _serving: AbortOnDropHandle::new(serving),
        })
    }
}

/// Forwards one command and its response. A command that has no gRPC method gets no reply.
async fn forward(channel: Arc<Channel>, connection: PeerConnection, delivery: Delivery) {
    match call(&channel, &delivery).await {
        Ok((payload, headers)) => {
            let Some(reply) = &delivery.reply else { return };
            if let Err(error) = connection.publish(reply, payload, &headers).await {
                tracing::warn!(%error, "cannot publish the reply");
            }
        }
        Err(reason) => tracing::warn!(
            subject = delivery.subject,
            reason,
            "cannot forward the command over gRPC"
        ),
    }
}

async fn call(channel: &Channel, delivery: &Delivery) -> Result<(Bytes, Headers), String> {
    let command = nats::parse_command_subject(&delivery.subject).map(|(_, command)| command);
    let (method, request, response) = match command {
        Some("workload.start") => (
            "WorkloadStart",
            "WorkloadStartRequest",
            "WorkloadStartResponse",
        ),
        Some("workload.stop") => (
            "WorkloadStop",
            "WorkloadStopRequest",
            "WorkloadStopResponse",
        ),
        Some("workload.status") => (
            "WorkloadStatus",
            "WorkloadStatusRequest",
            "WorkloadStatusResponse",
        ),
        _ => return Err("no gRPC method for this command".to_owned()),
    };
    let json: Value =
        serde_json::from_slice(&delivery.payload).map_err(|error| error.to_string())?;
    let request = schema::message(request).ok_or("the request is not in the schema")?;
    let message = protobuf::encode(request, &json).map_err(|error| error.to_string())?;
    let method = format!("wasmcloud.runtime.v2.WorkloadService/{method}");
    let call = channel.call(&method, &message).await;
    let reply = call.map_err(|error: CallError| crate::check::outcome::error_chain(&error))?;
    let response = schema::message(response).ok_or("the response is not in the schema")?;
    let response = protobuf::decode(response, &reply.message).map_err(|error| error.to_string())?;
    Ok((Bytes::from(response.to_string()), headers(&reply.metadata)))
}

/// Returns the two error headers of a refusal from the gRPC metadata.
fn headers(metadata: &HeaderMap) -> Headers {
    let headers = [ERROR_CODE_HEADER, ERROR_HEADER]
        .into_iter()
        .filter_map(|name| {
            let value = metadata.get(name.to_ascii_lowercase())?.to_str().ok()?;
            Some((name.to_owned(), value.to_owned()))
        });
    Headers(headers.collect())
}
