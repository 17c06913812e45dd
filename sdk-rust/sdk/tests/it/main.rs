//! Integration tests of the SDK, over real brokers, with minimal hosts and schedulers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod conformance;
mod connect;
mod examples;
#[cfg(feature = "grpc")]
mod grpc;
mod host;
mod scheduler;
mod support;
mod vectors;
