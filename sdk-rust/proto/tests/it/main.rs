//! Tests of the generated messages against the schema table and the golden vectors.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod redaction;
mod schema_facts;
mod vectors;
