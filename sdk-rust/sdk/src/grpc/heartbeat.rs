//! A heartbeat received over gRPC.

use berth_proto::HostHeartbeat;

/// A heartbeat and the URL of its host.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedHeartbeat {
    /// The heartbeat. Its host ID is valid.
    pub heartbeat: HostHeartbeat,
    /// URL where the host accepts commands over gRPC, if any. It is not validated.
    pub url: Option<String>,
}
