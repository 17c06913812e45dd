//! The SDK as its users meet it: over real brokers, with hosts and schedulers of a few lines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
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
