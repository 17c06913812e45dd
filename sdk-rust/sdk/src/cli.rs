//! Shared parts of command line programs: flags, values, logging, signals, errors, fault injection.

mod connect;
mod error_chain;
mod fault_injection;
#[cfg(feature = "grpc")]
mod grpc;
mod log;
mod program;
mod shutdown;
pub mod value;

pub use self::connect::ConnectArgs;
pub use self::error_chain::error_chain;
#[cfg(feature = "grpc")]
pub use self::grpc::{GrpcServeArgs, GrpcSettings, GrpcTlsArgs};
pub use self::log::{Log, LogArgs, LogError};
pub use self::program::run_program;
pub use self::shutdown::cancel_on_signal;
