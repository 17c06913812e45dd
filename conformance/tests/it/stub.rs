//! A host that answers every request with the same payload and never sends a heartbeat.

use std::sync::Arc;

use berth_broker::{Broker, BrokerOptions};
use berth_conformance::models::host::nats::{Writer, connect};
use tokio_util::task::AbortOnDropHandle;

/// A broker with a stub on it. Dropping it ends both.
pub struct Stub {
    /// For `--nats-url`.
    pub url: String,
    /// For `--host-id`.
    pub id: String,
    _broker: Broker,
    _host: AbortOnDropHandle<()>,
}

/// Brings up a stub that is subscribed when this returns.
pub async fn start(answer: &'static str) -> Stub {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let writer = Arc::new(Writer::default());
    let mut connection = connect(&broker.addr().to_string(), false, &writer)
        .await
        .unwrap();
    writer.subscribe("runtime.host.stub.>", 1).await.unwrap();
    let host = tokio::spawn(async move {
        while let Ok(message) = connection.next(&writer).await {
            if let Some(reply) = message.reply {
                writer
                    .publish(&reply, &[], answer.as_bytes())
                    .await
                    .unwrap();
            }
        }
    });
    Stub {
        url: broker.url(),
        id: "stub".to_owned(),
        _broker: broker,
        _host: AbortOnDropHandle::new(host),
    }
}
