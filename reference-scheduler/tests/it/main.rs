//! Integration tests with real hosts, brokers and API servers, and tests of the CRDs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests report failures by panics"
)]

mod fixture;
mod fleet;
mod scheduler;

mod api_server;
mod control_plane;
mod dir;
mod endpoints;
mod grpc;
mod kube_crds;
mod kube_e2e;
mod kube_fixture;
mod kube_ownership;
mod kube_problems;
mod kube_store;
mod lifecycle;
mod outage;
