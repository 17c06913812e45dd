//! Tests against real peers, and of what is not code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

mod api_server;
mod kube_bench;
mod kube_crds;
mod kube_keep;
mod kube_store;
