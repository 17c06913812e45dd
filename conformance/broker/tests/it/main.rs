//! The broker over real sockets, beside a real nats-server; and the properties of its codec.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by failing"
)]

mod behaviour;
mod frame;
mod lifecycle;
mod server;
mod wire;
