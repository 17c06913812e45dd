//! What the programs of the bus have in common: the flags that reach it, how values are read, what
//! they log, how they end, and how they say what went wrong.

mod cause;
mod connect;
mod log;
mod shutdown;
pub mod value;

pub use self::cause::chain;
pub use self::connect::ConnectArgs;
pub use self::log::{Log, LogError};
pub use self::shutdown::on_signal;
