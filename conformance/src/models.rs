//! The model host and the model scheduler, their mutants and variants, and the self test.

pub mod host;
pub mod scheduler;
pub mod selftest;
