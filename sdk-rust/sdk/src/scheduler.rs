//! The scheduler side: command one host with [`HostClient`], watch all hosts with [`Fleet`].

mod client;
mod discovery;
mod fleet;
mod heartbeats;
pub mod liveness;

pub use self::client::{HostClient, Status, Timeouts};
pub use self::fleet::{
    BusyGuard, Fleet, FleetError, FleetEvent, FleetEvents, FleetOptions, HostView,
};
pub use self::heartbeats::Heartbeats;
pub use self::liveness::{Health, LivenessOptions, Reason};
pub use crate::client_error::ClientError;
pub use crate::subject::DISCOVER_LABEL;
