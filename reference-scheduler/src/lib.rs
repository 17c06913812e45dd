//! The reference scheduler: places workloads on hosts and keeps them running, for Kubernetes or for a
//! directory of manifests.

pub mod api;
pub mod core;
pub mod revision;
