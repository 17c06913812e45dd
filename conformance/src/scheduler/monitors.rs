//! Judges of every frame that a scheduler publishes, whatever the scenario asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::Environment;
use crate::check::monitor_outcome;
use crate::check::outcome::{Outcome, Status, Violation};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::testbed::tap::{Direction, Fate, Frame, Kind};
use crate::wire::json_judge;
use crate::wire::nats::{HEARTBEAT_PREFIX, read_command_subject};
use crate::wire::response::shortened;

/// The ids of their outcomes.
pub const MONITORS: &[&str] = &["monitor/writing", "monitor/commands", "monitor/alive"];

const WRITING_COVERS: &[&Requirement] = &[
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

/// Numbers of which zero says nothing.
const LIMITS: [&str; 6] = [
    "poolSize",
    "maxInvocations",
    "maxConcurrency",
    "maxRestarts",
    "memoryLimitMb",
    "cpuLimit",
];
/// Breaches told of one requirement.
const MAX_BREACHES: usize = 4;

/// The monitors that judge a requirement.
pub fn covering(requirement: &'static Requirement) -> impl Iterator<Item = &'static str> {
    let of = |covers: &[&'static Requirement], id: &'static str| {
        covers.contains(&requirement).then_some(id)
    };
    let writing = of(WRITING_COVERS, "monitor/writing");
    let commands = of(COMMANDS_COVERS, "monitor/commands");
    writing.into_iter().chain(commands)
}

/// What was seen of one requirement.
#[derive(Debug, Default)]
struct Finding {
    judged: u64,
    breaches: Vec<(String, String)>,
}

/// What all schedulers of a run have published.
#[derive(Debug, Default)]
pub struct Watch {
    findings: BTreeMap<&'static str, Finding>,
    deaths: Vec<String>,
}

impl Watch {
    /// Takes in what the scheduler on a stage has published.
    pub fn look_at(&mut self, stage: &Environment, shared: bool) {
        let mut known = BTreeSet::new();
        let mut asked: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for frame in stage.live.bus.tap().frames() {
            self.frame(&frame, &mut known, &mut asked);
        }
        for (host, times) in asked {
            let often = times.iter().filter_map(|first| {
                let more = times
                    .iter()
                    .filter(|at| *at > first && **at < *first + Duration::from_secs(60));
                let count = more.count();
                (count > 0).then_some(count + 1)
            });
            let worst = often.max();
            self.judge(
                &req::SCHED_WIRE_005,
                worst.is_none(),
                "one heartbeat request a minute",
                || format!("{} to {host} within a minute", worst.unwrap_or_default()),
            );
        }
        if shared && stage.live.has_died() {
            self.deaths.push(crate::check::conclusion::log_end(
                &stage.live.log().unwrap_or_default(),
            ));
        }
    }

    fn frame(
        &mut self,
        frame: &Frame,
        known: &mut BTreeSet<String>,
        asked: &mut BTreeMap<String, Vec<Instant>>,
    ) {
        let Some(subject) = frame.subject.as_ref().map(ToString::to_string) else {
            return;
        };
        if frame.kind == Kind::Message && frame.way == Direction::ToTarget {
            if let Some(id) = subject.strip_prefix(HEARTBEAT_PREFIX) {
                known.insert(id.to_owned());
            }
            return;
        }
        if frame.kind != Kind::Publish || frame.fate != Fate::Passed {
            return;
        }
        let Some((host, command)) = read_command_subject(&subject) else {
            let foreign = subject.split('.').next() == Some("runtime");
            self.judge(
                &req::SCHED_WIRE_002,
                !foreign,
                "commands to hosts and nothing else",
                || subject.clone(),
            );
            return;
        };
        self.judge(&req::SCHED_WIRE_002, true, "", String::new);
        let right = frame.reply.is_some() && known.contains(host);
        self.judge(
            &req::SCHED_WIRE_001,
            right,
            "a request to the id of a host that was heard",
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
                asked.entry(host.to_owned()).or_default().push(frame.at);
                return self.judge(&req::SCHED_WIRE_003, true, "", String::new);
            }
            _ => {
                return self.judge(
                    &req::SCHED_WIRE_003,
                    false,
                    "a command that there is",
                    || command.to_owned(),
                );
            }
        };
        self.judge(&req::SCHED_WIRE_003, true, "", String::new);
        if frame.payload.len() == frame.payload_bytes {
            self.writing(&frame.payload, message);
        }
    }

    fn writing(&mut self, payload: &[u8], message: &str) {
        let faults = json_judge::judge(payload, message);
        for (theirs, ours) in [
            (&req::HOST_JSON_001, &req::SCHED_ENC_001),
            (&req::HOST_JSON_002, &req::SCHED_ENC_002),
            (&req::HOST_JSON_003, &req::SCHED_ENC_002),
            (&req::HOST_JSON_004, &req::SCHED_ENC_003),
            (&req::HOST_JSON_006, &req::SCHED_ENC_004),
            (&req::HOST_JSON_008, &req::SCHED_ENC_005),
        ] {
            let fault = faults.iter().find(|fault| fault.requirement == theirs);
            let expected = fault
                .map(|fault| fault.expected.clone())
                .unwrap_or_default();
            self.judge(ours, fault.is_none(), &expected, || {
                let fault = fault.map(|fault| format!("{}: {}", fault.path, fault.actual));
                format!(
                    "{}, in {}",
                    fault.unwrap_or_default(),
                    shortened(&String::from_utf8_lossy(payload), 120)
                )
            });
        }
        if let Ok(json) = serde_json::from_slice::<Value>(payload) {
            let zero = zero_limit(&json);
            self.judge(
                &req::SCHED_ENC_006,
                zero.is_none(),
                "no number that nobody asked for",
                || format!("{} is 0", zero.unwrap_or_default()),
            );
        }
    }

    fn judge<S: Into<String>>(
        &mut self,
        requirement: &'static Requirement,
        held: bool,
        expected: &str,
        actual: impl FnOnce() -> S,
    ) {
        let finding = self.findings.entry(requirement.id).or_default();
        finding.judged += 1;
        if !held && finding.breaches.len() < MAX_BREACHES {
            finding
                .breaches
                .push((expected.to_owned(), actual().into()));
        }
    }

    /// One outcome for each monitor.
    pub fn outcomes(&self) -> Vec<Outcome> {
        vec![
            self.outcome("monitor/writing", WRITING_COVERS),
            self.outcome("monitor/commands", COMMANDS_COVERS),
            self.alive(),
        ]
    }

    fn outcome(&self, id: &str, covers: &'static [&'static Requirement]) -> Outcome {
        let findings = covers.iter().filter_map(|requirement| {
            let found = self.findings.get(requirement.id)?;
            let breaches = found.breaches.iter();
            let violations =
                breaches.map(|(expected, actual)| violation(requirement, expected, actual));
            Some(monitor_outcome::Finding {
                requirement,
                violations: violations.collect(),
            })
        });
        monitor_outcome::outcome(id, findings)
    }

    fn alive(&self) -> Outcome {
        let mut outcome = Outcome::of("monitor/alive", &[&req::SCHED_ENC_011], Status::Pass);
        if let Some(log) = self.deaths.first() {
            outcome.status = Status::Fail;
            outcome.log = Some(log.clone());
            let actual = "it ended in the middle of it";
            outcome.violations.push(violation(
                &req::SCHED_ENC_011,
                "the scheduler lives as long as the run",
                actual,
            ));
        }
        outcome
    }
}

fn violation(requirement: &'static Requirement, expected: &str, actual: &str) -> Violation {
    Violation {
        requirement,
        what: "every frame".to_owned(),
        acceptable: vec![expected.to_owned()],
        actual: actual.to_owned(),
        source: String::new(),
        at: Duration::ZERO,
        culprit_frame: None,
        stalled: None,
    }
}

/// The first limit that is written as zero.
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
    fn faults_of_writing_are_the_schedulers_own() {
        let broken = |payload: &str| {
            let mut watch = Watch::default();
            watch.writing(payload.as_bytes(), "WorkloadStartRequest");
            let outcome = watch.outcome("monitor/writing", WRITING_COVERS);
            let ids: Vec<&str> = outcome
                .violations
                .iter()
                .map(|found| found.requirement.id)
                .collect();
            ids
        };
        assert_eq!(broken(r#"{"workloadId":"a","workload":{}}"#), [""; 0]);
        assert_eq!(broken(r#"{"workloadId":"a","extra":1}"#), ["SCHED-ENC-001"]);
        assert_eq!(broken(r#"{"workload_id":"a"}"#), ["SCHED-ENC-002"]);
        assert_eq!(broken(r#"{"workloadId":null}"#), ["SCHED-ENC-004"]);
        let zero = r#"{"workload":{"witWorld":{"components":[{"poolSize":0}]}}}"#;
        assert_eq!(broken(zero), ["SCHED-ENC-006"]);
    }
}
