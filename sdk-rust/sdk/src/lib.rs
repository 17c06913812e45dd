//! Library for hosts and schedulers of wasmCloud v2: both sides of the host control protocol.
//!
//! A host author implements [`host::Host`] and calls [`host::serve`]. A scheduler commands one host
//! with [`scheduler::HostClient`] and watches all hosts with [`scheduler::Fleet`]. Both connect to
//! the bus with [`ConnectOptions`]; with the feature `grpc` they can also talk to each other
//! directly. `examples/` contains a minimal host and a minimal scheduler.

pub mod address;
pub mod bus;
#[cfg(feature = "cli")]
pub mod cli;
mod client_error;
pub mod connect;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod host;
pub mod image_name;
pub mod json;
#[cfg(any(feature = "cli", feature = "grpc"))]
pub mod listen;
mod reply;
pub mod scheduler;
mod subject;
mod text;
mod tls_files;

pub use berth_proto as proto;

pub use self::connect::ConnectOptions;
