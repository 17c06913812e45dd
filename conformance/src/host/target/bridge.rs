//! Puts a host that is reached by gRPC on the suite's bus, so that checks need not know of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::spec::schema;
use crate::wire::grpc::{CallFailed, Channel};
use crate::wire::nats::{BusError, Delivery, Link};
use crate::wire::response::{ERROR_CODE_HEADER, ERROR_HEADER, Headers};
use crate::wire::{nats, protobuf};

/// How soon a connection to the broker that was lost is made again.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);

/// Commands at once: the suite has a few hundred under way at most.
const MAX_CALLS: usize = 1024;

/// A bridge that stands; dropping it takes the host off the bus.
#[derive(Debug)]
pub struct Bridge {
    _serving: AbortOnDropHandle<()>,
}

impl Bridge {
    /// Serves the commands of `host_id` on this broker by calls on the channel.
    ///
    /// # Errors
    /// The broker is not there.
    pub async fn begin(
        broker_url: &str,
        host_id: &str,
        channel: Channel,
    ) -> Result<Bridge, BusError> {
        let link = Link::connect(broker_url, "berth-conformance bridge", RECONNECT_AFTER).await?;
        let mut commands = link.subscribe(&nats::commands_subject(host_id)).await?;
        let channel = Arc::new(channel);
        let serving = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            while let Some(delivery) = commands.next().await {
                while calls.join_next().now_or_never().flatten().is_some() {}
                if calls.len() < MAX_CALLS {
                    calls.spawn(carry(channel.clone(), link.clone(), delivery));
                }
            }
        });
        Ok(Bridge {
            _serving: AbortOnDropHandle::new(serving),
        })
    }
}

/// One command there and its answer back. What cannot be carried is not answered, and so never passes.
async fn carry(channel: Arc<Channel>, link: Link, delivery: Delivery) {
    match answer(&channel, &delivery).await {
        Ok((payload, headers)) => {
            let Some(reply) = &delivery.reply else { return };
            if let Err(error) = link.publish(reply, payload, &headers).await {
                tracing::warn!(%error, "an answer cannot be put on the bus");
            }
        }
        Err(reason) => tracing::warn!(subject = delivery.subject, reason, "not carried over gRPC"),
    }
}

async fn answer(channel: &Channel, delivery: &Delivery) -> Result<(Bytes, Headers), String> {
    let command = nats::read_command_subject(&delivery.subject).map(|(_, command)| command);
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
        _ => return Err("gRPC has no such call".to_owned()),
    };
    let json: Value =
        serde_json::from_slice(&delivery.payload).map_err(|error| error.to_string())?;
    let request = schema::message(request).ok_or("the schema lacks the request")?;
    let message = protobuf::encode(request, &json).map_err(|error| error.to_string())?;
    let method = format!("wasmcloud.runtime.v2.WorkloadService/{method}");
    let called = channel.call(&method, &message).await;
    let called = called.map_err(|error: CallFailed| crate::check::outcome::chain(&error))?;
    let response = schema::message(response).ok_or("the schema lacks the response")?;
    let answer = protobuf::decode(response, &called.message).map_err(|error| error.to_string())?;
    Ok((Bytes::from(answer.to_string()), headers(&called.metadata)))
}

/// The two headers of a refusal, which gRPC has as metadata.
fn headers(metadata: &HeaderMap) -> Headers {
    let both = [ERROR_CODE_HEADER, ERROR_HEADER]
        .into_iter()
        .filter_map(|name| {
            let value = metadata.get(name.to_ascii_lowercase())?.to_str().ok()?;
            Some((name.to_owned(), value.to_owned()))
        });
    Headers(both.collect())
}
