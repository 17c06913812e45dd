//! `berthctl` as it is called, against a host on the embedded broker: what it prints and how it exits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

mod cli;
mod dev;
mod grpc;
mod support;
