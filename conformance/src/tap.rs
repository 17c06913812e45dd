//! Sits between a host and the broker: records every frame, and can drop, delay, duplicate or cut.

/// A listener that forwards to a broker.
#[derive(Debug)]
pub struct Tap {}
