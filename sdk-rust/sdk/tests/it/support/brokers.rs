//! A broker of either kind, so that a test can run on both.

use berth_broker::{Broker, BrokerOptions};

use super::nats_server::NatsServer;

/// A broker on a free port, stopped on drop.
pub enum TestBroker {
    Embedded(Broker),
    Real(NatsServer),
}

impl TestBroker {
    pub async fn embedded(max_payload_bytes: usize) -> Self {
        let options = BrokerOptions {
            max_payload_bytes,
            ..BrokerOptions::default()
        };
        Self::Embedded(Broker::start(options).await.unwrap())
    }

    pub async fn real(max_payload_bytes: usize) -> Self {
        Self::Real(NatsServer::start(&format!("max_payload: {max_payload_bytes}")).await)
    }

    pub fn url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::Real(server) => server.url(),
        }
    }

    pub async fn stop(&mut self) {
        match self {
            Self::Embedded(broker) => broker.stop().await,
            Self::Real(server) => server.stop(),
        }
    }

    pub async fn restart(&mut self) {
        match self {
            Self::Embedded(broker) => broker.restart().await.unwrap(),
            Self::Real(server) => server.restart().await,
        }
    }
}

/// Expands each body to two tests: on the embedded broker and on a real nats-server.
macro_rules! on_both_brokers {
    ($($(#[$attribute:meta])* async fn $name:ident($broker:ident: TestBroker) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn body(#[allow(unused_mut)] mut $broker: TestBroker) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                body(TestBroker::embedded(1024 * 1024).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nats_server() {
                body(TestBroker::real(1024 * 1024).await).await;
            }
        }
    )*};
}
pub(crate) use on_both_brokers;
