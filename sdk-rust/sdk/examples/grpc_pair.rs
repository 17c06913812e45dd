//! A host and a scheduler that communicate over gRPC, without NATS; here in one process.
//!
//! `cargo run -p berth-sdk --features grpc --example grpc_pair`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use berth_sdk::grpc::{Channel, ChannelOptions, Heartbeats, HostEndpoints, Listener};
use berth_sdk::host::{
    Connection, Description, Host, ServeOptions, StartError, StartRequest, serve,
};
use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::HostClient;
use tokio_util::sync::CancellationToken;

type BoxError = Box<dyn Error + Send + Sync>;

struct MinimalHost;

impl Host for MinimalHost {
    type Instance = ();

    fn describe(&self) -> Description {
        Description {
            hostname: "127.0.0.1".into(), // part of the URL in the heartbeats
            friendly_name: "minimal".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Description::default()
        }
    }

    async fn start(&self, _: StartRequest) -> Result<(), StartError> {
        Ok(())
    }

    async fn stop(&self, (): ()) {}
}

/// A free port. A deployment configures a port and certificates.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Serves commands on a listener, and sends heartbeats to the scheduler.
async fn host(scheduler_url: String, shutdown: CancellationToken) -> Result<(), BoxError> {
    let endpoints = HostEndpoints {
        listener: Some(Listener::bind(ADDRESS, None).await?),
        schedulers: vec![Channel::open(&ChannelOptions::to(scheduler_url)).await?],
    };
    let connection = Connection::over_grpc(endpoints);
    Ok(serve(connection, ServeOptions::default(), MinimalHost, shutdown).await?)
}

/// Waits for the first heartbeat; starts a workload on its host, stops it, and waits for the end.
async fn schedule(mut heartbeats: Heartbeats) -> Result<(), BoxError> {
    let received = heartbeats.next().await.ok_or("the server has stopped")?;
    let url = received.url.ok_or("the heartbeat names no URL")?;
    println!("{} joined", received.heartbeat.friendly_name);
    let channel = Channel::open(&ChannelOptions::to(url)).await?;
    let client = HostClient::over_grpc(channel, Some(received.heartbeat.id));
    let started = client.start("demo-1", &Workload::default()).await?;
    println!("demo-1 is {}", started.state.as_str_name());
    client.stop("demo-1").await?;
    while client.status("demo-1").await?.state != WorkloadState::NotFound {
        tokio::task::yield_now().await;
    }
    println!("demo-1 is gone");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = Listener::bind(ADDRESS, None).await?;
    let scheduler_url = listener.url("127.0.0.1");
    let shutdown = CancellationToken::new();
    let host = tokio::spawn(host(scheduler_url, shutdown.clone()));
    schedule(Heartbeats::listen(listener)).await?;
    shutdown.cancel();
    host.await?
}
