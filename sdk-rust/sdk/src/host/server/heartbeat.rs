//! The heartbeats of a host: content and schedule.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_proto::HostHeartbeat;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::executor::Executor;
use crate::bus::Bus;
use crate::host::{Description, Host, ServeError, ServeOptions};
use crate::subject;

/// Time that a heartbeat may wait for the connection; after that it is stale.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time to wait for a queued heartbeat to be sent before the next one is queued: longer than any
/// outage, so that at most one heartbeat is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Delay before a heartbeat that was interrupted by a reconnect is repeated. It is more than 1 s,
/// because two heartbeats within a second are a burst (HOST-BEAT-004), and less than 2 s, after
/// which the first heartbeat on a new connection is late (HOST-RESIL-002).
const REPEAT_DELAY: Duration = Duration::from_millis(1300);

/// Builds and publishes the heartbeats of a host.
pub(super) struct HeartbeatPublisher<H: Host> {
    host: Arc<H>,
    executor: Arc<Executor<H>>,
    host_id: String,
    started_at: pbjson_types::Timestamp,
    /// The first description: the identity never changes (HOST-BEAT-007).
    identity: Description,
    /// Whether the host replies to discovery requests, which only NATS carries.
    is_discoverable: bool,
}

impl<H: Host> HeartbeatPublisher<H> {
    pub fn new(
        host: Arc<H>,
        executor: Arc<Executor<H>>,
        options: &ServeOptions,
        is_discoverable: bool,
    ) -> Result<Self, ServeError> {
        let identity = host.describe();
        if identity.hostname.is_empty() || identity.version.is_empty() {
            return Err(ServeError::IncompleteDescription(
                "hostname or version is empty",
            ));
        }
        if !is_dns_1123_subdomain(&identity.friendly_name) {
            return Err(ServeError::InvalidFriendlyName(identity.friendly_name));
        }
        let started_at = now();
        Ok(Self {
            host,
            executor,
            host_id: options.host_id.clone(),
            started_at,
            identity,
            is_discoverable,
        })
    }

    /// Returns the host name from the description.
    #[cfg(feature = "grpc")]
    pub fn hostname(&self) -> &str {
        &self.identity.hostname
    }

    /// Publishes a heartbeat immediately, at each interval and after each reconnect, until `stop`.
    /// Publishes nothing while disconnected, so that no burst follows (HOST-RESIL-004).
    pub async fn run(&self, bus: &Bus, interval: Duration, stop: CancellationToken) {
        let publishing = self.publish_until_closed(bus, interval);
        stop.run_until_cancelled(publishing).await;
    }

    async fn publish_until_closed(&self, bus: &Bus, interval: Duration) {
        let mut state = bus.connection_state();
        loop {
            let connected = state.wait_for(|state| state.connected).await;
            let Ok(before) = connected.map(|state| *state) else {
                return;
            };
            let began = Instant::now();
            self.publish(bus).await;
            let after = *state.borrow();
            let next = if after.generation == before.generation {
                began + interval
            } else {
                // The connection broke during this heartbeat, so it is unknown whether the
                // heartbeat was sent on the new connection. Repeat it.
                Instant::now() + REPEAT_DELAY
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                reconnected = state.wait_for(|state| state.generation > after.generation) => {
                    if reconnected.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Returns a current heartbeat as JSON, or `None` if the host cannot describe itself.
    pub fn message(&self) -> Option<Vec<u8>> {
        match crate::json::encode(&self.heartbeat()?) {
            Ok(message) => Some(message),
            Err(error) => {
                tracing::error!(%error, "cannot encode heartbeat");
                None
            }
        }
    }

    /// Returns a current heartbeat, or `None` if the host cannot describe itself.
    pub fn heartbeat(&self) -> Option<HostHeartbeat> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.host.describe())) {
            Ok(description) => Some(self.heartbeat_with(description)),
            Err(_) => {
                tracing::error!("the host panicked in describe()");
                None
            }
        }
    }

    async fn publish(&self, bus: &Bus) {
        let Some(message) = self.message() else {
            return;
        };
        // The subscription to commands was queued earlier on this connection, so it is in effect
        // when this heartbeat arrives (HOST-WIRE-014).
        let published = bus.publish(subject::heartbeat_of(&self.host_id), message, None);
        match timeout(QUEUE_TIMEOUT, published).await {
            // Waits through an outage if necessary: one queued heartbeat is enough.
            Ok(Ok(())) => drop(bus.flush(FLUSH_TIMEOUT).await),
            Ok(Err(error)) => tracing::warn!(%error, "cannot publish heartbeat"),
            Err(_) => tracing::warn!("heartbeat dropped: timed out waiting for the broker"),
        }
    }

    fn heartbeat_with(&self, mut description: Description) -> HostHeartbeat {
        if self.is_discoverable {
            let labels = &mut description.labels;
            labels.insert(subject::DISCOVER_LABEL.to_owned(), "true".to_owned());
        }
        let cpu = description.system_cpu_usage;
        HostHeartbeat {
            id: self.host_id.clone(),
            hostname: self.identity.hostname.clone(),
            friendly_name: self.identity.friendly_name.clone(),
            version: self.identity.version.clone(),
            labels: description.labels,
            started_at: Some(self.started_at),
            os_arch: description.os_arch,
            os_name: description.os_name,
            os_kernel: description.os_kernel,
            // JSON has no NaN or infinity, and null is not allowed.
            system_cpu_usage: if cpu.is_finite() { cpu } else { 0.0 },
            system_memory_total: description.system_memory_total,
            system_memory_free: description.system_memory_free,
            component_count: description.component_count,
            workload_count: self.executor.workload_count(),
            imports: description.imports,
            exports: description.exports,
            http_port: description.http_port,
            environment: self.identity.environment.clone(),
        }
    }
}

fn now() -> pbjson_types::Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    pbjson_types::Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or_default(),
        nanos: i32::try_from(since_epoch.subsec_millis() * 1_000_000).unwrap_or_default(),
    }
}

/// HOST-BEAT-006: the friendly name becomes the name of a Kubernetes object.
fn is_dns_1123_subdomain(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
            && bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_dns_1123_subdomains() {
        for valid in ["a", "quiet-river-0412", "a.b-c.9"] {
            assert!(is_dns_1123_subdomain(valid), "{valid}");
        }
        for invalid in ["", "A", "a_b", "-a", "a-", "a..b", "a b", &"a".repeat(254)] {
            assert!(!is_dns_1123_subdomain(invalid), "{invalid}");
        }
    }
}
