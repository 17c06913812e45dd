//! Execution of commands by a simulated host: by its rules, or else like a host of its flavor.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{HostFlavor, Inner, Reaction, Workload};
use crate::scheduler::journal::{EventKind, ReceivedCommand};
use crate::wire::nats::{Delivery, PeerConnection};
use crate::wire::response::{ERROR_CODE_HEADER, ERROR_HEADER, Headers, State};
use crate::wire::{json_judge, nats};

/// Time after which a host of the flavor `Berth` replies with STARTING.
const STARTING_REPLY_AFTER: Duration = Duration::from_millis(4_500);

/// Reply of a simulated host.
struct HostReply {
    body: Value,
    code: Option<u16>,
}

impl HostReply {
    fn headers(&self) -> Headers {
        let message = self.body.pointer("/workloadStatus/message");
        let message = message.and_then(Value::as_str).unwrap_or_default();
        match self.code {
            None => Headers::none(),
            Some(code) => Headers::none()
                .with(ERROR_CODE_HEADER, &code.to_string())
                .with(ERROR_HEADER, message),
        }
    }
}

/// Decodes a command and records it. Returns `None` if the subject is not that of a command.
pub(super) fn receive(inner: &Inner, delivery: Delivery) -> Option<ReceivedCommand> {
    let (_, command) = nats::parse_command_subject(&delivery.subject)?;
    let json: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
    let id = json.as_ref().and_then(|json| json.get("workloadId"));
    let received = ReceivedCommand {
        command: command.to_owned(),
        id: id.and_then(Value::as_str).unwrap_or_default().to_owned(),
        payload: delivery.payload,
        json,
        reply: delivery.reply,
        headers: delivery.headers,
    };
    inner.record(EventKind::ReceivedCommand(received.clone()));
    Some(received)
}

/// Executes one command.
pub(super) async fn execute(
    inner: Arc<Inner>,
    connection: PeerConnection,
    received: ReceivedCommand,
    cancel: CancellationToken,
) {
    let reaction = inner.state().script.take(&received);
    let execution = Execution {
        inner,
        connection,
        received,
    };
    tokio::select! {
        // A process that has ended does not finish its commands.
        () = cancel.cancelled() => {}
        () = execution.run(reaction) => {}
    }
}

struct Execution {
    inner: Arc<Inner>,
    connection: PeerConnection,
    received: ReceivedCommand,
}

impl Execution {
    async fn run(&self, reaction: Option<Reaction>) {
        match reaction {
            None | Some(Reaction::Normal) => self.apply_and_reply().await,
            Some(Reaction::Ignore) => {}
            Some(Reaction::DropReply) => {
                self.apply().await;
            }
            Some(Reaction::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.apply_and_reply().await;
            }
            Some(Reaction::DelayReply(delay)) => {
                let reply = self.apply().await;
                tokio::time::sleep(delay).await;
                self.reply(reply).await;
            }
            Some(Reaction::Reply(bytes)) => self.send(bytes, Headers::none()).await,
            Some(Reaction::ExecuteThenReply(bytes)) => {
                self.apply().await;
                self.send(bytes, Headers::none()).await;
            }
            Some(Reaction::Encode(template)) => {
                if let Some(reply) = self.apply().await {
                    let payload = template.render(&self.received.id, &reply.body);
                    self.send(payload, reply.headers()).await;
                }
            }
            Some(Reaction::Pretend(template)) => {
                let body = self.status(State::NotFound, "").body;
                let payload = template.render(&self.received.id, &body);
                self.send(payload, Headers::none()).await;
            }
            Some(Reaction::Refuse(code)) => self.reply(self.refuse(code, "refused")).await,
            Some(Reaction::Complete) => {
                self.set_workload(State::Completed, "Workload is Completed");
                let reply = self.status(State::Completed, "Workload is Completed");
                self.reply(Some(reply)).await;
            }
            Some(Reaction::Fail { message, recorded }) => {
                if recorded {
                    self.set_workload(State::Error, &message);
                }
                self.reply(Some(self.status(State::Error, &message))).await;
            }
            Some(Reaction::Starting(duration)) => {
                if self.claim().is_err() {
                    return self.apply_and_reply().await;
                }
                self.reply(Some(self.status(State::Starting, "pulling the image")))
                    .await;
                tokio::time::sleep(duration).await;
                self.mark_running();
            }
            Some(Reaction::Stopping(duration)) => self.stop_slowly(duration).await,
        }
    }

    /// Reports STOPPING for `duration`, and ends the workload then. A repeated stop does not delay
    /// the end.
    async fn stop_slowly(&self, duration: Duration) {
        let Some(earlier) = self.mark_stopping() else {
            return self.apply_and_reply().await;
        };
        self.reply(Some(self.status(State::Stopping, "stopping")))
            .await;
        if earlier != State::Stopping {
            tokio::time::sleep(duration).await;
            self.inner.state().workloads.remove(&self.received.id);
            self.inner
                .record(EventKind::WorkloadEnded(self.received.id.clone()));
        }
    }

    /// Sets the workload to STOPPING. Returns its earlier state, if it exists.
    fn mark_stopping(&self) -> Option<State> {
        let mut host = self.inner.state();
        let workload = host.workloads.get_mut(&self.received.id)?;
        workload.message = "stopping".to_owned();
        Some(std::mem::replace(&mut workload.state, State::Stopping))
    }

    async fn apply_and_reply(&self) {
        let reply = self.apply().await;
        self.reply(reply).await;
    }

    /// Applies the command. Returns `None` if hosts of this flavor send no reply.
    async fn apply(&self) -> Option<HostReply> {
        let message = match self.received.command.as_str() {
            "workload.start" => "WorkloadStartRequest",
            "workload.stop" => "WorkloadStopRequest",
            "workload.status" => "WorkloadStatusRequest",
            "heartbeat" => {
                let host = self.inner.state();
                let body = host.heartbeat();
                return Some(HostReply { body, code: None });
            }
            _ => return self.refuse(404, "unknown command"),
        };
        let is_start = message == "WorkloadStartRequest";
        let undecodable = match self.flavor() {
            // This flavor refuses unknown fields.
            HostFlavor::Wash => !json_judge::judge(&self.received.payload, message).is_empty(),
            HostFlavor::Berth => self.received.json.is_none(),
        };
        let workload = self
            .received
            .json
            .as_ref()
            .and_then(|json| json.get("workload"));
        if undecodable || (is_start && (self.received.id.is_empty() || workload.is_none())) {
            return self.refuse(400, "cannot decode the request");
        }
        match message {
            "WorkloadStartRequest" => self.start().await,
            "WorkloadStopRequest" => Some(self.stop()),
            _ => Some(self.report_status()),
        }
    }

    /// Returns an error reply with `code`, or `None`: the flavor `Wash` only logs the error.
    fn refuse(&self, code: u16, message: &str) -> Option<HostReply> {
        let reply = self.status(State::Error, message);
        (self.flavor() == HostFlavor::Berth).then_some(HostReply {
            code: Some(code),
            ..reply
        })
    }

    async fn start(&self) -> Option<HostReply> {
        let duration = self.inner.state().config.start_duration;
        if self.flavor() == HostFlavor::Wash {
            // This flavor pulls the image before it checks the id.
            tokio::time::sleep(duration).await;
        }
        if let Err(id_in_use) = self.claim() {
            let code = (self.flavor() == HostFlavor::Berth).then_some(409);
            return Some(HostReply { code, ..id_in_use });
        }
        if self.flavor() == HostFlavor::Berth {
            if duration > STARTING_REPLY_AFTER {
                tokio::time::sleep(STARTING_REPLY_AFTER).await;
                self.reply(Some(self.status(State::Starting, "pulling the image")))
                    .await;
                tokio::time::sleep(duration.saturating_sub(STARTING_REPLY_AFTER)).await;
                self.mark_running();
                return None;
            }
            tokio::time::sleep(duration).await;
        }
        Some(if self.mark_running() {
            self.status(State::Running, "Workload started successfully")
        } else {
            self.status(State::Stopping, "stopped while it started")
        })
    }

    /// Claims the id. Returns an error reply if the id is in use.
    fn claim(&self) -> Result<(), HostReply> {
        let mut host = self.inner.state();
        if host.workloads.contains_key(&self.received.id) {
            drop(host);
            let message = format!("Workload ID [{}] already exists", self.received.id);
            return Err(self.status(State::Error, &message));
        }
        let workload = Workload {
            state: State::Starting,
            message: "starting".to_owned(),
            request: self.received.json.clone().unwrap_or_default(),
        };
        host.workloads.insert(self.received.id.clone(), workload);
        Ok(())
    }

    /// Sets the workload to RUNNING. Returns `false` and does nothing if the workload has been
    /// stopped since its start.
    fn mark_running(&self) -> bool {
        let mut host = self.inner.state();
        let workload = host.workloads.get_mut(&self.received.id);
        let Some(workload) = workload.filter(|workload| workload.state == State::Starting) else {
            return false;
        };
        workload.state = State::Running;
        workload.message = "Workload is Running".to_owned();
        drop(host);
        self.inner
            .record(EventKind::WorkloadRunning(self.received.id.clone()));
        true
    }

    fn set_workload(&self, state: State, message: &str) {
        let workload = Workload {
            state,
            message: message.to_owned(),
            request: self.received.json.clone().unwrap_or_default(),
        };
        let mut host = self.inner.state();
        host.workloads.insert(self.received.id.clone(), workload);
    }

    fn stop(&self) -> HostReply {
        let removed = self.inner.state().workloads.remove(&self.received.id);
        match removed {
            None => self.status(State::NotFound, "Workload not found"),
            Some(workload) => {
                if workload.state == State::Running {
                    self.inner
                        .record(EventKind::WorkloadEnded(self.received.id.clone()));
                }
                self.status(State::Stopping, "Workload stopped successfully")
            }
        }
    }

    fn report_status(&self) -> HostReply {
        let host = self.inner.state();
        let workload = host.workloads.get(&self.received.id).cloned();
        drop(host);
        match workload {
            None => self.status(State::NotFound, "Workload not found"),
            Some(workload) => self.status(workload.state, &workload.message),
        }
    }

    fn status(&self, state: State, message: &str) -> HostReply {
        let body = json!({ "workloadStatus": {
            "workloadId": self.received.id,
            "workloadState": format!("WORKLOAD_STATE_{state}"),
            "message": message,
        } });
        HostReply { body, code: None }
    }

    async fn reply(&self, reply: Option<HostReply>) {
        if let Some(reply) = reply {
            let headers = reply.headers();
            self.send(reply.body.to_string().into(), headers).await;
        }
    }

    async fn send(&self, payload: Bytes, mut headers: Headers) {
        let Some(inbox) = &self.received.reply else {
            return;
        };
        let of_host = self.inner.state().config.reply_headers.clone();
        headers.0.extend(of_host.0);
        self.inner
            .record(EventKind::Replied(inbox.clone(), payload.clone()));
        // If the connection is gone, the broker reports no responders to the requester.
        let _ = self.connection.publish(inbox, payload, &headers).await;
    }

    fn flavor(&self) -> HostFlavor {
        self.inner.state().config.flavor
    }
}
