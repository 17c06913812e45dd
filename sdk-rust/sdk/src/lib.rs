//! Write a host or a scheduler for wasmCloud v2: the host control protocol over NATS, both sides.
//!
//! A host author implements [`host::Host`] and calls [`host::serve`]. A scheduler commands one host with
//! [`scheduler::HostClient`] and sees all of them with [`scheduler::Fleet`]. Both reach the bus with
//! [`ConnectOptions`], and with the feature `grpc` each other without one. `examples/` holds one of each in a few lines.

pub mod bus;
#[cfg(feature = "cli")]
pub mod cli;
pub mod connect;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod host;
pub mod json;
mod reply;
pub mod scheduler;
mod subject;

pub use berth_proto as proto;

pub use self::connect::ConnectOptions;
