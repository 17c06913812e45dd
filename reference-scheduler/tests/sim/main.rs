//! The core of the scheduler in a simulated world: scenarios with a known outcome, and fault
//! scripts from seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod clock;
mod create_with_placement;
mod fault_runs;
mod fault_script;
mod host;
mod invariants;
mod long_absence;
mod ownership;
mod placement;
mod refusals;
mod rng;
mod rollouts;
mod scenarios;
mod store;
mod takeover;
mod workloads;
mod world;
