//! The reference host: runs WebAssembly components for a scheduler, on Wasmtime.

pub mod args;
pub mod breakage;
mod components;
pub mod config;
pub mod egress;
pub mod engine;
pub mod friendly_name;
pub mod gate;
pub mod guest_runtime;
pub mod host;
pub mod hostname;
pub mod image;
pub mod ingress;
pub mod interface;
pub mod restart;
mod run;
pub mod sandbox;
mod service;
pub mod system;
pub mod volumes;
mod workload;

pub use self::run::{RunError, run};
