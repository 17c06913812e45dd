//! A scheduler for a directory of manifests. It spreads workloads over a fleet and keeps them
//! running.
//!
//! `cargo run -p berth-sdk --example dir_scheduler -- nats://127.0.0.1:4222 DIRECTORY`
//!
//! Each workload has its own task, so that a slow host delays only its own workloads. The ID of a
//! workload is saved before the workload is started, and forgotten only after its host has reported
//! NOT_FOUND.

mod directory;
mod manifest;
mod placement;
mod scheduler;

use std::error::Error;

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::scheduler::{Fleet, FleetOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::directory::Directory;
use crate::scheduler::Scheduler;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: dir_scheduler NATS_URL DIRECTORY".into());
    };
    // A second scheduler for the same directory waits here.
    let directory = Directory::lock(path.into())?;
    let bus = Bus::connect_with_retry(&ConnectOptions::to(url)).await?;
    let (fleet, events) = Fleet::watch(bus, FleetOptions::default()).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        () = Scheduler::new(fleet, directory)?.run(events) => Err("connection closed".into()),
        // Workloads keep running; the next process finds them by their saved IDs.
        _ = terminated.recv() => Ok(()),
    }
}
