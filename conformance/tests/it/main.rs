//! The integration tests of the conformance suite, one binary for all.

mod beacon;
mod command;
mod guests;
mod registry;
mod report;
mod stub;
mod suite;
mod tap;
