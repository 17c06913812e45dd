//! Output and exit codes of `berthctl`, against a host on the embedded broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod cli;
mod dev;
mod grpc;
mod support;
