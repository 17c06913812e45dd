//! Judges any host that speaks the wasmCloud v2 host-control protocol, over NATS and from outside.

pub mod answer;
pub mod beacon;
pub mod bench;
pub mod broker;
pub mod bus;
pub mod calendar;
pub mod check;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod cx;
pub mod deadline;
pub mod doctor;
pub mod guest;
pub mod json;
pub mod known;
pub mod model;
pub mod monitor;
pub mod outcome;
pub mod pattern;
pub mod process;
pub mod progress;
pub mod registry;
pub mod report;
pub mod requirements;
pub mod role;
pub mod run;
pub mod schema;
pub mod selftest;
pub mod suite;
pub mod tap;
pub mod target;
pub mod trace;
pub mod verdict;

pub use suite::Suite;
