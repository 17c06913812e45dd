//! `playground`: a broker and a registry until Ctrl-C.

use std::net::SocketAddr;

use clap::Args;

use super::{TROUBLE, complain, say};
use crate::testbed::playground::Playground;

/// Flags of `playground`.
#[derive(Debug, Args)]
pub struct PlaygroundArgs {
    /// Where the broker listens; port 0 is any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4222")]
    nats_addr: SocketAddr,
    /// Where the registry listens; port 0 is any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    registry_addr: SocketAddr,
}

/// Runs `playground` until a signal ends it.
pub async fn run(arguments: PlaygroundArgs) -> u8 {
    let started = Playground::start(arguments.nats_addr, arguments.registry_addr).await;
    let playground = match started {
        Ok(playground) => playground,
        Err(error) => return complain(&error, TROUBLE),
    };
    say(&playground.describe());
    match tokio::signal::ctrl_c().await {
        Ok(()) => 0,
        Err(error) => complain(&error, TROUBLE),
    }
}
