//! A host that runs "workloads" which do nothing: all of the protocol, and no WebAssembly.
//!
//! `cargo run -p berth-sdk --example minimal_host -- nats://127.0.0.1:4222`

use berth_sdk::ConnectOptions;
use berth_sdk::host::{Description, Host, Refusal, ServeError, ServeOptions, Start, serve};
use tokio_util::sync::CancellationToken;

struct Minimal;

impl Host for Minimal {
    type Instance = String;

    fn describe(&self) -> Description {
        Description {
            hostname: "localhost".into(),
            friendly_name: format!("minimal-{}", std::process::id()),
            version: env!("CARGO_PKG_VERSION").into(),
            labels: [("hostgroup".into(), "minimal".into())].into(),
            ..Description::default()
        }
    }

    async fn start(&self, start: Start) -> Result<String, Refusal> {
        match start.workload.service {
            Some(_) => Err(Refusal::new("this host runs no services")),
            None => Ok(start.id),
        }
    }

    async fn stop(&self, id: String) {
        println!("stopped {id:?}");
    }
}

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or("nats://127.0.0.1:4222".into());
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move { tokio::signal::ctrl_c().await.map(|()| shutdown.cancel()) }
    });
    serve(
        ConnectOptions::to(url),
        ServeOptions::default(),
        Minimal,
        shutdown,
    )
    .await
}
