//! `playground`: a broker and a registry until Ctrl-C.

use std::net::SocketAddr;

use clap::Args;

use super::{EXIT_ERROR, fail, print};
use crate::testbed::playground::Playground;

/// Flags of `playground`.
#[derive(Debug, Args)]
pub struct PlaygroundArgs {
    /// Listen address of the broker; port 0 selects a free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4222")]
    nats_addr: SocketAddr,
    /// Listen address of the registry; port 0 selects a free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    registry_addr: SocketAddr,
}

/// Runs `playground` until Ctrl-C.
pub async fn run(arguments: PlaygroundArgs) -> u8 {
    let started = Playground::start(arguments.nats_addr, arguments.registry_addr).await;
    let playground = match started {
        Ok(playground) => playground,
        Err(error) => return fail(&error, EXIT_ERROR),
    };
    print(&playground.describe());
    match tokio::signal::ctrl_c().await {
        Ok(()) => 0,
        Err(error) => fail(&error, EXIT_ERROR),
    }
}
