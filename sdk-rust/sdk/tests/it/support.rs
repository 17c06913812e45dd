//! Test fixtures: brokers of both kinds, a bare NATS client, and a fake host.

pub mod brokers;
pub mod certificates;
pub mod fake_host;
pub mod nats_server;
pub mod wire;

use std::time::Duration;

use tokio::time::Instant;

/// Time limit of each wait, far longer than any wait takes even on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until a condition yields a value; panics after [`TIMEOUT`].
pub async fn eventually<T>(description: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out: {description}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Limit of starts and stops in flight in a host.
pub const MAX_IN_FLIGHT: usize = 512;

/// Awaits a future; panics after [`TIMEOUT`].
pub async fn within_timeout<T>(description: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out: {description}"),
    }
}
