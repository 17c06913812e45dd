//! The integration tests of the conformance suite, one binary for all.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod beacon;
mod command;
mod guests;
mod registry;
mod report;
mod selftest;
mod stub;
mod suite;
mod tap;
