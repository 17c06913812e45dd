//! Passive monitors: rules that every frame must satisfy, judged while the checks run.

mod heartbeats;
mod replies;
mod schema;
mod secrets;
mod subjects;

pub use self::heartbeats::is_hostname_without_port;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::spec::requirements::Requirement;
use crate::testbed::secrets::Secrets;
use crate::wire::response::shortened;
use crate::wire::trace::{Direction, Frame, Trace};

/// ID of the monitor of the shared host's process.
pub const ALIVE: &str = "monitor/alive";
/// Maximum number of violations that a monitor stores per requirement. More do not help to find the
/// fault.
const MAX_EXAMPLES: usize = 5;
/// Maximum number of requests per host that are stored to judge their replies: more than a run
/// sends.
const MAX_REQUESTS: usize = 500_000;

/// Rule for the frames of one host. Pure: judges the frames in order.
pub trait Monitor: Send {
    /// Returns the id, `monitor/{name}`.
    fn id(&self) -> &'static str;

    /// Returns the requirements that the monitor judges.
    fn covers(&self) -> &'static [&'static Requirement];

    /// Judges one frame.
    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings);

    /// Judges at the end of the run, for rules about frames that do not arrive.
    fn finish(&mut self, _now: Instant, _context: &MonitorContext, _findings: &mut Findings) {}
}

/// Information about earlier frames that monitors use.
#[derive(Debug, Default)]
pub struct MonitorContext {
    /// ID of the host, once known.
    pub host_id: Option<String>,
    /// Secrets that must not appear on the wire.
    pub secrets: Arc<Secrets>,
    /// Whether a check may disconnect, freeze or signal this host. If so, monitors do not judge
    /// times.
    pub checks_disturb_host: bool,
    requests: HashMap<String, PendingRequest>,
}

/// Request that expects a reply.
#[derive(Debug, Clone)]
pub struct PendingRequest {
    /// Command.
    pub command: String,
    /// Workload id in the request, if its payload is valid JSON.
    pub id: Option<String>,
    /// Number of deliveries of the request.
    pub delivered: usize,
    /// Number of replies.
    pub replies: usize,
}

impl PendingRequest {
    /// Returns the schema message of the response.
    pub fn response_message(&self) -> &'static str {
        match self.command.as_str() {
            "heartbeat" => "HostHeartbeat",
            "workload.stop" => "WorkloadStopResponse",
            "workload.status" => "WorkloadStatusResponse",
            _ => "WorkloadStartResponse",
        }
    }
}

impl MonitorContext {
    /// Returns the request to which a frame of the host replies.
    pub fn request_of(&self, frame: &Frame) -> Option<&PendingRequest> {
        self.requests.get(&frame.subject)
    }

    /// Returns whether the frame is a published heartbeat, not a reply to a heartbeat request.
    pub fn is_heartbeat(&self, frame: &Frame) -> bool {
        frame.direction == Direction::FromHost
            && frame
                .subject
                .starts_with(crate::wire::nats::HEARTBEAT_PREFIX)
    }

    fn record(&mut self, frame: &Frame) {
        match frame.direction {
            Direction::ToHost => self.record_request(frame),
            Direction::FromHost => {
                if let Some(request) = self.requests.get_mut(&frame.subject) {
                    request.replies += 1;
                }
                if self.host_id.is_none() && self.is_heartbeat(frame) {
                    self.host_id = frame
                        .subject
                        .strip_prefix(crate::wire::nats::HEARTBEAT_PREFIX)
                        .map(str::to_owned);
                }
            }
            Direction::Connected | Direction::Disconnected => {}
        }
    }

    fn record_request(&mut self, frame: &Frame) {
        let Some(reply) = &frame.reply else { return };
        let command = if frame.subject == crate::wire::nats::DISCOVER {
            "heartbeat" // the reply is the same
        } else {
            // A host id is one token, so the command follows the third dot.
            frame.subject.splitn(4, '.').nth(3).unwrap_or_default()
        };
        let command = command.to_owned();
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.clear();
        }
        let id = || {
            let request: serde_json::Value = serde_json::from_slice(&frame.payload).ok()?;
            Some(request.get("workloadId")?.as_str()?.to_owned())
        };
        let pending = || PendingRequest {
            command,
            id: id(),
            delivered: 0,
            replies: 0,
        };
        self.requests
            .entry(reply.clone())
            .or_insert_with(pending)
            .delivered += 1;
    }
}

/// Violation of a requirement by one frame.
#[derive(Debug, Clone)]
pub struct FrameViolation {
    /// Expected value.
    pub expected: String,
    /// Observed value.
    pub actual: String,
    /// Frame that violates the requirement.
    pub frame: Frame,
}

/// Findings of one monitor about one requirement.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// Number of frames that were judged.
    pub judged: u64,
    /// Number of frames that violate the requirement.
    pub violations: u64,
    /// First violations.
    pub examples: Vec<FrameViolation>,
}

/// Findings of one monitor, by requirement.
#[derive(Debug, Clone, Default)]
pub struct Findings(BTreeMap<&'static str, Finding>);

impl Findings {
    /// Records a frame that satisfies the requirement.
    pub fn satisfied(&mut self, requirement: &'static Requirement) {
        self.0.entry(requirement.id).or_default().judged += 1;
    }

    /// Records a frame that violates the requirement.
    pub fn violated(
        &mut self,
        requirement: &'static Requirement,
        frame: &Frame,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        let finding = self.0.entry(requirement.id).or_default();
        finding.judged += 1;
        finding.violations += 1;
        let (expected, actual) = (expected.into(), actual.into());
        // A violation that recurs with the same values is stored once.
        let is_same =
            |example: &FrameViolation| example.expected == expected && example.actual == actual;
        if finding.examples.len() < MAX_EXAMPLES && !finding.examples.iter().any(is_same) {
            finding.examples.push(FrameViolation {
                expected,
                actual,
                frame: frame.clone(),
            });
        }
    }

    /// Records a frame with [`Findings::satisfied`] or [`Findings::violated`].
    pub fn judge<S: Into<String>>(
        &mut self,
        requirement: &'static Requirement,
        frame: &Frame,
        held: bool,
        expected: &str,
        actual: impl FnOnce() -> S,
    ) {
        if held {
            self.satisfied(requirement);
        } else {
            self.violated(requirement, frame, expected, actual());
        }
    }

    /// Returns the finding about a requirement.
    pub fn about(&self, requirement: &Requirement) -> Finding {
        self.0.get(requirement.id).cloned().unwrap_or_default()
    }

    fn merge(&mut self, other: &Findings) {
        for (id, theirs) in &other.0 {
            let ours = self.0.entry(id).or_default();
            ours.judged += theirs.judged;
            ours.violations += theirs.violations;
            let room = MAX_EXAMPLES.saturating_sub(ours.examples.len());
            ours.examples
                .extend(theirs.examples.iter().take(room).cloned());
        }
    }
}

/// Verdict of a monitor at the end of a run.
#[derive(Debug, Clone)]
pub struct MonitorVerdict {
    /// ID of the monitor.
    pub id: &'static str,
    /// Requirements that the monitor judges.
    pub covers: &'static [&'static Requirement],
    /// Findings of the monitor.
    pub findings: Findings,
}

/// All monitors of one host, and the recorded trace of its traffic. Clones share both.
#[derive(Clone)]
pub struct MonitorSet {
    /// Trace of the traffic.
    pub trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    context: MonitorContext,
    monitors: Vec<(Box<dyn Monitor>, Findings)>,
}

impl MonitorSet {
    /// Creates the monitors of a host.
    pub fn new(secrets: Arc<Secrets>, checks_disturb_host: bool) -> MonitorSet {
        let context = MonitorContext {
            secrets,
            checks_disturb_host,
            ..MonitorContext::default()
        };
        let monitors = all()
            .into_iter()
            .map(|monitor| (monitor, Findings::default()))
            .collect();
        MonitorSet {
            trace: Trace::new(),
            inner: Arc::new(Mutex::new(Inner { context, monitors })),
        }
    }

    /// Records a frame and passes it to every monitor.
    pub fn observe(&self, frame: Frame) {
        {
            let mut inner = self.lock();
            let Inner { context, monitors } = &mut *inner;
            context.record(&frame);
            for (monitor, findings) in monitors {
                monitor.observe(&frame, context, findings);
            }
        }
        self.trace.record(frame);
    }

    /// Sets the id of the host before its first heartbeat.
    pub fn set_host_id(&self, host_id: &str) {
        self.lock().context.host_id = Some(host_id.to_owned());
    }

    /// Returns the verdict of every monitor.
    pub fn verdicts(&self, now: Instant) -> Vec<MonitorVerdict> {
        let mut inner = self.lock();
        let Inner { context, monitors } = &mut *inner;
        let verdict = |(monitor, findings): &mut (Box<dyn Monitor>, Findings)| {
            monitor.finish(now, context, findings);
            MonitorVerdict {
                id: monitor.id(),
                covers: monitor.covers(),
                findings: findings.clone(),
            }
        };
        monitors.iter_mut().map(verdict).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MonitorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorSet")
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// Returns the ids of all monitors, including the monitor of the host's process.
pub fn ids() -> Vec<&'static str> {
    let monitors = all();
    let ids = monitors.iter().map(|monitor| monitor.id());
    ids.chain([ALIVE]).collect()
}

/// Creates one of each monitor, in the order of reports.
pub fn all() -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(schema::Schema),
        Box::new(replies::Replies),
        Box::new(heartbeats::Interval::default()),
        Box::new(heartbeats::Identity::default()),
        Box::new(subjects::Subjects),
        Box::new(secrets::SecretLeaks),
    ]
}

/// Merges the verdicts of one host into the verdicts of other hosts.
pub fn merge(into: &mut Vec<MonitorVerdict>, verdicts: Vec<MonitorVerdict>) {
    for verdict in verdicts {
        match into.iter_mut().find(|merged| merged.id == verdict.id) {
            Some(merged) => merged.findings.merge(&verdict.findings),
            None => into.push(verdict),
        }
    }
}

/// Returns the ids of all requirements that monitors cover.
pub fn covered() -> HashSet<&'static str> {
    all()
        .iter()
        .flat_map(|monitor| monitor.covers().iter().map(|item| item.id))
        .collect()
}

fn payload_text(frame: &Frame) -> String {
    shortened(&String::from_utf8_lossy(&frame.payload), 160)
}

/// Frames for the unit tests of monitors.
#[cfg(test)]
pub(crate) mod test_frames {
    use std::time::Duration;

    use super::*;
    use crate::wire::response::Headers;

    /// Returns a frame at `at_ms` after `base`.
    pub fn frame(
        base: Instant,
        at_ms: u64,
        direction: Direction,
        subject: &str,
        payload: &str,
    ) -> Frame {
        let payload = bytes::Bytes::copy_from_slice(payload.as_bytes());
        Frame {
            at: base + Duration::from_millis(at_ms),
            direction,
            subject: subject.to_owned(),
            reply: None,
            headers: Headers::none(),
            payload_bytes: payload.len(),
            payload,
        }
    }

    /// Returns a request with a reply subject.
    pub fn request(base: Instant, command: &str, inbox: &str, payload: &str) -> Frame {
        let subject = format!("runtime.host.h.{command}");
        Frame {
            reply: Some(inbox.to_owned()),
            ..frame(base, 0, Direction::ToHost, &subject, payload)
        }
    }

    /// Returns the requirements that the frames violate.
    pub fn violated_requirements(frames: impl IntoIterator<Item = Frame>) -> Vec<&'static str> {
        let secrets = Arc::new(Secrets::default());
        secrets.add("hunter2");
        let checks_disturb_host = false;
        let monitors = MonitorSet::new(secrets, checks_disturb_host);
        let mut last = Instant::now();
        for frame in frames {
            last = frame.at;
            monitors.observe(frame);
        }
        let verdicts = monitors.verdicts(last);
        let violated = |verdict: &MonitorVerdict| -> Vec<&'static str> {
            let covers = verdict.covers.iter().copied();
            covers
                .filter(|item| verdict.findings.about(item).violations > 0)
                .map(|item| item.id)
                .collect()
        };
        verdicts.iter().flat_map(violated).collect()
    }
}
