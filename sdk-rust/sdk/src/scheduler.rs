//! The scheduler's side: command one host with [`HostClient`], see them all with [`Fleet`].

mod client;
mod error;
mod fleet;
mod heartbeats;
pub mod liveness;

#[cfg(feature = "grpc")]
pub(crate) use self::client::Told;
pub use self::client::{HostClient, Status, Timeouts};
pub use self::error::ClientError;
pub use self::fleet::{Busy, Fleet, FleetError, FleetEvent, FleetEvents, FleetOptions, HostView};
pub use self::heartbeats::Heartbeats;
pub use self::liveness::{Health, LivenessOptions, Reason};
