//! Proves that the equipment works and that a host is there before anything is judged.

use std::time::Duration;

use serde_json::Value;

use super::target::{RunningHost, Target};
use crate::spec::deadlines;
use crate::spec::roles::Role;
use crate::testbed::fixture::Fixture;
use crate::wire::nats;
use crate::wire::response::Headers;

/// Round trips measured.
const ROUND_TRIPS: u32 = 20;

/// What the doctor found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// The slowest round trip to the broker.
    pub slowest_rtt: Duration,
    /// The host's heartbeat, when it answered with one.
    pub heartbeat: Option<Value>,
    /// How long the host took to answer.
    pub host_rtt: Option<Duration>,
    /// Roles that nothing can play, with the reason.
    pub roles_missing: Vec<(Role, String)>,
}

impl Examination {
    /// The host's version, as its heartbeat says it.
    pub fn version(&self) -> Option<String> {
        Some(
            self.heartbeat
                .as_ref()?
                .get("version")?
                .as_str()?
                .to_owned(),
        )
    }

    /// One line for each finding: whether it is well, and what it is.
    pub fn lines(&self, target: &Target, host: &RunningHost, broker: &str) -> Vec<(bool, String)> {
        let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
        let mut lines = vec![
            (
                true,
                format!(
                    "broker     {broker}, slowest round trip {}",
                    ms(self.slowest_rtt)
                ),
            ),
            (
                true,
                format!("target     {}, host id {}", target.name, host.id),
            ),
        ];
        lines.push(match self.host_rtt {
            Some(rtt) => (true, format!("commands   answered after {}", ms(rtt))),
            None => (
                false,
                "commands   a `heartbeat` request is not answered".to_owned(),
            ),
        });
        lines.push(match &self.heartbeat {
            Some(_) => {
                let version = self.version().unwrap_or_else(|| "none".to_owned());
                (true, format!("heartbeat  version {version}"))
            }
            None => (
                false,
                "heartbeat  the answer is no HostHeartbeat".to_owned(),
            ),
        });
        lines.push(match &host.http_addr {
            Some(addr) => (true, format!("ingress    {addr}")),
            None => (
                true,
                "ingress    none: checks of HTTP are not testable".to_owned(),
            ),
        });
        lines.push(match &host.process {
            Some(process) => (
                true,
                format!("process    {}, behind the tap", process.pid()),
            ),
            None => (
                true,
                "process    not launched by the suite: no tap, no signals".to_owned(),
            ),
        });
        lines.push(match self.roles_missing.as_slice() {
            [] => (true, format!("images     all {} roles", Role::ALL.len())),
            missing => {
                let names: Vec<String> = missing.iter().map(|(role, _)| role.to_string()).collect();
                (true, format!("images     none for {}", names.join(", ")))
            }
        });
        lines
    }
}

/// Measures the broker, speaks to the host, and looks for the image of each role.
pub async fn examine(fixture: &Fixture, host: &RunningHost) -> Examination {
    let mut examination = Examination::default();
    for _ in 0..ROUND_TRIPS {
        if let Ok(took) = fixture.bus.round_trip().await {
            examination.slowest_rtt = examination.slowest_rtt.max(took);
        }
    }
    fixture.measured(examination.slowest_rtt);
    let subject = nats::command_subject(&host.id, "heartbeat");
    let inbox = format!("doctor.{}", fixture.next_tag());
    let (payload, headers) = (bytes::Bytes::from_static(b"{}"), Headers::none());
    let request = fixture.bus.request(&subject, &inbox, payload, &headers);
    if let Ok(mut replies) = request.await
        && let Some(delivery) = replies
            .next(deadlines::ANSWER.limit + fixture.patience())
            .await
        && delivery.status.is_none()
    {
        examination.host_rtt = Some(delivery.at.saturating_duration_since(replies.sent));
        let beat: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
        examination.heartbeat = beat.filter(|beat| beat.get("id").is_some());
    }
    for role in Role::ALL {
        if let Err(trouble) = fixture.images.artifact(*role) {
            let reason = crate::check::outcome::chain(&trouble);
            examination.roles_missing.push((*role, reason));
        }
    }
    examination
}
