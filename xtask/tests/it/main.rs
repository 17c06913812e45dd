//! Tests of the repository itself, and of the command line of its chores.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed, and says where"
)]

mod chart;
mod command_line;
mod first_command;
mod freshness;
mod tidiness;
