//! What a host serves and whom it beats to.

use super::{Channel, Listener};

/// gRPC on the host's side: where commands come in, and the schedulers that heartbeats go to. Either may
/// be left out: a host without schedulers is found by its address, one without a listener is only heard.
#[derive(Debug, Default)]
pub struct HostSide {
    /// Where `WorkloadService` is served.
    pub listener: Option<Listener>,
    /// The schedulers whose `HostService` is told of this host.
    pub schedulers: Vec<Channel>,
}
