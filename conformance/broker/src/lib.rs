//! A small embeddable NATS broker: the core protocol in memory, and its frame codec.

mod broker;
pub mod frame;
mod options;
mod port_reservation;
mod subject;
mod subscriptions;

pub use broker::{Broker, BrokerError, Stats};
pub use options::{Auth, BrokerOptions};
pub use port_reservation::PortReservation;
pub use subject::matches as subject_matches;
