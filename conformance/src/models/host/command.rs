//! The command handler of the model host: starts, stops and status requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::decode::Decoder;
use super::encode::Encoder;
use super::image::{Credentials, Images, PullPolicy};
use super::mutant::Mutant;
use super::script::Program;
use super::service::Service;
use super::workload::{Claim, State, WorkloadTable};

/// Maximum length of an id, in bytes (HOST-WIRE-008).
const ID_BYTES_MAX: usize = 256;
/// Maximum `maxRestarts` (HOST-START-010). Larger values are refused, because they are negative
/// numbers that a scheduler has cast to unsigned.
const RESTARTS_MAX: u64 = u32::MAX as u64;
/// Time after which the reply to an unfinished start is STARTING (HOST-START-012).
const STARTING_REPLY_AFTER: Duration = Duration::from_secs(4);
/// Timeout for mutants that wait without a limit. Longer than any deadline of the suite.
const UNLIMITED_TIMEOUT: Duration = Duration::from_secs(600);

/// Reply to a command.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Message of the reply.
    pub body: Value,
    /// Code and text for the error headers.
    pub error: Option<(u16, String)>,
}

/// Handler of the commands of one host.
#[derive(Debug)]
pub struct CommandHandler {
    /// Workloads of the host.
    pub workloads: Arc<WorkloadTable>,
    /// Encoder for replies and heartbeats.
    pub encoder: Encoder,
    mutant: Option<Mutant>,
    decoder: Decoder,
    images: Arc<Images>,
    wedged: AtomicBool,
}

impl CommandHandler {
    /// Creates a handler without workloads.
    #[must_use]
    pub fn new(encoder: Encoder) -> Self {
        let mutant = encoder.mutant;
        Self {
            workloads: Arc::new(WorkloadTable::new(mutant)),
            encoder,
            mutant,
            decoder: Decoder::new(mutant),
            images: Images::new(mutant),
            wedged: AtomicBool::new(false),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Executes a command and returns the reply, or `None` if the mutant does not reply.
    pub async fn handle(self: &Arc<Self>, command: &str, payload: &[u8]) -> Option<Reply> {
        let message = match command {
            "workload.start" => "WorkloadStartRequest",
            "workload.stop" if !self.is(Mutant::NoStopCommand) => "WorkloadStopRequest",
            "workload.status" => "WorkloadStatusRequest",
            _ if self.is(Mutant::SilentOnUnknownCommand) => return None,
            _ => return Some(self.error_reply(404, "", &format!("unknown command `{command}`"))),
        };
        let request = match self.decoder.decode(message, payload) {
            Ok(request) => request,
            Err(_) if self.is(Mutant::SilentOnMalformed) => return None,
            Err(error) => return Some(self.error_reply(400, "", &error)),
        };
        let reply = match self.workload_id(&request, command) {
            Err(reply) => reply,
            Ok(id) => match command {
                "workload.start" => self.start(id, &request).await,
                "workload.stop" => self.stop(&id).await,
                _ => self.status(&id).await,
            },
        };
        Some(reply)
    }

    /// Returns the id in a request, or the reply that refuses the id.
    fn workload_id(&self, request: &Value, command: &str) -> Result<String, Reply> {
        let id = request
            .get("workloadId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let id = if self.is(Mutant::TrimsIds) {
            id.trim()
        } else {
            id
        };
        if id.is_empty() {
            return match (command, self.mutant) {
                ("workload.start", Some(Mutant::AcceptsEmptyId)) => Ok(String::new()),
                ("workload.stop" | "workload.status", Some(Mutant::EmptyIdNotFound)) => {
                    Err(self.state_reply("", State::NotFound, "not found"))
                }
                _ => Err(self.error_reply(400, "", "workloadId is empty")),
            };
        }
        if id.len() <= ID_BYTES_MAX {
            return Ok(id.to_owned());
        }
        match self.mutant {
            Some(Mutant::TruncatesLongIds) => Ok(id.chars().take(ID_BYTES_MAX).collect()),
            Some(Mutant::OversizedReply) => {
                Err(self.error_reply(413, "", &format!("{id} and {id}")))
            }
            _ => Err(self.error_reply(
                413,
                "",
                &format!("workloadId has more than {ID_BYTES_MAX} bytes"),
            )),
        }
    }

    async fn start(self: &Arc<Self>, id: String, request: &Value) -> Reply {
        let workload = match (request.get("workload"), self.mutant) {
            (Some(workload), _) => workload.clone(),
            (None, Some(Mutant::AcceptsMissingWorkload)) => json!({}),
            (None, _) => return self.error_reply(400, &id, "workload is not set"),
        };
        if let Err(message) = self.validate(&workload) {
            return self.error_reply(400, &id, &message);
        }
        if self.wedged.load(Ordering::Relaxed) {
            return self.state_reply(&id, State::Error, "busy");
        }
        let Some(claim) = self.claim(&id, &workload).await else {
            return self.error_reply(409, &id, "the id is in use");
        };
        let (done, completion) = oneshot::channel();
        let commands = Arc::clone(self);
        tokio::spawn(async move {
            commands.run_start(&claim, &workload).await;
            let _ = done.send(());
        });
        let starting_reply_after = if self.is(Mutant::UnboundedStartReply) {
            UNLIMITED_TIMEOUT
        } else {
            STARTING_REPLY_AFTER
        };
        let _ = tokio::time::timeout(starting_reply_after, completion).await;
        match self.workloads.get(&id) {
            Some(entry) if self.is(Mutant::ReplyAndStatusDisagree) => {
                self.state_reply(&id, State::Running, &entry.message)
            }
            Some(entry) => self.state_reply(&id, entry.state, &entry.message),
            None if self.is(Mutant::ForgetsFailedStart) => {
                self.state_reply(&id, State::Error, "the start failed")
            }
            None if self.is(Mutant::CanceledStartIsError) => {
                self.state_reply(&id, State::Error, "stopped during the start")
            }
            None => self.state_reply(&id, State::Stopping, "stopped during the start"),
        }
    }

    /// Checks a workload before any image is pulled.
    fn validate(&self, workload: &Value) -> Result<(), String> {
        let components = workload
            .pointer("/witWorld/components")
            .and_then(Value::as_array);
        let service = workload.get("service");
        if self.is(Mutant::RefusesEmptyWorkload) && components.is_none() && service.is_none() {
            return Err("the workload is empty".to_owned());
        }
        if self.is(Mutant::RequiresWorkloadName) && workload.get("name").is_none() {
            return Err("workload.name is not set".to_owned());
        }
        let is_negative = |component: &Value| {
            let number = component.get("poolSize").and_then(Value::as_i64);
            number.is_some_and(|number| number < 0)
        };
        let mut components = components.into_iter().flatten();
        if self.is(Mutant::RefusesNegativePoolSize) && components.any(is_negative) {
            return Err("poolSize is negative".to_owned());
        }
        let max_restarts = service.and_then(|service| service.get("maxRestarts"));
        let max_restarts = max_restarts.and_then(Value::as_u64).unwrap_or(0);
        if max_restarts > RESTARTS_MAX && !self.is(Mutant::AcceptsOverflowedMaxRestarts) {
            return Err(format!(
                "workload.service.maxRestarts exceeds {RESTARTS_MAX}"
            ));
        }
        Ok(())
    }

    async fn claim(&self, id: &str, workload: &Value) -> Option<Claim> {
        if self.is(Mutant::SimultaneousStartsAllWin) {
            let is_claimable = self.workloads.is_claimable(id, workload);
            tokio::time::sleep(Duration::from_millis(150)).await;
            return is_claimable.then(|| self.workloads.replace(id, workload));
        }
        if self.is(Mutant::ClaimsAfterPull) {
            let _ = self.prepare(workload).await;
        }
        self.workloads.claim(id, workload)
    }

    /// Pulls and starts a claimed workload; sets its state before it returns.
    async fn run_start(self: &Arc<Self>, claim: &Claim, workload: &Value) {
        let Some(prepared) = claim
            .cancel
            .run_until_cancelled(self.prepare(workload))
            .await
        else {
            return;
        };
        match prepared {
            Err(_) if self.is(Mutant::ForgetsFailedStart) => self.workloads.forget(claim),
            Err(reason) => {
                self.workloads
                    .set_state(claim, State::Error, &self.encoder.localize(&reason));
                self.wedged
                    .store(self.is(Mutant::FailedPullWedgesHost), Ordering::Relaxed);
            }
            Ok(_) if self.is(Mutant::StartNeverRuns) => {}
            Ok(service) => self.run(claim, service),
        }
    }

    fn run(self: &Arc<Self>, claim: &Claim, service: Option<Service>) {
        let is_running_late = self.is(Mutant::ReplyAndStatusDisagree);
        let stays_starting = self.is(Mutant::StartingUntilExit) && service.is_some();
        if is_running_late {
            let (workloads, claim) = (Arc::clone(&self.workloads), claim.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                workloads.set_state(&claim, State::Running, "running");
            });
        } else if !stays_starting {
            self.workloads
                .set_state(claim, State::Running, &self.encoder.localize("running"));
        }
        if let Some(service) = service {
            tokio::spawn(service.run(Arc::clone(&self.workloads), claim.clone(), self.mutant));
        }
    }

    /// Pulls every image of a workload and returns its service, if it has one.
    async fn prepare(&self, workload: &Value) -> Result<Option<Service>, String> {
        let components = workload
            .pointer("/witWorld/components")
            .and_then(Value::as_array);
        for component in components.into_iter().flatten() {
            let name = component
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.program(component)
                .await
                .map_err(|error| format!("component `{name}`: {error}"))?;
        }
        let Some(service) = workload.get("service") else {
            return Ok(None);
        };
        let program = self
            .program(service)
            .await
            .map_err(|error| format!("service: {error}"))?;
        if !program.has_entry_point() && !self.is(Mutant::RunsServiceWithoutEntryPoint) {
            return Err("service: the image has no entry point".to_owned());
        }
        Ok(program
            .has_entry_point()
            .then(|| Service::new(program, service)))
    }

    /// Pulls the image of a component or service and parses it.
    async fn program(&self, part: &Value) -> Result<Program, String> {
        let text = |name: &str| part.get(name).and_then(Value::as_str);
        let image = text("image").unwrap_or_default();
        let credentials = part.get("imagePullSecret").map(|secret| {
            let text = |name| secret.get(name).and_then(Value::as_str).unwrap_or_default();
            Credentials {
                username: text("username").into(),
                password: text("password").into(),
            }
        });
        let policy = PullPolicy::from_name(text("imagePullPolicy"));
        let pulled = self.images.pull(image, policy, credentials.clone()).await;
        let program = pulled.and_then(|bytes| match Program::parse(&bytes) {
            Err(_) if self.runs_invalid_images() => Program::parse(b"{}"),
            parsed => parsed.map_err(|error| format!("image `{image}`: {error}")),
        });
        match (program, credentials) {
            (Err(error), Some(secret)) if self.is(Mutant::CredentialInMessage) => Err(format!(
                "{error} (as {}:{})",
                secret.username, secret.password
            )),
            (program, _) => program,
        }
    }

    fn runs_invalid_images(&self) -> bool {
        self.is(Mutant::RunsUnsupportedImages)
            || self.is(Mutant::RunsTruncatedImage)
            || self.is(Mutant::SkipsDigestCheck)
    }

    async fn stop(&self, id: &str) -> Reply {
        while self.is(Mutant::StopWaitsForStart)
            && self
                .workloads
                .get(id)
                .is_some_and(|entry| entry.state == State::Starting)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let state = self.workloads.get(id).map(|entry| entry.state);
        match (state, self.mutant) {
            (None, Some(Mutant::StopNotIdempotent)) => {
                return self.state_reply(id, State::Error, "unknown workload");
            }
            (None, _) => return self.state_reply(id, State::NotFound, "not found"),
            (Some(State::Error), Some(Mutant::ErrorCannotBeStopped))
            | (Some(State::Completed), Some(Mutant::CompletedCannotBeStopped)) => {
                return self.state_reply(id, State::Stopping, "nothing is running");
            }
            (Some(_), Some(Mutant::StoppedStaysStopping)) => {
                self.workloads.for_each(|other, entry| {
                    if other == id {
                        entry.state = State::Stopping;
                        entry.cancel.cancel();
                    }
                });
                return self.state_reply(id, State::Stopping, "stopping");
            }
            (Some(_), Some(Mutant::StopStopsAll)) => self.workloads.clear(),
            _ => {}
        }
        if let Some(entry) = self.workloads.remove(id)
            && !self.is(Mutant::StopLeavesGuestRunning)
        {
            entry.cancel.cancel();
        }
        match self.mutant {
            Some(Mutant::StopReturnsCompleted) => self.state_reply(id, State::Completed, "stopped"),
            _ => self.state_reply(id, State::Stopping, "stopping"),
        }
    }

    async fn status(&self, id: &str) -> Reply {
        if self.is(Mutant::SlowStatus) {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        match self.workloads.get(id) {
            _ if self.is(Mutant::EmptyReply) => Reply {
                body: json!({}),
                error: None,
            },
            Some(entry) => self.state_reply(id, entry.state, &entry.message),
            None if self.is(Mutant::UnknownIsRunning) => {
                self.state_reply(id, State::Running, "running")
            }
            None => self.state_reply(id, State::NotFound, "not found"),
        }
    }

    /// Builds a reply with a workload status.
    fn state_reply(&self, id: &str, state: State, message: &str) -> Reply {
        let mut status = json!({ "workloadState": state.name() });
        if let Some(object) = status.as_object_mut() {
            let without_id = self.is(Mutant::ReplyWithoutId);
            for (name, value) in [("workloadId", id), ("message", message)] {
                let is_omitted = without_id && name == "workloadId";
                if !is_omitted && !value.is_empty() {
                    object.insert(name.to_owned(), json!(value));
                }
            }
        }
        Reply {
            body: json!({ "workloadStatus": status }),
            error: None,
        }
    }

    /// Builds a reply that refuses a request with `code`.
    pub fn error_reply(&self, code: u16, id: &str, message: &str) -> Reply {
        let message = self.encoder.localize(message);
        let reply = self.state_reply(id, State::Error, &message);
        let header: String = message
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        Reply {
            error: Some((code, header)),
            ..reply
        }
    }
}
