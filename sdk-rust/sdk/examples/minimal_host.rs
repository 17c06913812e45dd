//! A host whose workloads do nothing: the complete protocol, without WebAssembly.
//!
//! `cargo run -p berth-sdk --example minimal_host -- nats://127.0.0.1:4222`

use berth_sdk::ConnectOptions;
use berth_sdk::host::{
    Description, Host, ServeError, ServeOptions, StartError, StartRequest, serve,
};
use tokio_util::sync::CancellationToken;

struct MinimalHost;

impl Host for MinimalHost {
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

    async fn start(&self, request: StartRequest) -> Result<String, StartError> {
        match request.workload.service {
            Some(_) => Err(StartError::new("this host does not run services")),
            None => Ok(request.id),
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
        MinimalHost,
        shutdown,
    )
    .await
}
