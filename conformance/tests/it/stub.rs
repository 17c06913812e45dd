//! A stub host that replies to every request with the same payload and sends no heartbeat.

use std::sync::Arc;

use berth_broker::{Broker, BrokerOptions};
use berth_conformance::models::host::nats::{Writer, connect};
use tokio_util::task::AbortOnDropHandle;

/// A stub host and its broker. Both stop when it is dropped.
pub struct StubHost {
    /// URL of the broker, for `--nats-url`.
    pub url: String,
    /// ID of the host, for `--host-id`.
    pub id: String,
    _broker: Broker,
    _host: AbortOnDropHandle<()>,
}

/// Starts a stub host; its subscription exists when this returns.
pub async fn start(reply_payload: &'static str) -> StubHost {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let writer = Arc::new(Writer::default());
    let pings = false;
    let mut connection = connect(&broker.addr().to_string(), pings, &writer)
        .await
        .unwrap();
    writer.subscribe("runtime.host.stub.>", 1).await.unwrap();
    let host = tokio::spawn(async move {
        while let Ok(message) = connection.next(&writer).await {
            if let Some(reply) = message.reply_to {
                writer
                    .publish(&reply, &[], reply_payload.as_bytes())
                    .await
                    .unwrap();
            }
        }
    });
    StubHost {
        url: broker.url(),
        id: "stub".to_owned(),
        _broker: broker,
        _host: AbortOnDropHandle::new(host),
    }
}
