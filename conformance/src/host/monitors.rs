//! Passive monitors: rules that every frame of every check must keep, judged while others ask questions.

mod heartbeats;
mod replies;
mod schema;
mod secrets;
mod subjects;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::spec::requirements::Requirement;
use crate::testbed::secrets::Secrets;
use crate::wire::response::shortened;
use crate::wire::trace::{Direction, Frame, Trace};

/// ID of the watch over the process of the shared host.
pub const ALIVE: &str = "monitor/alive";
/// Breaches kept of one requirement: the first ones tell what is wrong.
const MAX_BREACHES: usize = 5;
/// Requests remembered for their replies: more than a run sends.
const MAX_REQUESTS: usize = 500_000;

/// A rule over the frames of one host. Pure: it sees frames in order and says what breaks the rule.
pub trait Monitor: Send {
    /// `monitor/...`.
    fn id(&self) -> &'static str;

    /// What it judges.
    fn covers(&self) -> &'static [&'static Requirement];

    /// Judges one frame in its context.
    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings);

    /// Judges what only the end shows.
    fn end(&mut self, _now: Instant, _scene: &MonitorContext, _findings: &mut Findings) {}
}

/// What monitors need to know about the frames before.
#[derive(Debug, Default)]
pub struct MonitorContext {
    /// The host's id, once it is known.
    pub host_id: Option<String>,
    /// Values that must not be shown.
    pub secrets: Arc<Secrets>,
    /// The suite may have silenced or frozen this host on purpose: when things came proves nothing.
    pub tampered: bool,
    requests: HashMap<String, PendingRequest>,
}

/// A request that wants an answer.
#[derive(Debug, Clone)]
pub struct PendingRequest {
    /// The command.
    pub command: String,
    /// The id that it names, when its payload can be read plainly.
    pub id: Option<String>,
    /// How often the request was delivered.
    pub delivered: usize,
    /// How many replies came.
    pub replies: usize,
}

impl PendingRequest {
    /// The message that the answer must be.
    pub fn answer_message(&self) -> &'static str {
        match self.command.as_str() {
            "heartbeat" => "HostHeartbeat",
            "workload.stop" => "WorkloadStopResponse",
            "workload.status" => "WorkloadStatusResponse",
            _ => "WorkloadStartResponse",
        }
    }
}

impl MonitorContext {
    /// The request that a frame of the host answers.
    pub fn asked(&self, frame: &Frame) -> Option<&PendingRequest> {
        self.requests.get(&frame.subject)
    }

    /// Whether the frame is a heartbeat that the host published of its own accord.
    pub fn is_heartbeat(&self, frame: &Frame) -> bool {
        frame.way == Direction::FromHost
            && frame
                .subject
                .starts_with(crate::wire::nats::HEARTBEAT_PREFIX)
    }

    fn note(&mut self, frame: &Frame) {
        match frame.way {
            Direction::ToHost => self.note_request(frame),
            Direction::FromHost => {
                if let Some(asked) = self.requests.get_mut(&frame.subject) {
                    asked.replies += 1;
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

    fn note_request(&mut self, frame: &Frame) {
        let Some(reply) = &frame.reply else { return };
        // The id of a host is one token, so the command is what stands behind the third dot.
        let command = frame
            .subject
            .splitn(4, '.')
            .nth(3)
            .unwrap_or_default()
            .to_owned();
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.clear();
        }
        let id = || {
            let request: serde_json::Value = serde_json::from_slice(&frame.payload).ok()?;
            Some(request.get("workloadId")?.as_str()?.to_owned())
        };
        let fresh = || PendingRequest {
            command,
            id: id(),
            delivered: 0,
            replies: 0,
        };
        self.requests
            .entry(reply.clone())
            .or_insert_with(fresh)
            .delivered += 1;
    }
}

/// One breach that a monitor saw.
#[derive(Debug, Clone)]
pub struct Breach {
    /// What is demanded.
    pub expected: String,
    /// What was seen.
    pub actual: String,
    /// The frame that broke the rule.
    pub frame: Frame,
}

/// What one monitor found about one requirement.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// How many frames were judged by it.
    pub judged: u64,
    /// How many broke it.
    pub broken: u64,
    /// The first of those.
    pub breaches: Vec<Breach>,
}

/// What one monitor has found.
#[derive(Debug, Clone, Default)]
pub struct Findings(BTreeMap<&'static str, Finding>);

impl Findings {
    /// A frame was judged by a requirement and kept it.
    pub fn kept(&mut self, requirement: &'static Requirement) {
        self.0.entry(requirement.id).or_default().judged += 1;
    }

    /// A frame was judged by a requirement and broke it.
    pub fn broke(
        &mut self,
        requirement: &'static Requirement,
        frame: &Frame,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        let finding = self.0.entry(requirement.id).or_default();
        finding.judged += 1;
        finding.broken += 1;
        let (expected, actual) = (expected.into(), actual.into());
        // A fault in every frame is told once.
        let told = |breach: &Breach| breach.expected == expected && breach.actual == actual;
        if finding.breaches.len() < MAX_BREACHES && !finding.breaches.iter().any(told) {
            finding.breaches.push(Breach {
                expected,
                actual,
                frame: frame.clone(),
            });
        }
    }

    /// [`Findings::kept`] or [`Findings::broke`].
    pub fn judge<S: Into<String>>(
        &mut self,
        requirement: &'static Requirement,
        frame: &Frame,
        held: bool,
        expected: &str,
        actual: impl FnOnce() -> S,
    ) {
        if held {
            self.kept(requirement);
        } else {
            self.broke(requirement, frame, expected, actual());
        }
    }

    /// What was found about a requirement.
    pub fn about(&self, requirement: &Requirement) -> Finding {
        self.0.get(requirement.id).cloned().unwrap_or_default()
    }

    fn merge(&mut self, other: &Findings) {
        for (id, theirs) in &other.0 {
            let ours = self.0.entry(id).or_default();
            ours.judged += theirs.judged;
            ours.broken += theirs.broken;
            let room = MAX_BREACHES.saturating_sub(ours.breaches.len());
            ours.breaches
                .extend(theirs.breaches.iter().take(room).cloned());
        }
    }
}

/// What a monitor says at the end.
#[derive(Debug, Clone)]
pub struct MonitorVerdict {
    /// The monitor.
    pub id: &'static str,
    /// What it judges.
    pub covers: &'static [&'static Requirement],
    /// What it found.
    pub findings: Findings,
}

/// All monitors of one host, beside the recording of its traffic. Clones share them.
#[derive(Clone)]
pub struct Watch {
    /// The recording.
    pub trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    scene: MonitorContext,
    monitors: Vec<(Box<dyn Monitor>, Findings)>,
}

impl Watch {
    /// Begins to watch a host.
    pub fn new(secrets: Arc<Secrets>, tampered: bool) -> Watch {
        let scene = MonitorContext {
            secrets,
            tampered,
            ..MonitorContext::default()
        };
        let monitors = all()
            .into_iter()
            .map(|monitor| (monitor, Findings::default()))
            .collect();
        Watch {
            trace: Trace::new(),
            inner: Arc::new(Mutex::new(Inner { scene, monitors })),
        }
    }

    /// Records a frame and shows it to every monitor.
    pub fn frame(&self, frame: Frame) {
        {
            let mut inner = self.lock();
            let Inner { scene, monitors } = &mut *inner;
            scene.note(&frame);
            for (monitor, findings) in monitors {
                monitor.frame(&frame, scene, findings);
            }
        }
        self.trace.record(frame);
    }

    /// The host's id is known from elsewhere than its heartbeats.
    pub fn identify(&self, host_id: &str) {
        self.lock().scene.host_id = Some(host_id.to_owned());
    }

    /// What every monitor found.
    pub fn verdicts(&self, now: Instant) -> Vec<MonitorVerdict> {
        let mut inner = self.lock();
        let Inner { scene, monitors } = &mut *inner;
        let verdict = |(monitor, findings): &mut (Box<dyn Monitor>, Findings)| {
            monitor.end(now, scene, findings);
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

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// Returns the ids of all monitors, the watch over the host's process included.
pub fn ids() -> Vec<&'static str> {
    let monitors = all();
    let ids = monitors.iter().map(|monitor| monitor.id());
    ids.chain([ALIVE]).collect()
}

/// One of each monitor, in the order of reports.
pub fn all() -> Vec<Box<dyn Monitor>> {
    vec![
        Box::new(schema::Writing),
        Box::new(replies::Replies),
        Box::new(heartbeats::Cadence::default()),
        Box::new(heartbeats::Identity::default()),
        Box::new(subjects::Subjects),
        Box::new(secrets::Secrecy),
    ]
}

/// Adds the verdicts of one host to those of the others.
pub fn merge(into: &mut Vec<MonitorVerdict>, verdicts: Vec<MonitorVerdict>) {
    for verdict in verdicts {
        match into.iter_mut().find(|known| known.id == verdict.id) {
            Some(known) => known.findings.merge(&verdict.findings),
            None => into.push(verdict),
        }
    }
}

/// The ids that monitors cover, for the index of requirements.
pub fn covered() -> HashSet<&'static str> {
    all()
        .iter()
        .flat_map(|monitor| monitor.covers().iter().map(|item| item.id))
        .collect()
}

fn shown(frame: &Frame) -> String {
    shortened(&String::from_utf8_lossy(&frame.payload), 160)
}

/// Frames for the unit tests of monitors.
#[cfg(test)]
pub(crate) mod script {
    use std::time::Duration;

    use super::*;
    use crate::wire::response::Headers;

    /// A frame `at_ms` after some beginning.
    pub fn frame(
        begin: Instant,
        at_ms: u64,
        way: Direction,
        subject: &str,
        payload: &str,
    ) -> Frame {
        let payload = bytes::Bytes::copy_from_slice(payload.as_bytes());
        Frame {
            at: begin + Duration::from_millis(at_ms),
            way,
            subject: subject.to_owned(),
            reply: None,
            headers: Headers::none(),
            payload_bytes: payload.len(),
            payload,
        }
    }

    /// A request with a reply subject.
    pub fn request(begin: Instant, command: &str, inbox: &str, payload: &str) -> Frame {
        let subject = format!("runtime.host.h.{command}");
        Frame {
            reply: Some(inbox.to_owned()),
            ..frame(begin, 0, Direction::ToHost, &subject, payload)
        }
    }

    /// The requirements that a script of frames breaks.
    pub fn broken(frames: impl IntoIterator<Item = Frame>) -> Vec<&'static str> {
        let secrets = Arc::new(Secrets::default());
        secrets.add("hunter2");
        let watch = Watch::new(secrets, false);
        let mut last = Instant::now();
        for frame in frames {
            last = frame.at;
            watch.frame(frame);
        }
        let verdicts = watch.verdicts(last);
        let broken = |verdict: &MonitorVerdict| -> Vec<&'static str> {
            let covers = verdict.covers.iter().copied();
            covers
                .filter(|item| verdict.findings.about(item).broken > 0)
                .map(|item| item.id)
                .collect()
        };
        verdicts.iter().flat_map(broken).collect()
    }
}
