//! The SDK as its users meet it: over real brokers, with hosts and schedulers of a few lines.

mod connect;
mod examples;
mod host;
mod scheduler;
mod support;
mod vectors;
