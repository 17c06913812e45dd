//! The reference host: runs WebAssembly components for a scheduler, on Wasmtime.

pub mod args;
pub mod config;
pub mod declarations;
mod descriptors;
pub mod egress;
pub mod engine;
pub mod fault_injection;
pub mod friendly_name;
pub mod guest_threads;
pub mod host;
mod http_endpoint;
pub mod image;
pub mod import_policy;
pub mod ingress;
pub mod interface;
pub mod owned_directory;
pub mod remove_tree;
pub mod restart;
mod run;
pub mod sandbox;
mod service;
pub mod system_info;
pub mod volumes;
mod workload;

pub use self::run::{RunError, run};
