//! What a check body works with: one host, the bus, the equipment, and the claims that it makes.

mod http;
mod image;
mod workload;

pub use self::http::HttpAnswer;
pub use self::image::Image;
pub use self::workload::Workload;
pub use crate::check::claim::Claim;
pub use crate::check::evidence::Evidence;
pub use crate::check::wait::{Missed, Waited};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::target::{LaunchError, Launcher, RunningHost};
use crate::check::check_run::CheckRun;
use crate::check::isolation::HostIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Blocked;
use crate::check::wait::ProbeError;
use crate::spec::requirements::Requirement;
use crate::spec::roles::Role;
use crate::spec::{deadlines, requirements as req};
use crate::testbed::beacon::Beacon;
use crate::testbed::fixture::Fixture;
use crate::testbed::process::Process;
use crate::testbed::registry::Registry;
use crate::testbed::tap::Tap;
use crate::wire::nats;
use crate::wire::nats::{Delivery, Replies};
use crate::wire::response::{Headers, Reply, Response, State};
use crate::wire::trace::Frame;

/// The hands and eyes of one run of one check.
///
/// Ids, inboxes and repositories are its own, so that checks share a host without meeting.
#[derive(Debug)]
pub struct CheckContext {
    isolation: HostIsolation,
    roles: &'static [Role],
    fixture: Arc<Fixture>,
    host: Arc<RunningHost>,
    launcher: Launcher,
    /// Unique in the run: part of every id, inbox and repository.
    tag: String,
    inboxes: AtomicU64,
    check_run: CheckRun,
}

impl CheckContext {
    /// The context of one run of a check.
    pub fn new(
        meta: &'static CheckMeta,
        isolation: HostIsolation,
        roles: &'static [Role],
        fixture: Arc<Fixture>,
        host: Arc<RunningHost>,
        launcher: Launcher,
    ) -> CheckContext {
        let tag = fixture.next_tag();
        let patience = fixture.shared_patience();
        CheckContext {
            isolation,
            roles,
            fixture,
            host,
            launcher,
            tag,
            inboxes: AtomicU64::new(0),
            check_run: CheckRun::new(meta, patience),
        }
    }

    /// The host's id.
    pub fn host_id(&self) -> &str {
        &self.host.id
    }

    /// A workload id of that name: unique in the run, the same for the same name, stopped at the end.
    pub fn id(&self, name: &str) -> String {
        let id = format!("{}-{name}", self.tag);
        self.check_run.evidence().remember_id(&id);
        id
    }

    /// Registers an id that the check made up itself, so that clean-up stops it.
    pub fn remember(&self, id: &str) {
        self.check_run.evidence().remember_id(id);
    }

    /// A workload that is empty but for its name.
    pub fn workload(&self) -> Workload<'_> {
        Workload::new(self)
    }

    /// Sends a start and returns the answer, whatever it says.
    ///
    /// # Errors
    /// No answer in time: the host broke HOST-WIRE-002.
    pub async fn start(&self, id: &str, workload: &Workload<'_>) -> Result<Response, Blocked> {
        let request = json!({ "workloadId": id, "workload": workload.json() });
        self.command("workload.start", &request, deadlines::START_ANSWER.limit)
            .await
    }

    /// Starts a workload and waits until it is RUNNING.
    ///
    /// # Errors
    /// It does not get there: the host broke HOST-START-001. For checks about something later in life.
    pub async fn started(&self, id: &str, workload: &Workload<'_>) -> Result<Response, Blocked> {
        let answer = self.start(id, workload).await?;
        match answer.state {
            State::Running => Ok(answer),
            State::Starting => self
                .running(id, deadlines::LOOK)
                .await
                .or_blocked(self, req::HOST_START_001),
            _ => Err(self.blocked(req::HOST_START_001, "the workload to start", &answer)),
        }
    }

    /// Sends a stop.
    ///
    /// # Errors
    /// No answer in time: the host broke HOST-WIRE-002.
    pub async fn stop(&self, id: &str) -> Result<Response, Blocked> {
        self.command(
            "workload.stop",
            &json!({ "workloadId": id }),
            deadlines::ANSWER.limit,
        )
        .await
    }

    /// Asks for the state of an id.
    ///
    /// # Errors
    /// No answer in time: the host broke HOST-WIRE-002.
    pub async fn status(&self, id: &str) -> Result<Response, Blocked> {
        self.command(
            "workload.status",
            &json!({ "workloadId": id }),
            deadlines::ANSWER.limit,
        )
        .await
    }

    /// Asks for a heartbeat: the answer's `json` is the HostHeartbeat.
    ///
    /// # Errors
    /// No answer in time: the host broke HOST-WIRE-002.
    pub async fn heartbeat(&self) -> Result<Response, Blocked> {
        self.command("heartbeat", &json!({}), deadlines::ANSWER.limit)
            .await
    }

    async fn command(
        &self,
        command: &str,
        request: &Value,
        limit: Duration,
    ) -> Result<Response, Blocked> {
        let payload = Bytes::from(request.to_string());
        // The rest of the budget is for saying what went wrong.
        let within = limit.min(self.time_left().saturating_sub(Duration::from_secs(1)));
        match self
            .send_within(command, payload, Headers::none(), within)
            .await?
        {
            Reply::Response(answer) => Ok(answer),
            nothing => Err(self.blocked(
                req::HOST_WIRE_002,
                &format!("an answer to {command}"),
                &nothing,
            )),
        }
    }

    /// Sends a raw request and waits for its first reply as long as any answer may take (5 s).
    ///
    /// # Errors
    /// The harness cannot send. Silence is a [`Reply`], not an error.
    pub async fn send(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Reply, Blocked> {
        self.send_within(command, payload, headers, deadlines::ANSWER.limit)
            .await
    }

    /// [`CheckContext::send`] with a time of one's own; patience is added.
    ///
    /// # Errors
    /// The harness cannot send.
    pub async fn send_within(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
        within: Duration,
    ) -> Result<Reply, Blocked> {
        let mut replies = self.request(command, payload, headers).await?;
        let within = within + self.fixture.patience();
        let mut delivery = replies.next(within).await;
        let still = self.fixture.clock.stood_still(replies.sent);
        if delivery.is_none() && !still.is_zero() {
            delivery = replies.next(still).await;
        }
        let reply = match delivery {
            None => Reply::Silence {
                waited: within,
                inbox: replies.inbox.clone(),
            },
            Some(delivery) => read(delivery, &replies),
        };
        self.check_run.evidence().last_inbox(reply.inbox());
        Ok(reply)
    }

    /// Sends a raw request and hands out its inbox, for checks that count replies.
    ///
    /// # Errors
    /// The harness cannot send.
    pub async fn request(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Replies, Blocked> {
        let subject = nats::command_subject(&self.host.id, command);
        self.request_on(&subject, payload, headers).await
    }

    /// [`CheckContext::request`] on any subject.
    ///
    /// # Errors
    /// The harness cannot send.
    pub async fn request_on(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Replies, Blocked> {
        let inbox = format!(
            "{}.{}",
            self.tag,
            self.inboxes.fetch_add(1, Ordering::Relaxed)
        );
        self.fixture
            .bus
            .request(subject, &inbox, payload.into(), &headers)
            .await
            .map_err(|cause| Blocked::chain("a request could not be sent", &cause))
    }

    /// Publishes a command without a reply subject and returns when the broker has it.
    ///
    /// # Errors
    /// The harness cannot send.
    pub async fn publish_no_reply(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), Blocked> {
        let subject = nats::command_subject(&self.host.id, command);
        self.fixture
            .bus
            .publish(&subject, payload.into(), &Headers::none())
            .await
            .map_err(|cause| Blocked::chain("a command could not be sent", &cause))
    }

    /// Waits until the id is RUNNING; gives up at once in a state that leads there no more.
    pub async fn running(&self, id: &str, within: impl Into<Duration>) -> Waited<Response> {
        let what = format!("{id} is RUNNING");
        let probe = || async {
            let answer = self
                .status(id)
                .await
                .map_err(|blocked| ProbeError::Pending(blocked.to_string()))?;
            match answer.state {
                State::Running => Ok(answer),
                // NOT_FOUND may be a start that is still on its way.
                State::Starting | State::Stopping | State::NotFound => {
                    Err(ProbeError::Pending(answer.to_string()))
                }
                _ => Err(ProbeError::Unreachable(answer.to_string())),
            }
        };
        self.check_run.look(within.into(), &what, probe).await
    }

    /// Waits until the id is NOT_FOUND.
    pub async fn gone(&self, id: &str) -> Waited<Response> {
        self.reaches(id, State::NotFound, deadlines::STOP_GONE)
            .await
    }

    /// Waits until the id is in a state.
    pub async fn reaches(
        &self,
        id: &str,
        state: State,
        within: impl Into<Duration>,
    ) -> Waited<Response> {
        let what = format!("{id} is {state}");
        let state = &state;
        self.eventually(within, &what, || async move {
            self.status(id).await?.in_state(state.clone())
        })
        .await
    }

    /// [`CheckRun::eventually`].
    pub async fn eventually<T, F, Fut>(
        &self,
        within: impl Into<Duration>,
        what: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.eventually(within, what, probe).await
    }

    /// [`CheckRun::consistently`].
    pub async fn consistently<T, F, Fut>(
        &self,
        window: impl Into<Duration>,
        what: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.consistently(window, what, probe).await
    }

    /// [`CheckRun::never`].
    pub async fn never<F, Fut>(
        &self,
        window: impl Into<Duration>,
        what: &str,
        probe: F,
    ) -> Waited<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<String>>,
    {
        self.check_run.never(window, what, probe).await
    }

    /// A new beacon, for exactly one workload.
    pub fn beacon(&self) -> Beacon {
        self.fixture.beacons.beacon()
    }

    /// The suite's registry.
    pub fn registry(&self) -> &Registry {
        &self.fixture.registry
    }

    /// The tap between the host and the broker. Rules on a shared host must be narrowed to own ids.
    ///
    /// # Errors
    /// The suite did not launch this host. Declare `needs: [Tap]` and this cannot happen.
    pub fn tap(&self) -> Result<&Tap, Blocked> {
        self.host
            .tap
            .as_ref()
            .ok_or_else(|| Blocked::Missing("a tap: the host was not launched by the suite".into()))
    }

    /// The host's process.
    ///
    /// # Errors
    /// The suite did not launch this host. Declare `needs: [Process]` and this cannot happen.
    pub fn process(&self) -> Result<&Process, Blocked> {
        self.host.process.as_ref().ok_or_else(|| {
            Blocked::Missing("the host's process: it was not launched by the suite".into())
        })
    }

    /// The frames of this check so far: its requests and their replies, whatever speaks of its ids,
    /// and, on a host that is not shared, everything since the check began.
    pub fn frames(&self) -> Vec<Frame> {
        let inboxes = format!("{}.{}.", self.fixture.bus.inboxes(), self.tag);
        let all = self.isolation != HostIsolation::Shared;
        self.host.trace.since(self.check_run.began(), |frame| {
            all || frame.concerns(&inboxes, &self.tag)
        })
    }

    /// Heartbeats of this host that arrive from now on.
    pub fn heartbeats(&self) -> tokio::sync::broadcast::Receiver<Delivery> {
        self.fixture.bus.heartbeats()
    }

    /// Launches one more process of the target, whose broker is away for that long at first, and waits
    /// until it shows itself. It ends when it is dropped.
    ///
    /// # Errors
    /// The suite cannot launch this target. That the host does not come is the inner result.
    pub async fn launch_before_broker(
        &self,
        away: Duration,
    ) -> Result<Result<RunningHost, LaunchError>, Blocked> {
        let launched = self.launcher.launch_before_broker(away).await;
        launched.ok_or_else(|| Blocked::Missing("a target that can be launched".to_owned()))
    }

    /// Begins a claim about a requirement that the check covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        self.check_run.claim(requirement)
    }

    /// What blocks a check whose precondition the host broke.
    pub fn blocked(
        &self,
        owner: Requirement,
        what: &str,
        actual: &impl std::fmt::Display,
    ) -> Blocked {
        self.check_run.blocked(owner, what, actual)
    }

    /// Declares a value that must never be shown: it is redacted in reports.
    pub fn secret(&self, value: &str) {
        self.fixture.secrets.add(value);
    }

    /// The suite's equipment.
    pub fn fixture(&self) -> &Fixture {
        &self.fixture
    }

    /// The host as the suite knows it.
    pub fn host(&self) -> &RunningHost {
        &self.host
    }

    /// What the body has claimed so far.
    pub fn evidence(&self) -> &Evidence {
        self.check_run.evidence()
    }

    /// Unique in the run: part of every id, inbox and repository of this check.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// When the body began.
    pub fn began(&self) -> Instant {
        self.check_run.began()
    }

    /// What is left of the budget.
    pub fn time_left(&self) -> Duration {
        self.check_run.time_left()
    }
}

impl AsRef<CheckRun> for CheckContext {
    fn as_ref(&self) -> &CheckRun {
        &self.check_run
    }
}

/// Reads what arrived on an inbox as a reply.
pub fn read(delivery: Delivery, replies: &Replies) -> Reply {
    let took = delivery.at.saturating_duration_since(replies.sent);
    if delivery.status == Some(503) {
        return Reply::NoResponders {
            took,
            inbox: replies.inbox.clone(),
        };
    }
    Reply::Response(Response::read(
        delivery.payload,
        delivery.headers,
        replies.inbox.clone(),
        took,
    ))
}
