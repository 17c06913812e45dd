//! What the programs of the bus have in common: the flags that reach it, how values are read, what they log, how they
//! end, how they say what went wrong, and how they are broken on purpose.

mod breakage;
mod cause;
mod connect;
#[cfg(feature = "grpc")]
mod grpc;
mod log;
mod shutdown;
pub mod value;

pub use self::cause::chain;
pub use self::connect::ConnectArgs;
#[cfg(feature = "grpc")]
pub use self::grpc::{GrpcServe, GrpcServeArgs, GrpcTlsArgs};
pub use self::log::{Log, LogArgs, LogError};
pub use self::shutdown::on_signal;
