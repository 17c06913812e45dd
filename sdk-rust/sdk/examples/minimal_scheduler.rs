//! A scheduler that starts one workload on the first host, checks its status, and stops it.
//!
//! `cargo run -p berth-sdk --example minimal_scheduler -- nats://127.0.0.1:4222`

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::{Fleet, FleetEvent, FleetOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or("nats://127.0.0.1:4222".into());
    let bus = Bus::connect(&ConnectOptions::to(url)).await?;
    let (fleet, mut events) = Fleet::watch(bus, FleetOptions::default()).await?;
    let host_id = loop {
        if let Some(FleetEvent::Joined { host }) = events.next().await {
            println!(
                "{} joined as {}",
                host.heartbeat.friendly_name, host.heartbeat.id
            );
            break host.heartbeat.id;
        }
    };
    let host = fleet.client(&host_id)?;
    let started = host.start("demo-1", &Workload::default()).await?;
    println!("demo-1 is {}", started.state.as_str_name());
    println!(
        "demo-1 is {}",
        host.status("demo-1").await?.state.as_str_name()
    );
    host.stop("demo-1").await?;
    while host.status("demo-1").await?.state != WorkloadState::NotFound {
        tokio::task::yield_now().await;
    }
    println!("demo-1 is gone");
    Ok(())
}
