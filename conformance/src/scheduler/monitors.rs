//! Monitors: checks that judge every frame that a scheduler publishes, across all scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::Environment;
use crate::check::monitor_outcome;
use crate::check::outcome::{Outcome, Status, Violation};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::testbed::tap::{Direction, Disposition, Frame, FrameKind};
use crate::wire::json_judge;
use crate::wire::nats::{HEARTBEAT_PREFIX, parse_command_subject};
use crate::wire::response::shortened;

/// IDs of the outcomes of the monitors.
pub const MONITORS: &[&str] = &["monitor/schema", "monitor/commands", "monitor/alive"];

const SCHEMA_COVERS: &[&Requirement] = &[
    &req::SCHED_ENC_001,
    &req::SCHED_ENC_002,
    &req::SCHED_ENC_003,
    &req::SCHED_ENC_004,
    &req::SCHED_ENC_005,
    &req::SCHED_ENC_006,
];
const COMMANDS_COVERS: &[&Requirement] = &[
    &req::SCHED_WIRE_001,
    &req::SCHED_WIRE_002,
    &req::SCHED_WIRE_003,
    &req::SCHED_WIRE_005,
];

/// Numeric fields for which zero has the same meaning as absence.
const LIMITS: [&str; 6] = [
    "poolSize",
    "maxInvocations",
    "maxConcurrency",
    "maxRestarts",
    "memoryLimitMb",
    "cpuLimit",
];
/// Maximum number of breaches that are reported for one requirement in the whole run.
const MAX_BREACHES: usize = 4;

/// Returns the ids of the monitors that judge a requirement.
pub fn covering(requirement: &'static Requirement) -> impl Iterator<Item = &'static str> {
    let of = |covers: &[&'static Requirement], id: &'static str| {
        covers.contains(&requirement).then_some(id)
    };
    let schema = of(SCHEMA_COVERS, "monitor/schema");
    let commands = of(COMMANDS_COVERS, "monitor/commands");
    schema.into_iter().chain(commands)
}

/// Judgment of a payload by one requirement.
pub(super) struct EncodingJudgment {
    /// The requirement.
    pub(super) requirement: &'static Requirement,
    /// Expected encoding.
    pub(super) expected: String,
    /// The fault, and the payload that contains it; `None` if the payload conforms.
    pub(super) actual: Option<String>,
}

/// Judges the encoding of a request that a scheduler has published. Pure.
pub(super) fn judge_encoding(payload: &[u8], message: &str) -> Vec<EncodingJudgment> {
    let faults = json_judge::judge(payload, message);
    let excerpt = || shortened(&String::from_utf8_lossy(payload), 120);
    let mut judgments = Vec::new();
    for (host_requirement, requirement) in [
        (&req::HOST_JSON_001, &req::SCHED_ENC_001),
        (&req::HOST_JSON_002, &req::SCHED_ENC_002),
        (&req::HOST_JSON_003, &req::SCHED_ENC_002),
        (&req::HOST_JSON_004, &req::SCHED_ENC_003),
        (&req::HOST_JSON_006, &req::SCHED_ENC_004),
        (&req::HOST_JSON_008, &req::SCHED_ENC_005),
    ] {
        let fault = faults
            .iter()
            .find(|fault| fault.requirement == host_requirement);
        let actual =
            fault.map(|fault| format!("{}: {}, in {}", fault.path, fault.actual, excerpt()));
        judgments.push(EncodingJudgment {
            requirement,
            expected: fault.map_or("the encoding of the schema".to_owned(), |fault| {
                fault.expected.clone()
            }),
            actual,
        });
    }
    if let Ok(json) = serde_json::from_slice::<Value>(payload) {
        judgments.push(EncodingJudgment {
            requirement: &req::SCHED_ENC_006,
            expected: "a limit without a value is absent, not 0".to_owned(),
            actual: zero_limit(&json).map(|name| format!("{name} is 0")),
        });
    }
    judgments
}

/// Judgments of frames by one requirement.
#[derive(Debug, Default)]
struct Judgments {
    /// Number of judged frames.
    count: u64,
    /// First [`MAX_BREACHES`] breaches: the expected and the actual behavior.
    breaches: Vec<(String, String)>,
}

/// Monitors of all schedulers of a run.
#[derive(Debug, Default)]
pub struct Monitors {
    judgments: BTreeMap<&'static str, Judgments>,
    crash_logs: Vec<String>,
}

impl Monitors {
    /// Judges the frames that the scheduler of an environment has published.
    pub fn judge_traffic(&mut self, environment: &Environment) {
        let mut known_hosts = BTreeSet::new();
        let mut heartbeat_requests: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for frame in environment.scheduler.bus.tap().frames() {
            self.judge_frame(&frame, &mut known_hosts, &mut heartbeat_requests);
        }
        for (host, times) in heartbeat_requests {
            let counts = times.iter().filter_map(|first| {
                let later = times
                    .iter()
                    .filter(|at| *at > first && **at < *first + Duration::from_secs(60));
                let count = later.count();
                (count > 0).then_some(count + 1)
            });
            let max = counts.max();
            self.judge(
                &req::SCHED_WIRE_005,
                max.is_none(),
                "at most one heartbeat request to a host per minute",
                || format!("{} to {host} within a minute", max.unwrap_or_default()),
            );
        }
    }

    /// Judges whether the scheduler's process still runs. Scenarios end the processes of their own
    /// schedulers, so only the process of the shared scheduler can be judged.
    pub fn judge_process(&mut self, environment: &Environment) {
        if environment.scheduler.has_exited() {
            self.crash_logs.push(crate::check::conclusion::log_tail(
                &environment.scheduler.log().unwrap_or_default(),
            ));
        }
    }

    fn judge_frame(
        &mut self,
        frame: &Frame,
        known_hosts: &mut BTreeSet<String>,
        heartbeat_requests: &mut BTreeMap<String, Vec<Instant>>,
    ) {
        let Some(subject) = frame.subject.as_ref().map(ToString::to_string) else {
            return;
        };
        if frame.kind == FrameKind::Message && frame.direction == Direction::ToTarget {
            if let Some(id) = subject.strip_prefix(HEARTBEAT_PREFIX) {
                known_hosts.insert(id.to_owned());
            }
            return;
        }
        if frame.kind != FrameKind::Publish || frame.disposition != Disposition::Passed {
            return;
        }
        let Some((host, command)) = parse_command_subject(&subject) else {
            let foreign = subject.split('.').next() == Some("runtime");
            self.judge(
                &req::SCHED_WIRE_002,
                !foreign,
                "no message on `runtime.…` other than commands to hosts",
                || subject.clone(),
            );
            return;
        };
        self.record_conformance(&req::SCHED_WIRE_002);
        let is_addressed = frame.reply.is_some() && known_hosts.contains(host);
        self.judge(
            &req::SCHED_WIRE_001,
            is_addressed,
            "a request with a reply subject, to the id of a host that has sent a heartbeat",
            || {
                let reply = if frame.reply.is_some() {
                    ""
                } else {
                    ", without a reply subject"
                };
                format!("{subject}{reply}")
            },
        );
        let message = match command {
            "workload.start" => "WorkloadStartRequest",
            "workload.stop" => "WorkloadStopRequest",
            "workload.status" => "WorkloadStatusRequest",
            "heartbeat" => {
                let requests = heartbeat_requests.entry(host.to_owned()).or_default();
                requests.push(frame.at);
                return self.record_conformance(&req::SCHED_WIRE_003);
            }
            _ => {
                return self.judge(&req::SCHED_WIRE_003, false, "a known command", || {
                    command.to_owned()
                });
            }
        };
        self.record_conformance(&req::SCHED_WIRE_003);
        if frame.payload.len() == frame.payload_bytes {
            self.judge_payload(&frame.payload, message);
        }
    }

    fn judge_payload(&mut self, payload: &[u8], message: &str) {
        for judgment in judge_encoding(payload, message) {
            let EncodingJudgment {
                requirement,
                expected,
                actual,
            } = judgment;
            self.judge(requirement, actual.is_none(), &expected, || {
                actual.clone().unwrap_or_default()
            });
        }
    }

    /// Records a frame that conforms to a requirement.
    fn record_conformance(&mut self, requirement: &'static Requirement) {
        self.judgments.entry(requirement.id).or_default().count += 1;
    }

    fn judge<S: Into<String>>(
        &mut self,
        requirement: &'static Requirement,
        conforms: bool,
        expected: &str,
        actual: impl FnOnce() -> S,
    ) {
        let judgments = self.judgments.entry(requirement.id).or_default();
        judgments.count += 1;
        if !conforms && judgments.breaches.len() < MAX_BREACHES {
            judgments
                .breaches
                .push((expected.to_owned(), actual().into()));
        }
    }

    /// Returns one outcome per monitor.
    pub fn outcomes(&self) -> Vec<Outcome> {
        vec![
            self.outcome("monitor/schema", SCHEMA_COVERS),
            self.outcome("monitor/commands", COMMANDS_COVERS),
            self.process_outcome(),
        ]
    }

    fn outcome(&self, id: &str, covers: &'static [&'static Requirement]) -> Outcome {
        let findings = covers.iter().filter_map(|requirement| {
            let judgments = self.judgments.get(requirement.id)?;
            let breaches = judgments.breaches.iter();
            let violations =
                breaches.map(|(expected, actual)| violation(requirement, expected, actual));
            Some(monitor_outcome::Finding {
                requirement,
                violations: violations.collect(),
            })
        });
        monitor_outcome::outcome(id, findings)
    }

    fn process_outcome(&self) -> Outcome {
        let mut outcome = Outcome::new("monitor/alive", &[&req::SCHED_ENC_011], Status::Pass);
        if let Some(log) = self.crash_logs.first() {
            outcome.status = Status::Fail;
            outcome.log = Some(log.clone());
            outcome.violations.push(violation(
                &req::SCHED_ENC_011,
                "the scheduler's process runs until the end of the run",
                "the process has exited",
            ));
        }
        outcome
    }
}

fn violation(requirement: &'static Requirement, expected: &str, actual: &str) -> Violation {
    Violation {
        requirement,
        description: "every frame".to_owned(),
        expected: vec![expected.to_owned()],
        actual: actual.to_owned(),
        source: String::new(),
        at: Duration::ZERO,
        culprit_frame: None,
        stalled: None,
    }
}

/// Returns the name of the first limit that is zero.
fn zero_limit(json: &Value) -> Option<String> {
    match json {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let zero = value == &Value::from(0) || value == &Value::from("0");
            if zero && LIMITS.contains(&name.as_str()) {
                return Some(name.clone());
            }
            zero_limit(value)
        }),
        Value::Array(items) => items.iter().find_map(zero_limit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_encoding_faults_to_scheduler_requirements() {
        let violated = |payload: &str| {
            let mut monitors = Monitors::default();
            monitors.judge_payload(payload.as_bytes(), "WorkloadStartRequest");
            let outcome = monitors.outcome("monitor/schema", SCHEMA_COVERS);
            let ids: Vec<&str> = outcome
                .violations
                .iter()
                .map(|violation| violation.requirement.id)
                .collect();
            ids
        };
        assert_eq!(violated(r#"{"workloadId":"a","workload":{}}"#), [""; 0]);
        assert_eq!(
            violated(r#"{"workloadId":"a","extra":1}"#),
            ["SCHED-ENC-001"]
        );
        assert_eq!(violated(r#"{"workload_id":"a"}"#), ["SCHED-ENC-002"]);
        assert_eq!(violated(r#"{"workloadId":null}"#), ["SCHED-ENC-004"]);
        let zero = r#"{"workload":{"witWorld":{"components":[{"poolSize":0}]}}}"#;
        assert_eq!(violated(zero), ["SCHED-ENC-006"]);
    }
}
