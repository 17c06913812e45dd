//! Context of a check: the host under test, the bus, the fixtures, and the claims of the check.

mod http;
mod image;
mod wait;
mod workload;

pub use self::http::{HttpConnection, HttpResponse};
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

/// Everything that the body of a check uses: sends requests, waits for states and records claims.
///
/// Every run has its own ids, inboxes and repositories, so that checks can share a host.
#[derive(Debug)]
pub struct CheckContext {
    isolation: HostIsolation,
    roles: &'static [Role],
    fixture: Arc<Fixture>,
    host: Arc<RunningHost>,
    launcher: Launcher,
    /// Unique within the run; a part of every id, inbox and repository.
    unique_name: String,
    inboxes: AtomicU64,
    check_run: CheckRun,
}

impl CheckContext {
    /// Creates the context for one run of a check.
    pub fn new(
        meta: &'static CheckMeta,
        isolation: HostIsolation,
        roles: &'static [Role],
        fixture: Arc<Fixture>,
        host: Arc<RunningHost>,
        launcher: Launcher,
    ) -> CheckContext {
        let unique_name = fixture.next_unique_name();
        let patience = fixture.shared_patience();
        CheckContext {
            isolation,
            roles,
            fixture,
            host,
            launcher,
            unique_name,
            inboxes: AtomicU64::new(0),
            check_run: CheckRun::new(meta, patience),
        }
    }

    /// Returns the id of the host.
    pub fn host_id(&self) -> &str {
        &self.host.id
    }

    /// Returns the workload id for `name`: unique within the run, stable, and stopped in the
    /// clean-up.
    pub fn id(&self, name: &str) -> String {
        let id = format!("{}-{name}", self.unique_name);
        self.check_run.evidence().track_id(&id);
        id
    }

    /// Registers an id that [`CheckContext::id`] did not create, so that the clean-up stops it.
    pub fn track_id(&self, id: &str) {
        self.check_run.evidence().track_id(id);
    }

    /// Returns a workload with a name and nothing else.
    pub fn workload(&self) -> Workload<'_> {
        Workload::new(self)
    }

    /// Sends a start and returns the response, whatever its state.
    ///
    /// # Errors
    /// Fails if the host does not reply in time, which violates HOST-WIRE-002.
    pub async fn start(&self, id: &str, workload: &Workload<'_>) -> Result<Response, Blocked> {
        let request = json!({ "workloadId": id, "workload": workload.json() });
        self.command("workload.start", &request, deadlines::START_REPLY.limit)
            .await
    }

    /// Starts a workload and waits until it is RUNNING. For checks of later stages of the
    /// lifecycle.
    ///
    /// # Errors
    /// Fails if the workload does not reach RUNNING, which violates HOST-START-001.
    pub async fn start_and_wait(
        &self,
        id: &str,
        workload: &Workload<'_>,
    ) -> Result<Response, Blocked> {
        let response = self.start(id, workload).await?;
        match response.state {
            State::Running => Ok(response),
            State::Starting => self
                .wait_running(id, deadlines::DEFAULT_WAIT)
                .await
                .or_blocked(self, req::HOST_START_001),
            _ => Err(self.blocked(req::HOST_START_001, "a workload that starts", &response)),
        }
    }

    /// Sends a stop and returns the response.
    ///
    /// # Errors
    /// Fails if the host does not reply in time, which violates HOST-WIRE-002.
    pub async fn stop(&self, id: &str) -> Result<Response, Blocked> {
        self.command(
            "workload.stop",
            &json!({ "workloadId": id }),
            deadlines::REPLY.limit,
        )
        .await
    }

    /// Sends a status request and returns the response.
    ///
    /// # Errors
    /// Fails if the host does not reply in time, which violates HOST-WIRE-002.
    pub async fn status(&self, id: &str) -> Result<Response, Blocked> {
        self.command(
            "workload.status",
            &json!({ "workloadId": id }),
            deadlines::REPLY.limit,
        )
        .await
    }

    /// Requests a heartbeat; `json` of the response is the HostHeartbeat.
    ///
    /// # Errors
    /// Fails if the host does not reply in time, which violates HOST-WIRE-002.
    pub async fn heartbeat(&self) -> Result<Response, Blocked> {
        self.command("heartbeat", &json!({}), deadlines::REPLY.limit)
            .await
    }

    async fn command(
        &self,
        command: &str,
        request: &Value,
        limit: Duration,
    ) -> Result<Response, Blocked> {
        let payload = Bytes::from(request.to_string());
        // One second of the budget remains for the report of the failure.
        let within = limit.min(self.time_left().saturating_sub(Duration::from_secs(1)));
        match self
            .send_within(command, payload, Headers::none(), within)
            .await?
        {
            Reply::Response(response) => Ok(response),
            no_response => Err(self.blocked(
                req::HOST_WIRE_002,
                &format!("a reply to {command}"),
                &no_response,
            )),
        }
    }

    /// Sends a raw request and waits up to 5 s, the deadline for any reply, for the first reply.
    ///
    /// # Errors
    /// Fails if the suite cannot send. A missing reply is not an error but [`Reply::Timeout`].
    pub async fn send(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Reply, Blocked> {
        self.send_within(command, payload, headers, deadlines::REPLY.limit)
            .await
    }

    /// Like [`CheckContext::send`], with another deadline, to which the patience is added.
    ///
    /// # Errors
    /// Fails if the suite cannot send.
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
        let stall = self.fixture.clock.stall_time_since(replies.sent_at);
        if delivery.is_none() && !stall.is_zero() {
            delivery = replies.next(stall).await;
        }
        let reply = match delivery {
            None => Reply::Timeout {
                waited: within,
                inbox: replies.inbox.clone(),
            },
            Some(delivery) => parse_reply(delivery, &replies),
        };
        self.check_run.evidence().set_latest_inbox(reply.inbox());
        Ok(reply)
    }

    /// Sends a raw request and returns its inbox, for checks that count replies.
    ///
    /// # Errors
    /// Fails if the suite cannot send.
    pub async fn request(
        &self,
        command: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Replies, Blocked> {
        let subject = nats::command_subject(&self.host.id, command);
        self.request_on(&subject, payload, headers).await
    }

    /// Like [`CheckContext::request`], on any subject.
    ///
    /// # Errors
    /// Fails if the suite cannot send.
    pub async fn request_on(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Replies, Blocked> {
        let inbox = format!(
            "{}.{}",
            self.unique_name,
            self.inboxes.fetch_add(1, Ordering::Relaxed)
        );
        self.fixture
            .bus
            .request(subject, &inbox, payload.into(), &headers)
            .await
            .map_err(|cause| Blocked::harness_error("cannot send a request", &cause))
    }

    /// Publishes a command without a reply subject and returns when the broker has received it.
    ///
    /// # Errors
    /// Fails if the suite cannot send.
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
            .map_err(|cause| Blocked::harness_error("cannot send a command", &cause))
    }

    /// Creates a beacon, for exactly one workload.
    pub fn beacon(&self) -> Beacon {
        self.fixture.beacons.new_beacon()
    }

    /// Returns the registry of the suite.
    pub fn registry(&self) -> &Registry {
        &self.fixture.registry
    }

    /// Returns the tap between the host and the broker. On a shared host, a rule must match only
    /// ids of this check.
    ///
    /// # Errors
    /// Fails if the suite did not launch this host; a check with `needs: [Tap]` does not run then.
    pub fn tap(&self) -> Result<&Tap, Blocked> {
        self.host
            .tap
            .as_ref()
            .ok_or_else(|| Blocked::Missing("a tap, but the suite did not launch the host".into()))
    }

    /// Returns the process of the host.
    ///
    /// # Errors
    /// Fails if the suite did not launch this host; a check with `needs: [Process]` does not run
    /// then.
    pub fn process(&self) -> Result<&Process, Blocked> {
        self.host.process.as_ref().ok_or_else(|| {
            Blocked::Missing("the process of the host, but the suite did not launch it".into())
        })
    }

    /// Returns the frames of this check so far: its requests, their replies and all frames with its
    /// ids; on a host that is not shared, all frames since the check started.
    pub fn frames(&self) -> Vec<Frame> {
        let inboxes = format!("{}.{}.", self.fixture.bus.inbox_prefix(), self.unique_name);
        let all = self.isolation != HostIsolation::Shared;
        self.host.trace.since(self.check_run.started_at(), |frame| {
            all || frame.concerns(&inboxes, &self.unique_name)
        })
    }

    /// Subscribes to the heartbeats that arrive on the bus from now on.
    pub fn heartbeats(&self) -> tokio::sync::broadcast::Receiver<Delivery> {
        self.fixture.bus.heartbeats()
    }

    /// Launches another process of the target, whose broker becomes reachable only after `delay`,
    /// and waits for its first heartbeat. The process ends when the result is dropped.
    ///
    /// # Errors
    /// Fails if the suite cannot launch this target. The inner error says that the host did not
    /// start.
    pub async fn launch_before_broker(
        &self,
        delay: Duration,
    ) -> Result<Result<RunningHost, LaunchError>, Blocked> {
        let launched = self.launcher.launch_before_broker(delay).await;
        launched.ok_or_else(|| Blocked::Missing("a target that the suite can launch".to_owned()))
    }

    /// Starts a claim about a requirement that the check covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        self.check_run.claim(requirement)
    }

    /// Returns the error of a check whose precondition the host violated.
    pub fn blocked(
        &self,
        violated: Requirement,
        description: &str,
        actual: &impl std::fmt::Display,
    ) -> Blocked {
        self.check_run.blocked(violated, description, actual)
    }

    /// Registers a secret value, which reports redact.
    pub fn add_secret(&self, value: &str) {
        self.fixture.secrets.add(value);
    }

    /// Returns the fixture of the run.
    pub fn fixture(&self) -> &Fixture {
        &self.fixture
    }

    /// Returns the host under test.
    pub fn host(&self) -> &RunningHost {
        &self.host
    }

    /// Returns the evidence so far.
    pub fn evidence(&self) -> &Evidence {
        self.check_run.evidence()
    }

    /// Returns the unique name of this run, a part of every id, inbox and repository of the check.
    pub fn unique_name(&self) -> &str {
        &self.unique_name
    }

    /// Returns the time at which the body started.
    pub fn started_at(&self) -> Instant {
        self.check_run.started_at()
    }

    /// Returns the rest of the time budget.
    pub fn time_left(&self) -> Duration {
        self.check_run.time_left()
    }
}

impl AsRef<CheckRun> for CheckContext {
    fn as_ref(&self) -> &CheckRun {
        &self.check_run
    }
}

/// Converts a delivery on an inbox into a reply.
pub fn parse_reply(delivery: Delivery, replies: &Replies) -> Reply {
    let latency = delivery.at.saturating_duration_since(replies.sent_at);
    if delivery.status == Some(503) {
        return Reply::NoResponders {
            latency,
            inbox: replies.inbox.clone(),
        };
    }
    Reply::Response(Response::parse(
        delivery.payload,
        delivery.headers,
        replies.inbox.clone(),
        latency,
    ))
}
