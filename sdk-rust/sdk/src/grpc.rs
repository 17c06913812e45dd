//! The host control protocol over gRPC, for peers without NATS.
//!
//! A host serves `WorkloadService` on a [`Listener`] and sends heartbeats to its schedulers. A
//! scheduler receives them as [`Heartbeats`] and commands a host with a
//! [`HostClient`](crate::scheduler::HostClient) over a [`Channel`]. Commands, responses and errors
//! mean the same as over NATS. Only this module of the crate uses tonic.

mod channel;
mod failure;
mod heartbeat;
mod heartbeats;
mod host_endpoints;
mod listener;
mod peer_channels;
#[rustfmt::skip]
mod services;
mod tls;
mod workload_service;

pub use self::channel::{Channel, ChannelOptions};
pub use self::heartbeat::ReceivedHeartbeat;
pub use self::heartbeats::Heartbeats;
pub use self::host_endpoints::HostEndpoints;
pub use self::listener::Listener;
pub use self::peer_channels::PeerChannels;
pub use self::tls::{ClientTls, GrpcError, ServerTls};
pub(crate) use self::workload_service::{CommandHandler, serve_commands};

/// Maximum size of a message in either direction: the default of a NATS server, so that both
/// transports accept the same messages.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Request metadata: ID of the target host. Any other host does nothing and responds NOT_FOUND.
const HOST_ID: &str = "berth-host-id";

/// Heartbeat metadata: URL of the host's `WorkloadService`.
const HOST_URL: &str = "berth-host-url";

/// Response metadata: the same values as in the headers of a NATS reply.
const ERROR_CODE: &str = "nats-service-error-code";
const ERROR_TEXT: &str = "nats-service-error";

/// Interval and timeout of keep-alive pings: short, so that a dead peer is detected before a status
/// request would have timed out twice.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(5);
