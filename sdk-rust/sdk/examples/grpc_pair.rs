//! A host and a scheduler that meet over gRPC, without NATS; here in one process.
//!
//! `cargo run -p berth-sdk --features grpc --example grpc_pair`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use berth_sdk::grpc::{Channel, ChannelOptions, Heartbeats, HostSide, Listener};
use berth_sdk::host::{Connection, Description, Host, Refusal, ServeOptions, Start, serve};
use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::HostClient;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error + Send + Sync>;

struct Minimal;

impl Host for Minimal {
    type Instance = ();

    fn describe(&self) -> Description {
        Description {
            hostname: "127.0.0.1".into(), // where schedulers are told to call
            friendly_name: "minimal".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Description::default()
        }
    }

    async fn start(&self, _: Start) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop(&self, (): ()) {}
}

/// Any port; a real peer names one, and certificates.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Takes commands on a listener, and beats to the scheduler that it is told of.
async fn host(scheduler_url: String, shutdown: CancellationToken) -> Result<(), Failure> {
    let side = HostSide {
        listener: Some(Listener::bind(ADDRESS, None).await?),
        schedulers: vec![Channel::open(&ChannelOptions::to(scheduler_url)).await?],
    };
    let connection = Connection::over_grpc(side);
    Ok(serve(connection, ServeOptions::default(), Minimal, shutdown).await?)
}

/// Commands the first host that beats: starts a workload, stops it, and waits until it is gone.
async fn schedule(mut heartbeats: Heartbeats) -> Result<(), Failure> {
    let beat = heartbeats.next().await.ok_or("nobody beats any longer")?;
    let url = beat.url.ok_or("this host takes no commands over gRPC")?;
    println!("{} joined", beat.heartbeat.friendly_name);
    let channel = Channel::open(&ChannelOptions::to(url)).await?;
    let client = HostClient::over_grpc(channel, Some(beat.heartbeat.id));
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
async fn main() -> Result<(), Failure> {
    let listener = Listener::bind(ADDRESS, None).await?;
    let scheduler_url = listener.url("127.0.0.1");
    let shutdown = CancellationToken::new();
    let host = tokio::spawn(host(scheduler_url, shutdown.clone()));
    schedule(Heartbeats::listen(listener)).await?;
    shutdown.cancel();
    host.await?
}
