//! The same protocol over gRPC, for peers that have no NATS: the one place that knows how it is spoken.
//!
//! A host serves `WorkloadService` on a [`Listener`] and beats to the schedulers that it is told of; a
//! scheduler takes the [`Heartbeats`] in and commands a host with a
//! [`HostClient`](crate::scheduler::HostClient) over a [`Channel`]. What a command means, what its answer
//! says and what its errors are is the same on both ways.

mod beat;
mod channel;
mod failure;
mod heartbeats;
mod host_side;
mod listener;
mod routes;
#[rustfmt::skip]
mod services;
mod tls;
mod workload_service;

pub use self::beat::Beat;
pub use self::channel::{Channel, ChannelOptions};
pub use self::heartbeats::Heartbeats;
pub use self::host_side::HostSide;
pub use self::listener::Listener;
pub use self::routes::Routes;
pub use self::tls::{ClientTls, GrpcError, ServerTls};
pub(crate) use self::workload_service::{Obey, serve_commands};

/// Longest message in either direction, that of a NATS server with its defaults: what a host takes on the
/// one way it takes on the other.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Metadata of a request: the host that is meant. Another one does nothing and answers NOT_FOUND.
const HOST_ID: &str = "berth-host-id";

/// Metadata of a heartbeat: where the host serves `WorkloadService`.
const HOST_URL: &str = "berth-host-url";

/// Metadata of a response, as in the headers of a reply over NATS.
const ERROR_CODE: &str = "nats-service-error-code";
const ERROR_TEXT: &str = "nats-service-error";

/// How often a connection at rest is tested, and how long the answer may take: a peer that has vanished
/// is given up before a status would have timed out twice.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(5);
