//! A small embeddable NATS broker: the core protocol, in memory, plus the frame codec it speaks.

mod broker;
pub mod frame;
mod interest;
mod options;
mod port;
mod subject;

pub use broker::{Broker, BrokerError, Stats};
pub use options::{Auth, BrokerOptions};
pub use port::Port;
pub use subject::matches as subject_matches;
