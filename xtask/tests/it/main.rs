//! Tests of the repository itself, and of the command line of its tasks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test and shows its location"
)]

mod build_features;
mod chart;
mod command_line;
mod freshness;
mod tidiness;
