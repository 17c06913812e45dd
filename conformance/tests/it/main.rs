//! The integration tests of the conformance suite, one binary for all.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by failing"
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
