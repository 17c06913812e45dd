//! The reference scheduler: places workloads on hosts and keeps them running. It reads the
//! workloads from the Kubernetes API or from a directory of manifests.
//!
//! [`core`](crate::core) makes all decisions, without side effects. [`runtime`] is the event loop
//! around it, between a [`store`] of objects and the [`transport`] to the hosts. [`start_request`]
//! builds the request that starts a workload on a host; [`revision`] hashes the template of a
//! replica set.

pub mod api;
pub mod args;
pub mod config;
pub mod core;
pub mod fault_injection;
pub mod health;
pub mod metrics;
pub mod revision;
mod run;
pub mod runtime;
pub mod start_request;
pub mod store;
pub mod transport;

pub use self::run::{RunError, run};
