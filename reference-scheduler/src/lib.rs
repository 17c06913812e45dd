//! The reference scheduler: places workloads on hosts and keeps them running, on Kubernetes or from
//! a directory of manifests.

pub mod api;
pub mod args;
pub mod config;
pub mod core;
pub mod fault_injection;
pub mod health;
pub mod metrics;
pub mod request;
pub mod revision;
mod run;
pub mod runtime;
pub mod store;
pub mod transport;

pub use self::run::{RunError, run};
