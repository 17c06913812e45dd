//! The messages of the host control protocol, package `wasmcloud.runtime.v2`, with their JSON mapping.
//!
//! All of it is generated from `proto/` by `cargo xtask gen`. Writing JSON is canonical: JSON names,
//! enum names, 64-bit integers as strings, defaults left out. Reading ignores unknown fields and
//! accepts both names of a field, but is stricter than the protocol asks elsewhere: `null` is
//! refused for what is not a message. A reader for peers drops nulls first.

mod generated;
mod redacted_debug;

pub use generated::*;
