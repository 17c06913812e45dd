//! The chores of this repository, behind `cargo xtask`.

pub mod bench;
pub mod bindings;
pub mod cache;
pub mod cargo;
pub mod chart;
pub mod conformance;
pub mod r#gen;
pub mod go_module;
pub mod kube_api;
pub mod matrix;
pub mod nats_server;
pub mod requirement_index;
mod running;
pub mod test_run;
pub mod tidy;
mod wait;
