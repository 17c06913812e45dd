//! Monitors of heartbeats: the interval between them and the identity of the host.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Findings, Monitor, MonitorContext, payload_text};
use crate::spec::requirements::Requirement;
use crate::spec::{deadlines, requirements as req};
use crate::wire::trace::{Direction, Frame};

/// Tolerance for the suite's own measurement of arrival times.
const MEASUREMENT_ERROR: Duration = Duration::from_millis(250);

const INTERVAL_COVERS: &[&Requirement] = &[&req::HOST_BEAT_003, &req::HOST_BEAT_004];

/// Monitor of the interval between heartbeats.
#[derive(Default)]
pub struct Interval {
    previous: Option<Frame>,
    /// Whether the connection changed after the previous heartbeat.
    reconnected: bool,
    connected: bool,
}

impl Monitor for Interval {
    fn id(&self) -> &'static str {
        "monitor/heartbeat-interval"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        INTERVAL_COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        match frame.direction {
            Direction::Connected | Direction::Disconnected => {
                self.reconnected = true;
                self.connected = frame.direction == Direction::Connected;
            }
            Direction::FromHost if context.is_heartbeat(frame) => {
                // A frozen connection delivers delayed heartbeats in a burst that the host did not
                // send.
                if let Some(previous) = &self.previous
                    && !self.reconnected
                    && !context.checks_disturb_host
                {
                    let interval = frame.at.saturating_duration_since(previous.at);
                    let held = interval + MEASUREMENT_ERROR >= deadlines::HEARTBEAT_GAP_MIN.limit;
                    findings.judge(
                        &req::HOST_BEAT_004,
                        frame,
                        held,
                        "heartbeats at least 1 s apart",
                        || format!("{} ms after the previous heartbeat", interval.as_millis()),
                    );
                    judge_gap(frame, interval, findings);
                }
                self.previous = Some(frame.clone());
                self.reconnected = false;
                self.connected = true;
            }
            Direction::FromHost | Direction::ToHost => {}
        }
    }

    fn finish(&mut self, now: Instant, context: &MonitorContext, findings: &mut Findings) {
        if let (Some(previous), true, false) = (
            self.previous.clone(),
            self.connected,
            context.checks_disturb_host,
        ) {
            let interval = now.saturating_duration_since(previous.at);
            if interval > deadlines::HEARTBEAT_GAP_MAX.limit {
                judge_gap(&previous, interval, findings);
            }
        }
    }
}

fn judge_gap(frame: &Frame, interval: Duration, findings: &mut Findings) {
    let held = interval <= deadlines::HEARTBEAT_GAP_MAX.limit + MEASUREMENT_ERROR;
    findings.judge(
        &req::HOST_BEAT_003,
        frame,
        held,
        "heartbeats at most 30 s apart",
        || format!("{:.1} s between two heartbeats", interval.as_secs_f64()),
    );
}

/// Fields whose values must not change while the host runs.
const CONSTANT_FIELDS: &[&str] = &[
    "id",
    "friendlyName",
    "hostname",
    "version",
    "startedAt",
    "environment",
];

const IDENTITY_COVERS: &[&Requirement] = &[
    &req::HOST_BEAT_001,
    &req::HOST_BEAT_005,
    &req::HOST_BEAT_006,
    &req::HOST_BEAT_007,
    &req::HOST_BEAT_010,
    &req::HOST_BEAT_012,
];

/// Monitor of the host's identity, in published heartbeats and in replies.
#[derive(Default)]
pub struct Identity {
    first: Option<Value>,
}

impl Monitor for Identity {
    fn id(&self) -> &'static str {
        "monitor/heartbeat-identity"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        IDENTITY_COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        let published = context.is_heartbeat(frame);
        let replied = frame.direction == Direction::FromHost
            && context
                .request_of(frame)
                .is_some_and(|request| request.command == "heartbeat");
        if !published && !replied {
            return;
        }
        // The schema monitor judges payloads that are not JSON.
        let Ok(heartbeat) = serde_json::from_slice::<Value>(&frame.payload) else {
            return;
        };
        if published {
            let subject_id = frame.subject.rsplit('.').next().unwrap_or_default();
            let held = text(&heartbeat, "id") == Some(subject_id);
            let expected =
                format!("a bare HostHeartbeat with the id {subject_id:?} of its subject");
            findings.judge(&req::HOST_BEAT_001, frame, held, &expected, || {
                payload_text(frame)
            });
        }
        judge_completeness(frame, &heartbeat, findings);
        judge_interfaces(frame, &heartbeat, findings);
        self.judge_constancy(frame, heartbeat, findings);
    }
}

impl Identity {
    fn judge_constancy(&mut self, frame: &Frame, heartbeat: Value, findings: &mut Findings) {
        let Some(first) = &self.first else {
            self.first = Some(heartbeat);
            return;
        };
        let changed = CONSTANT_FIELDS
            .iter()
            .find(|name| first.get(**name) != heartbeat.get(**name));
        match changed {
            None => findings.satisfied(&req::HOST_BEAT_007),
            Some(name) => {
                let field = |value: &Value| {
                    format!("`{name}` {}", value.get(*name).unwrap_or(&Value::Null))
                };
                findings.violated(&req::HOST_BEAT_007, frame, field(first), field(&heartbeat));
            }
        }
    }
}

fn judge_completeness(frame: &Frame, heartbeat: &Value, findings: &mut Findings) {
    let required = ["id", "hostname", "friendlyName", "version", "startedAt"];
    let missing: Vec<&str> = required
        .into_iter()
        .filter(|name| text(heartbeat, name).is_none_or(str::is_empty))
        .collect();
    let expected = "a heartbeat with `id`, `hostname`, `friendlyName`, `version` and `startedAt`";
    findings.judge(
        &req::HOST_BEAT_005,
        frame,
        missing.is_empty(),
        expected,
        || format!("a heartbeat without {}", missing.join(", ")),
    );
    if let Some(hostname) = text(heartbeat, "hostname").filter(|name| !name.is_empty()) {
        let held = is_hostname_without_port(hostname);
        findings.judge(
            &req::HOST_BEAT_012,
            frame,
            held,
            "a hostname that is a host name or an IP address, without a port",
            || format!("the hostname {hostname:?}"),
        );
    }
    if let Some(name) = text(heartbeat, "friendlyName").filter(|name| !name.is_empty()) {
        let held = is_dns_1123_subdomain(name);
        findings.judge(
            &req::HOST_BEAT_006,
            frame,
            held,
            "a friendlyName that is a DNS-1123 subdomain",
            || format!("the friendlyName {name:?}"),
        );
    }
}

fn judge_interfaces(frame: &Frame, heartbeat: &Value, findings: &mut Findings) {
    let named = |entry: &Value| {
        ["namespace", "package"]
            .iter()
            .all(|name| text(entry, name).is_some_and(|text| !text.is_empty()))
    };
    let lists = ["imports", "exports"].map(|list| heartbeat.get(list).and_then(Value::as_array));
    let incomplete = lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| !named(entry));
    match incomplete {
        None => findings.satisfied(&req::HOST_BEAT_010),
        Some(entry) => {
            let expected = "`namespace` and `package` in each entry of `imports` and `exports`";
            findings.violated(&req::HOST_BEAT_010, frame, expected, entry.to_string());
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// Returns whether the text is an IP address, in brackets or not, or has the characters of a host
/// name.
pub fn is_hostname_without_port(hostname: &str) -> bool {
    let address = hostname
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hostname);
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    address.parse::<std::net::IpAddr>().is_ok() || is_name(hostname)
}

/// Returns whether the name consists of labels of lowercase letters, digits and inner hyphens,
/// joined by dots, with at most 253 characters.
pub fn is_dns_1123_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| is_alphanumeric(byte) || byte == b'-')
            && label.bytes().next().is_some_and(is_alphanumeric)
            && label.bytes().last().is_some_and(is_alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::monitors::test_frames::{frame, violated_requirements};

    const SUBJECT: &str = "runtime.operator.heartbeat.h";

    fn heartbeat(change: impl FnOnce(&mut Value)) -> String {
        let mut heartbeat = serde_json::json!({
            "id": "h", "hostname": "x", "friendlyName": "calm-otter-1", "version": "1",
            "startedAt": "2026-01-01T00:00:00Z",
        });
        change(&mut heartbeat);
        heartbeat.to_string()
    }

    #[test]
    fn reports_bursts_and_gaps() {
        let base = Instant::now();
        let at = |ms: u64| frame(base, ms, Direction::FromHost, SUBJECT, &heartbeat(|_| ()));
        let connection = |ms: u64, direction| frame(base, ms, direction, "", "");
        assert!(violated_requirements([at(0), at(15_000), at(30_000)]).is_empty());
        assert_eq!(violated_requirements([at(0), at(100)]), ["HOST-BEAT-004"]);
        assert_eq!(
            violated_requirements([at(0), at(31_000)]),
            ["HOST-BEAT-003"]
        );
        assert!(
            violated_requirements([at(0), connection(50, Direction::Connected), at(100)])
                .is_empty(),
            "after a reconnect"
        );
        assert!(
            violated_requirements([
                at(0),
                connection(1, Direction::Disconnected),
                connection(99_000, Direction::Connected),
                at(99_100)
            ])
            .is_empty()
        );
    }

    #[test]
    fn reports_incomplete_and_changed_identity() {
        let base = Instant::now();
        let one = |text: &str| {
            violated_requirements([frame(base, 0, Direction::FromHost, SUBJECT, text)])
        };
        assert!(one(&heartbeat(|_| ())).is_empty());
        assert_eq!(
            one(&heartbeat(|heartbeat| heartbeat["hostname"] = "".into())),
            ["HOST-BEAT-005"]
        );
        assert_eq!(
            one(&heartbeat(
                |heartbeat| heartbeat["friendlyName"] = "Calm Otter".into()
            )),
            ["HOST-BEAT-006"]
        );
        assert_eq!(
            one(&heartbeat(|heartbeat| heartbeat["id"] = "other".into())),
            ["HOST-BEAT-001"]
        );
        let incomplete = serde_json::json!([{ "package": "config" }]);
        assert_eq!(
            one(&heartbeat(|heartbeat| heartbeat["imports"] = incomplete)),
            ["HOST-BEAT-010"]
        );
        let changed = heartbeat(|heartbeat| heartbeat["friendlyName"] = "calm-otter-2".into());
        let first = frame(base, 0, Direction::FromHost, SUBJECT, &heartbeat(|_| ()));
        assert_eq!(
            violated_requirements([
                first,
                frame(base, 15_000, Direction::FromHost, SUBJECT, &changed)
            ]),
            ["HOST-BEAT-007"]
        );
    }

    #[test]
    fn validates_hostnames() {
        for good in ["a", "node-1.example.org", "127.0.0.1", "::1", "[fe80::1]"] {
            assert!(is_hostname_without_port(good), "{good}");
        }
        for bad in ["a:80", "127.0.0.1:80", "[::1]:80", "http://a", "a/b", "a b"] {
            assert!(!is_hostname_without_port(bad), "{bad}");
        }
    }

    #[test]
    fn validates_dns_1123_subdomains() {
        for good in ["a", "a-b.c", "1a", &"a".repeat(63)] {
            assert!(is_dns_1123_subdomain(good), "{good}");
        }
        for bad in [
            "",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "a b",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert!(!is_dns_1123_subdomain(bad), "{bad}");
        }
    }
}
