//! A heartbeat that came over gRPC.

use berth_proto::HostHeartbeat;

/// A heartbeat, and the way back to the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// What the host says of itself. Its id is one that a host may have.
    pub heartbeat: HostHeartbeat,
    /// Where it takes commands over gRPC, if it does. As the host says it: not proven to be a URL.
    pub url: Option<String>,
}
