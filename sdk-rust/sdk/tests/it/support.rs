//! What the tests stand on: brokers of both kinds, a bare NATS client, and a host to play with.

pub mod brokers;
pub mod certificates;
pub mod nats_server;
pub mod toy;
pub mod wire;

use std::time::Duration;

use tokio::time::Instant;

/// Harness patience: far beyond what anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition, or fails with what was waited for.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never: {what}"),
    }
}
