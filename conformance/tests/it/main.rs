//! The integration tests of the conformance suite, one binary for all.

mod beacon;
mod guests;
mod registry;
mod tap;
