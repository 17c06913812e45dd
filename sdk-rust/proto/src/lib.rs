//! Messages of the host control protocol, package `wasmcloud.runtime.v2`, with their JSON mapping.
//!
//! `cargo xtask gen` generates them from `proto/`. Serialization is canonical: JSON names, enum
//! names, 64-bit integers as strings, defaults omitted. Deserialization ignores unknown fields and
//! accepts both names of a field, but is stricter than the protocol: it rejects `null` for a field
//! that is not a message, and a name with an unpaired surrogate. `berth-sdk` removes both first.

mod generated;
mod redacted_debug;
mod strict_scalar;

pub use generated::*;
