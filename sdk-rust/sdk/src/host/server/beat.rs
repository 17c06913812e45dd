//! The heartbeat: what it says and when.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_proto::HostHeartbeat;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::runs::Runs;
use crate::bus::Bus;
use crate::host::{Description, Host, ServeError, ServeOptions};
use crate::subject;

/// How long a heartbeat may wait for the connection; a late one says nothing new.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait for a heartbeat to leave before the next one is put in line. Longer than outages last.
const OUTAGE: Duration = Duration::from_secs(24 * 3600);

/// Two heartbeats within a second are a burst (HOST-BEAT-004), and a late one after a reconnect is missed
/// after two (HOST-RESIL-002).
const APART: Duration = Duration::from_millis(1300);

/// Says that the host is there.
pub(super) struct Heart<H: Host> {
    host: Arc<H>,
    runs: Arc<Runs<H>>,
    host_id: String,
    started_at: pbjson_types::Timestamp,
    /// As first described: identity is constant for the life of the process (HOST-BEAT-007).
    identity: Description,
}

impl<H: Host> Heart<H> {
    pub fn new(
        host: Arc<H>,
        runs: Arc<Runs<H>>,
        options: &ServeOptions,
    ) -> Result<Self, ServeError> {
        let identity = host.describe();
        if identity.hostname.is_empty() || identity.version.is_empty() {
            return Err(ServeError::Description("hostname or version is empty"));
        }
        if !is_dns_1123_subdomain(&identity.friendly_name) {
            return Err(ServeError::FriendlyName(identity.friendly_name));
        }
        let started_at = now();
        Ok(Self {
            host,
            runs,
            host_id: options.host_id.clone(),
            started_at,
            identity,
        })
    }

    /// The name or address that the host gave itself.
    #[cfg(feature = "grpc")]
    pub fn hostname(&self) -> &str {
        &self.identity.hostname
    }

    /// Beats at once, then at each interval and after each reconnect, until `stop`. While there is no
    /// connection nothing is published, so that no burst follows (HOST-RESIL-004).
    pub async fn beat(&self, bus: &Bus, interval: Duration, stop: CancellationToken) {
        let beats = self.beat_for_ever(bus, interval);
        stop.run_until_cancelled(beats).await;
    }

    async fn beat_for_ever(&self, bus: &Bus, interval: Duration) {
        let mut link = bus.link();
        loop {
            let connected = link.wait_for(|link| link.connected).await.map(|link| *link);
            let Ok(before) = connected else { return };
            let began = Instant::now();
            self.publish(bus).await;
            let after = *link.borrow();
            let next = if after.connects == before.connects {
                began + interval
            } else {
                // The connection broke under this heartbeat: it may have gone out on the new one, or
                // not at all. Another soon, but not so soon as to be a burst.
                Instant::now() + APART
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                again = link.wait_for(|link| link.connects > after.connects) => {
                    if again.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The heartbeat as of now as JSON; `None` when the host cannot describe itself.
    pub fn message(&self) -> Option<Vec<u8>> {
        match crate::json::write(&self.now()?) {
            Ok(message) => Some(message),
            Err(error) => {
                tracing::error!(%error, "the heartbeat cannot be written");
                None
            }
        }
    }

    /// The heartbeat as of now; `None` when the host cannot describe itself.
    pub fn now(&self) -> Option<HostHeartbeat> {
        let described = std::panic::catch_unwind(AssertUnwindSafe(|| self.host.describe()));
        match described {
            Ok(described) => Some(self.heartbeat(described)),
            Err(_) => {
                tracing::error!("the host panicked while it described itself");
                None
            }
        }
    }

    async fn publish(&self, bus: &Bus) {
        let Some(message) = self.message() else {
            return;
        };
        // The subscription, handed over earlier on this connection, is in effect before this
        // (HOST-WIRE-014).
        let published = bus.publish(subject::heartbeat_of(&self.host_id), message, None);
        match timeout(PATIENCE, published).await {
            // Waits through an outage, if need be: a heartbeat in line is enough.
            Ok(Ok(())) => drop(bus.flush(OUTAGE).await),
            Ok(Err(error)) => tracing::warn!(%error, "a heartbeat could not be sent"),
            Err(_) => tracing::warn!("a heartbeat waited too long for the broker and is dropped"),
        }
    }

    fn heartbeat(&self, now: Description) -> HostHeartbeat {
        let cpu = now.system_cpu_usage;
        HostHeartbeat {
            id: self.host_id.clone(),
            hostname: self.identity.hostname.clone(),
            friendly_name: self.identity.friendly_name.clone(),
            version: self.identity.version.clone(),
            labels: now.labels,
            started_at: Some(self.started_at),
            os_arch: now.os_arch,
            os_name: now.os_name,
            os_kernel: now.os_kernel,
            // JSON has no number for the others, and null is not allowed.
            system_cpu_usage: if cpu.is_finite() { cpu } else { 0.0 },
            system_memory_total: now.system_memory_total,
            system_memory_free: now.system_memory_free,
            component_count: now.component_count,
            workload_count: self.runs.workload_count(),
            imports: now.imports,
            exports: now.exports,
            http_port: now.http_port,
            environment: self.identity.environment.clone(),
        }
    }
}

fn now() -> pbjson_types::Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    pbjson_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or_default(),
        nanos: i32::try_from(since.subsec_millis() * 1_000_000).unwrap_or_default(),
    }
}

/// HOST-BEAT-006: the name becomes that of a Kubernetes object.
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
    fn names_for_kubernetes() {
        for good in ["a", "quiet-river-0412", "a.b-c.9"] {
            assert!(is_dns_1123_subdomain(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", "a b", &"a".repeat(254)] {
            assert!(!is_dns_1123_subdomain(bad), "{bad}");
        }
    }
}
