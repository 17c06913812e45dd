//! Preflight: verifies that the broker and the host respond before any check runs.

use std::time::Duration;

use serde_json::Value;

use super::target::{RunningHost, Target};
use crate::spec::deadlines;
use crate::spec::roles::Role;
use crate::testbed::fixture::Fixture;
use crate::wire::nats;
use crate::wire::response::Headers;

/// Number of round trips that are measured.
const ROUND_TRIPS: u32 = 20;

/// Marks of the lines of a preflight.
const HEALTHY: bool = true;
const UNHEALTHY: bool = false;

/// Result of the preflight.
#[derive(Clone, Debug, Default)]
pub struct PreflightResult {
    /// Slowest round trip to the broker.
    pub slowest_rtt: Duration,
    /// Heartbeat with which the host replied.
    pub heartbeat: Option<Value>,
    /// Time that the host took to reply.
    pub host_rtt: Option<Duration>,
    /// Roles without an image, with the reason.
    pub missing_roles: Vec<(Role, String)>,
}

impl PreflightResult {
    /// Returns the version in the heartbeat of the host.
    pub fn version(&self) -> Option<String> {
        Some(
            self.heartbeat
                .as_ref()?
                .get("version")?
                .as_str()?
                .to_owned(),
        )
    }

    /// Returns one line per finding: whether it is healthy, and its text.
    pub fn lines(&self, target: &Target, host: &RunningHost, broker: &str) -> Vec<(bool, String)> {
        let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
        let mut lines = vec![
            (
                HEALTHY,
                format!(
                    "broker     {broker}, slowest round trip {}",
                    ms(self.slowest_rtt)
                ),
            ),
            (
                HEALTHY,
                format!("target     {}, host id {}", target.name, host.id),
            ),
        ];
        lines.push(match self.host_rtt {
            Some(rtt) => (HEALTHY, format!("commands   reply after {}", ms(rtt))),
            None => (
                UNHEALTHY,
                "commands   no reply to a `heartbeat` request".to_owned(),
            ),
        });
        lines.push(match &self.heartbeat {
            Some(_) => {
                let version = self.version().unwrap_or_else(|| "none".to_owned());
                (HEALTHY, format!("heartbeat  version {version}"))
            }
            None => (
                UNHEALTHY,
                "heartbeat  the reply is not a HostHeartbeat".to_owned(),
            ),
        });
        lines.push(match &host.http_addr {
            Some(addr) => (HEALTHY, format!("ingress    {addr}")),
            None => (
                HEALTHY,
                "ingress    none: HTTP checks are not testable".to_owned(),
            ),
        });
        lines.push(match &host.process {
            Some(process) => (
                HEALTHY,
                format!("process    {}, behind the tap", process.pid()),
            ),
            None => (
                HEALTHY,
                "process    not launched by the suite: no tap, no signals".to_owned(),
            ),
        });
        lines.push(match self.missing_roles.as_slice() {
            [] => (
                HEALTHY,
                format!("images     for all {} roles", Role::ALL.len()),
            ),
            missing => {
                let names: Vec<String> = missing.iter().map(|(role, _)| role.to_string()).collect();
                (HEALTHY, format!("images     none for {}", names.join(", ")))
            }
        });
        lines
    }
}

/// Measures the round trip to the broker, requests a heartbeat, and loads the image of each role.
pub async fn run(fixture: &Fixture, host: &RunningHost) -> PreflightResult {
    let mut preflight = PreflightResult::default();
    for _ in 0..ROUND_TRIPS {
        if let Ok(took) = fixture.bus.round_trip().await {
            preflight.slowest_rtt = preflight.slowest_rtt.max(took);
        }
    }
    fixture.set_slowest_rtt(preflight.slowest_rtt);
    let subject = nats::command_subject(&host.id, "heartbeat");
    let inbox = format!("preflight.{}", fixture.next_unique_name());
    let (payload, headers) = (bytes::Bytes::from_static(b"{}"), Headers::none());
    let request = fixture.bus.request(&subject, &inbox, payload, &headers);
    if let Ok(mut replies) = request.await
        && let Some(delivery) = replies
            .next(deadlines::REPLY.limit + fixture.patience())
            .await
        && delivery.status.is_none()
    {
        preflight.host_rtt = Some(delivery.at.saturating_duration_since(replies.sent_at));
        let heartbeat: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
        preflight.heartbeat = heartbeat.filter(|heartbeat| heartbeat.get("id").is_some());
    }
    for role in Role::ALL {
        if let Err(error) = fixture.images.artifact(*role) {
            let reason = crate::check::outcome::error_chain(&error);
            preflight.missing_roles.push((*role, reason));
        }
    }
    preflight
}
