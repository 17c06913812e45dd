//! The gRPC endpoints of a host.

use super::{Channel, Listener};

/// gRPC endpoints of a host: a listener for commands, and schedulers that receive heartbeats.
///
/// Either may be absent: a host without schedulers is reached at a known address, and a host
/// without a listener only sends heartbeats.
#[derive(Debug, Default)]
pub struct HostEndpoints {
    /// Listener that serves `WorkloadService`.
    pub listener: Option<Listener>,
    /// Schedulers whose `HostService` receives the heartbeats.
    pub schedulers: Vec<Channel>,
}
