//! Tests against real peers, and of what is not code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

mod fleet;
mod scheduler;
mod stage;

mod api_server;
mod control_plane;
mod dir;
mod endpoints;
mod grpc;
mod kube_bench;
mod kube_crds;
mod kube_keep;
mod kube_live;
mod kube_store;
mod life;
mod outage;
