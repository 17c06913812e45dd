//! The commands of the model host: what it answers to a start, a stop and a status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::decode::Reader;
use super::encode::Writer;
use super::image::{Credentials, Images, Policy};
use super::mutant::Mutant;
use super::script::Program;
use super::service::Service;
use super::workload::{Claim, State, Table};

/// Ids longer than this are refused (HOST-WIRE-008).
const ID_BYTES_MAX: usize = 256;
/// Restarts above this are a negative number that went through a cast (HOST-START-010).
const RESTARTS_MAX: u64 = u32::MAX as u64;
/// A start that takes longer is answered with STARTING (HOST-START-012).
const STARTING_AFTER: Duration = Duration::from_secs(4);
/// Longer than any patience of the suite.
const TOO_LATE: Duration = Duration::from_secs(600);

/// An answer: the status envelope and, for protocol errors, a code.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message.
    pub body: Value,
    /// The code and a line of text for the headers.
    pub error: Option<(u16, String)>,
}

/// Carries out commands.
#[derive(Debug)]
pub struct Commands {
    /// The workloads.
    pub table: Arc<Table>,
    /// Encodes what is published.
    pub writer: Writer,
    mutant: Option<Mutant>,
    reader: Reader,
    images: Arc<Images>,
    wedged: AtomicBool,
}

impl Commands {
    /// Nothing started yet.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        let mutant = writer.mutant;
        Self {
            table: Arc::new(Table::new(mutant)),
            writer,
            mutant,
            reader: Reader::new(mutant),
            images: Images::new(mutant),
            wedged: AtomicBool::new(false),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The answer to a command, or nothing where a fault wants silence.
    pub async fn answer(self: &Arc<Self>, command: &str, payload: &[u8]) -> Option<Reply> {
        let message = match command {
            "workload.start" => "WorkloadStartRequest",
            "workload.stop" if !self.is(Mutant::NoStopCommand) => "WorkloadStopRequest",
            "workload.status" => "WorkloadStatusRequest",
            _ if self.is(Mutant::SilentOnUnknownCommand) => return None,
            _ => return Some(self.refusal(404, "", &format!("unknown command {command:?}"))),
        };
        let request = match self.reader.read(message, payload) {
            Ok(request) => request,
            Err(_) if self.is(Mutant::SilentOnMalformed) => return None,
            Err(error) => return Some(self.refusal(400, "", &error)),
        };
        let reply = match self.id(&request, command) {
            Err(refusal) => refusal,
            Ok(id) => match command {
                "workload.start" => self.start(id, &request).await,
                "workload.stop" => self.stop(&id).await,
                _ => self.status(&id).await,
            },
        };
        Some(reply)
    }

    /// The id of a request, as the model host keeps it.
    fn id(&self, request: &Value, command: &str) -> Result<String, Reply> {
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
                    Err(self.state("", State::NotFound, "not found"))
                }
                _ => Err(self.refusal(400, "", "workloadId is empty")),
            };
        }
        if id.len() <= ID_BYTES_MAX {
            return Ok(id.to_owned());
        }
        match self.mutant {
            Some(Mutant::TruncatesLongIds) => Ok(id.chars().take(ID_BYTES_MAX).collect()),
            Some(Mutant::OversizedReply) => Err(self.refusal(413, "", &format!("{id} and {id}"))),
            _ => Err(self.refusal(
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
            (None, _) => return self.refusal(400, &id, "workload is not set"),
        };
        if let Err(words) = self.judge(&workload) {
            return self.refusal(400, &id, &words);
        }
        if self.wedged.load(Ordering::Relaxed) {
            return self.state(&id, State::Error, "busy");
        }
        let Some(claim) = self.claim(&id, &workload).await else {
            return self.refusal(409, &id, "the id is taken");
        };
        let (settled, outcome) = oneshot::channel();
        let commands = Arc::clone(self);
        tokio::spawn(async move {
            commands.bring_up(&claim, &workload).await;
            let _ = settled.send(());
        });
        let patience = if self.is(Mutant::StartAnswerWaitsForever) {
            TOO_LATE
        } else {
            STARTING_AFTER
        };
        let _ = tokio::time::timeout(patience, outcome).await;
        match self.table.get(&id) {
            Some(entry) if self.is(Mutant::ReplyAndStatusDisagree) => {
                self.state(&id, State::Running, &entry.message)
            }
            Some(entry) => self.state(&id, entry.state, &entry.message),
            None if self.is(Mutant::ForgetsFailedStart) => {
                self.state(&id, State::Error, "the start failed")
            }
            None => self.state(&id, State::Stopping, "stopped while starting"),
        }
    }

    /// What is wrong with a workload before anything is fetched.
    fn judge(&self, workload: &Value) -> Result<(), String> {
        let components = workload
            .pointer("/witWorld/components")
            .and_then(Value::as_array);
        let service = workload.get("service");
        if self.is(Mutant::RefusesEmptyWorkload) && components.is_none() && service.is_none() {
            return Err("the workload is empty".to_owned());
        }
        if self.is(Mutant::RequiresEmptyFields) && workload.get("name").is_none() {
            return Err("workload.name is not set".to_owned());
        }
        let negative = |component: &Value| {
            let number = component.get("poolSize").and_then(Value::as_i64);
            number.is_some_and(|number| number < 0)
        };
        if self.is(Mutant::RefusesNegativePool) && components.into_iter().flatten().any(negative) {
            return Err("poolSize is negative".to_owned());
        }
        let restarts = service.and_then(|service| service.get("maxRestarts"));
        let restarts = restarts.and_then(Value::as_u64).unwrap_or(0);
        if restarts > RESTARTS_MAX && !self.is(Mutant::AcceptsCastMaxRestarts) {
            return Err(format!(
                "workload.service.maxRestarts is above {RESTARTS_MAX}"
            ));
        }
        Ok(())
    }

    async fn claim(&self, id: &str, workload: &Value) -> Option<Claim> {
        if self.is(Mutant::SimultaneousStartsAllWin) {
            let free = self.table.claimable(id, workload);
            tokio::time::sleep(Duration::from_millis(150)).await;
            return free.then(|| self.table.take(id, workload));
        }
        if self.is(Mutant::ClaimsAfterPull) {
            let _ = self.prepare(workload).await;
        }
        self.table.claim(id, workload)
    }

    /// Pulls and starts what was claimed; returns when the outcome is in the table.
    async fn bring_up(self: &Arc<Self>, claim: &Claim, workload: &Value) {
        let Some(prepared) = claim
            .cancel
            .run_until_cancelled(self.prepare(workload))
            .await
        else {
            return;
        };
        match prepared {
            Err(_) if self.is(Mutant::ForgetsFailedStart) => self.table.forget(claim),
            Err(reason) => {
                self.table
                    .settle(claim, State::Error, &self.writer.words(&reason));
                self.wedged
                    .store(self.is(Mutant::FailedPullWedgesHost), Ordering::Relaxed);
            }
            Ok(_) if self.is(Mutant::StartNeverRuns) => {}
            Ok(service) => self.run(claim, service),
        }
    }

    fn run(self: &Arc<Self>, claim: &Claim, service: Option<Service>) {
        let late = self.is(Mutant::ReplyAndStatusDisagree);
        let hidden = self.is(Mutant::StartWaitsForEnd) && service.is_some();
        if late {
            let (table, claim) = (Arc::clone(&self.table), claim.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                table.settle(&claim, State::Running, "running");
            });
        } else if !hidden {
            self.table
                .settle(claim, State::Running, &self.writer.words("running"));
        }
        if let Some(service) = service {
            tokio::spawn(service.live(Arc::clone(&self.table), claim.clone(), self.mutant));
        }
    }

    /// Pulls every image of a workload and makes its service ready to run.
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
                .map_err(|error| format!("component {name:?}: {error}"))?;
        }
        let Some(service) = workload.get("service") else {
            return Ok(None);
        };
        let program = self
            .program(service)
            .await
            .map_err(|error| format!("service: {error}"))?;
        if !program.runs() && !self.is(Mutant::RunsWithoutRun) {
            return Err("service: there is nothing to run".to_owned());
        }
        Ok(program.runs().then(|| Service::new(program, service)))
    }

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
        let policy = Policy::of(text("imagePullPolicy"));
        let pulled = self.images.pull(image, policy, credentials.clone()).await;
        let read = pulled.and_then(|bytes| match Program::read(&bytes) {
            Err(_) if self.runs_noise() => Program::read(b"{}"),
            read => read.map_err(|error| format!("{image}: {error}")),
        });
        match (read, credentials) {
            (Err(error), Some(secret)) if self.is(Mutant::CredentialInMessage) => Err(format!(
                "{error} (as {}:{})",
                secret.username, secret.password
            )),
            (read, _) => read,
        }
    }

    fn runs_noise(&self) -> bool {
        self.is(Mutant::RunsAnything)
            || self.is(Mutant::RunsTruncatedImage)
            || self.is(Mutant::SkipsDigestCheck)
    }

    async fn stop(&self, id: &str) -> Reply {
        while self.is(Mutant::StopWaitsForStart)
            && self
                .table
                .get(id)
                .is_some_and(|entry| entry.state == State::Starting)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let state = self.table.get(id).map(|entry| entry.state);
        match (state, self.mutant) {
            (None, Some(Mutant::StopNotIdempotent)) => {
                return self.state(id, State::Error, "there is no such workload");
            }
            (None, _) => return self.state(id, State::NotFound, "not found"),
            (Some(State::Error), Some(Mutant::ErrorCannotBeStopped))
            | (Some(State::Completed), Some(Mutant::CompletedCannotBeStopped)) => {
                return self.state(id, State::Stopping, "nothing runs");
            }
            (Some(_), Some(Mutant::StoppedStaysStopping)) => {
                self.table.each(|known, entry| {
                    if known == id {
                        entry.state = State::Stopping;
                        entry.cancel.cancel();
                    }
                });
                return self.state(id, State::Stopping, "stopping");
            }
            (Some(_), Some(Mutant::StopStopsAll)) => self.table.clear(),
            _ => {}
        }
        if let Some(entry) = self.table.remove(id)
            && !self.is(Mutant::StopLeavesGuestRunning)
        {
            entry.cancel.cancel();
        }
        match self.mutant {
            Some(Mutant::StopAnswersCompleted) => self.state(id, State::Completed, "stopped"),
            _ => self.state(id, State::Stopping, "stopping"),
        }
    }

    async fn status(&self, id: &str) -> Reply {
        if self.is(Mutant::SlowStatus) {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        match self.table.get(id) {
            _ if self.is(Mutant::EmptyReply) => Reply {
                body: json!({}),
                error: None,
            },
            Some(entry) => self.state(id, entry.state, &entry.message),
            None if self.is(Mutant::UnknownIsRunning) => self.state(id, State::Running, "running"),
            None => self.state(id, State::NotFound, "not found"),
        }
    }

    /// An ordinary answer.
    fn state(&self, id: &str, state: State, message: &str) -> Reply {
        let mut status = json!({ "workloadState": state.name() });
        if let Some(object) = status.as_object_mut() {
            let hidden = self.is(Mutant::StatusWithoutId);
            for (name, value) in [("workloadId", id), ("message", message)] {
                let shown = !hidden || name != "workloadId";
                if shown && !value.is_empty() {
                    object.insert(name.to_owned(), json!(value));
                }
            }
        }
        Reply {
            body: json!({ "workloadStatus": status }),
            error: None,
        }
    }

    /// An answer that reports a protocol error.
    pub fn refusal(&self, code: u16, id: &str, words: &str) -> Reply {
        let words = self.writer.words(words);
        let reply = self.state(id, State::Error, &words);
        let line: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        Reply {
            error: Some((code, line)),
            ..reply
        }
    }
}
