//! The core of the scheduler in a simulated world: scenarios with a known end, and storms from a seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

mod chance;
mod created;
mod host;
mod ledger;
mod placing;
mod rollouts;
mod scenarios;
mod store;
mod storm;
mod storms;
mod swap;
mod workloads;
mod world;
