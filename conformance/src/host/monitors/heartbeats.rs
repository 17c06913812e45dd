//! Heartbeats come often enough, never in bursts, and always say who the host is.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Findings, Monitor, MonitorContext, shown};
use crate::spec::requirements::Requirement;
use crate::spec::{deadlines, requirements as req};
use crate::wire::trace::{Direction, Frame};

/// What the suite's own clock may be off by when it compares two arrivals.
const MEASUREMENT_ERROR: Duration = Duration::from_millis(250);

const CADENCE_COVERS: &[&Requirement] = &[&req::HOST_BEAT_003, &req::HOST_BEAT_004];

/// Judges the time between heartbeats.
#[derive(Default)]
pub struct Cadence {
    last: Option<Frame>,
    /// The connection changed since the last heartbeat.
    reconnected: bool,
    connected: bool,
}

impl Monitor for Cadence {
    fn id(&self) -> &'static str {
        "monitor/heartbeat-cadence"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        CADENCE_COVERS
    }

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        match frame.way {
            Direction::Connected | Direction::Disconnected => {
                self.reconnected = true;
                self.connected = frame.way == Direction::Connected;
            }
            Direction::FromHost if scene.is_heartbeat(frame) => {
                // What a frozen connection lets go of at once was not sent at once.
                if let Some(last) = &self.last
                    && !self.reconnected
                    && !scene.tampered
                {
                    let apart = frame.at.saturating_duration_since(last.at);
                    let held = apart + MEASUREMENT_ERROR >= deadlines::HEARTBEAT_APART.limit;
                    findings.judge(
                        &req::HOST_BEAT_004,
                        frame,
                        held,
                        "at least 1 s apart",
                        || format!("{} ms after the one before", apart.as_millis()),
                    );
                    self.gap(frame, apart, findings);
                }
                self.last = Some(frame.clone());
                self.reconnected = false;
                self.connected = true;
            }
            Direction::FromHost | Direction::ToHost => {}
        }
    }

    fn end(&mut self, now: Instant, scene: &MonitorContext, findings: &mut Findings) {
        if let (Some(last), true, false) = (self.last.clone(), self.connected, scene.tampered) {
            let apart = now.saturating_duration_since(last.at);
            if apart > deadlines::HEARTBEAT_GAP.limit {
                self.gap(&last, apart, findings);
            }
        }
    }
}

impl Cadence {
    fn gap(&self, frame: &Frame, apart: Duration, findings: &mut Findings) {
        let held = apart <= deadlines::HEARTBEAT_GAP.limit + MEASUREMENT_ERROR;
        findings.judge(
            &req::HOST_BEAT_003,
            frame,
            held,
            "at most 30 s apart",
            || format!("{:.1} s between two heartbeats", apart.as_secs_f64()),
        );
    }
}

const IDENTITY: &[&str] = &[
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
];

/// Judges who the host says it is, in published heartbeats and in answers alike.
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

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        let published = scene.is_heartbeat(frame);
        let answered = frame.way == Direction::FromHost
            && scene
                .asked(frame)
                .is_some_and(|asked| asked.command == "heartbeat");
        if !published && !answered {
            return;
        }
        // What is not JSON at all is judged as writing.
        let Ok(beat) = serde_json::from_slice::<Value>(&frame.payload) else {
            return;
        };
        if published {
            let subject_id = frame.subject.rsplit('.').next().unwrap_or_default();
            let held = text(&beat, "id") == Some(subject_id);
            let expected =
                format!("a bare HostHeartbeat with the id {subject_id:?} of its subject");
            findings.judge(&req::HOST_BEAT_001, frame, held, &expected, || shown(frame));
        }
        complete(frame, &beat, findings);
        interfaces(frame, &beat, findings);
        self.constant(frame, beat, findings);
    }
}

impl Identity {
    fn constant(&mut self, frame: &Frame, beat: Value, findings: &mut Findings) {
        let Some(first) = &self.first else {
            self.first = Some(beat);
            return;
        };
        let changed = IDENTITY
            .iter()
            .find(|name| first.get(**name) != beat.get(**name));
        match changed {
            None => findings.kept(&req::HOST_BEAT_007),
            Some(name) => {
                let shown = |value: &Value| {
                    format!("`{name}` {}", value.get(*name).unwrap_or(&Value::Null))
                };
                findings.broke(&req::HOST_BEAT_007, frame, shown(first), shown(&beat));
            }
        }
    }
}

fn complete(frame: &Frame, beat: &Value, findings: &mut Findings) {
    let needed = ["id", "hostname", "friendlyName", "version", "startedAt"];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|name| text(beat, name).is_none_or(str::is_empty))
        .collect();
    let expected = "`id`, `hostname`, `friendlyName`, `version` and `startedAt`";
    findings.judge(
        &req::HOST_BEAT_005,
        frame,
        missing.is_empty(),
        expected,
        || format!("without {}", missing.join(", ")),
    );
    if let Some(name) = text(beat, "friendlyName").filter(|name| !name.is_empty()) {
        let held = is_dns_1123_subdomain(name);
        findings.judge(
            &req::HOST_BEAT_006,
            frame,
            held,
            "a DNS-1123 subdomain",
            || format!("the friendlyName {name:?}"),
        );
    }
}

fn interfaces(frame: &Frame, beat: &Value, findings: &mut Findings) {
    let named = |entry: &Value| {
        ["namespace", "package"]
            .iter()
            .all(|name| text(entry, name).is_some_and(|text| !text.is_empty()))
    };
    let lists = ["imports", "exports"].map(|list| beat.get(list).and_then(Value::as_array));
    let nameless = lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| !named(entry));
    match nameless {
        None => findings.kept(&req::HOST_BEAT_010),
        Some(entry) => {
            let expected = "a `namespace` and a `package` in each entry";
            findings.broke(&req::HOST_BEAT_010, frame, expected, entry.to_string());
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// Labels of lower-case letters, digits and inner hyphens, joined by dots; 253 characters at most.
pub fn is_dns_1123_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().last().is_some_and(inner)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::monitors::script::{broken, frame};

    const SUBJECT: &str = "runtime.operator.heartbeat.h";

    fn beat(change: impl FnOnce(&mut Value)) -> String {
        let mut beat = serde_json::json!({
            "id": "h", "hostname": "x", "friendlyName": "calm-otter-1", "version": "1",
            "startedAt": "2026-01-01T00:00:00Z",
        });
        change(&mut beat);
        beat.to_string()
    }

    #[test]
    fn bursts_and_gaps_are_breaches() {
        let begin = Instant::now();
        let at = |ms: u64| frame(begin, ms, Direction::FromHost, SUBJECT, &beat(|_| ()));
        let line = |ms: u64, way| frame(begin, ms, way, "", "");
        assert!(broken([at(0), at(15_000), at(30_000)]).is_empty());
        assert_eq!(broken([at(0), at(100)]), ["HOST-BEAT-004"]);
        assert_eq!(broken([at(0), at(31_000)]), ["HOST-BEAT-003"]);
        assert!(
            broken([at(0), line(50, Direction::Connected), at(100)]).is_empty(),
            "after a reconnect"
        );
        assert!(
            broken([
                at(0),
                line(1, Direction::Disconnected),
                line(99_000, Direction::Connected),
                at(99_100)
            ])
            .is_empty()
        );
    }

    #[test]
    fn identity_is_complete_and_constant() {
        let begin = Instant::now();
        let one = |text: &str| broken([frame(begin, 0, Direction::FromHost, SUBJECT, text)]);
        assert!(one(&beat(|_| ())).is_empty());
        assert_eq!(
            one(&beat(|beat| beat["hostname"] = "".into())),
            ["HOST-BEAT-005"]
        );
        assert_eq!(
            one(&beat(|beat| beat["friendlyName"] = "Calm Otter".into())),
            ["HOST-BEAT-006"]
        );
        assert_eq!(
            one(&beat(|beat| beat["id"] = "other".into())),
            ["HOST-BEAT-001"]
        );
        let nameless = serde_json::json!([{ "package": "config" }]);
        assert_eq!(
            one(&beat(|beat| beat["imports"] = nameless)),
            ["HOST-BEAT-010"]
        );
        let changed = beat(|beat| beat["friendlyName"] = "calm-otter-2".into());
        let first = frame(begin, 0, Direction::FromHost, SUBJECT, &beat(|_| ()));
        assert_eq!(
            broken([
                first,
                frame(begin, 15_000, Direction::FromHost, SUBJECT, &changed)
            ]),
            ["HOST-BEAT-007"]
        );
    }

    #[test]
    fn dns_names() {
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
