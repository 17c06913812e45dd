//! The reference scheduler: places workloads on hosts and keeps them running, for Kubernetes or for a
//! directory of manifests.

pub mod api;
pub mod args;
pub mod breakage;
pub mod config;
pub mod core;
pub mod health;
pub mod metrics;
pub mod request;
pub mod revision;
mod run;
pub mod shell;
pub mod store;
pub mod ways;

pub use self::run::{RunError, run};
