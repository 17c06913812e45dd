//! A scheduler for a directory of manifests: starts them on the fleet, spread out, and keeps them running.
//!
//! `cargo run -p berth-sdk --example dir_scheduler -- nats://127.0.0.1:4222 DIRECTORY`
//!
//! Each workload has a task of its own, so that nothing a host does delays another one. Each id is written
//! down before it is started, and forgotten when its host has said NOT_FOUND.

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
    // Of two schedulers for one directory the second one waits here.
    let directory = Directory::own(path.into())?;
    let bus = Bus::connect_eventually(&ConnectOptions::to(url)).await?;
    let (fleet, events) = Fleet::watch(bus, FleetOptions::default()).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        () = Scheduler::new(fleet, directory)?.run(events) => Err("the connection was closed".into()),
        // What runs goes on running, and is found again by what is written down.
        _ = terminated.recv() => Ok(()),
    }
}
