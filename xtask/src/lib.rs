//! The tasks of this repository, behind `cargo xtask`.

pub mod bench;
pub mod bindings;
pub mod cache;
pub mod cargo;
pub mod chart;
mod child_guard;
pub mod conformance;
pub mod r#gen;
pub mod go_module;
pub mod independent_peers;
pub mod interop_matrix;
pub mod kube_api;
pub mod nats_server;
pub mod requirement_index;
pub mod stress;
pub mod test_pipeline;
pub mod tidy;
mod wait;
