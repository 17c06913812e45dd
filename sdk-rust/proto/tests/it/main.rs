//! Tests of the generated messages against the committed facts and the golden vectors.

mod redaction;
mod schema_facts;
mod vectors;
