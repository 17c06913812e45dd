//! Tests of the broker: behavior compared with nats-server, lifecycle, codec properties.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod behavior;
mod frame;
mod lifecycle;
mod raw_client;
mod server;
