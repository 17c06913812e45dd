//! The SDK as its users meet it: over real brokers, with hosts and schedulers of a few lines.

mod host;
mod support;
mod vectors;
