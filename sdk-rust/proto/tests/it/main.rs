//! Tests of the generated messages against the committed facts and the golden vectors.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]

mod redaction;
mod schema_facts;
mod vectors;
