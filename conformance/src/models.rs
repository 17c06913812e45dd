//! Model peers, their mutants and legal variants, and the self-test that judges the suite with them.

pub mod host;
pub mod scheduler;
pub mod selftest;
