//! How a simulated host takes a command: by its script, else as hosts of its look do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Act, HostFlavor, Inner, Workload};
use crate::scheduler::journal::{EventKind, ReceivedCommand};
use crate::wire::nats::{Delivery, Link};
use crate::wire::response::{ERROR_CODE_HEADER, ERROR_HEADER, Headers, State};
use crate::wire::{json_judge, nats};

/// When a host of the newer kind says STARTING instead of making the caller wait.
const SAY_STARTING_AFTER: Duration = Duration::from_millis(4_500);

/// What is answered.
struct Reply {
    body: Value,
    code: Option<u16>,
}

/// Reads a command and writes it into the journal; `None` of what is no command.
pub(super) fn enter(inner: &Inner, delivery: Delivery) -> Option<ReceivedCommand> {
    let (_, command) = nats::read_command_subject(&delivery.subject)?;
    let json: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
    let id = json.as_ref().and_then(|json| json.get("workloadId"));
    let came = ReceivedCommand {
        command: command.to_owned(),
        id: id.and_then(Value::as_str).unwrap_or_default().to_owned(),
        payload: delivery.payload,
        json,
        reply: delivery.reply,
        headers: delivery.headers,
    };
    inner.note(EventKind::ReceivedCommand(came.clone()));
    Some(came)
}

/// Takes one command to its end.
pub(super) async fn obey(
    inner: Arc<Inner>,
    link: Link,
    came: ReceivedCommand,
    cancel: CancellationToken,
) {
    let act = inner.book().script.take(&came);
    let turn = Turn { inner, link, came };
    tokio::select! {
        // A process that is gone finishes nothing.
        () = cancel.cancelled() => {}
        () = turn.take(act) => {}
    }
}

struct Turn {
    inner: Arc<Inner>,
    link: Link,
    came: ReceivedCommand,
}

impl Turn {
    async fn take(&self, act: Option<Act>) {
        match act {
            None | Some(Act::Ordinary) => self.ordinary(true).await,
            Some(Act::Ignore) => {}
            Some(Act::LoseAnswer) => self.ordinary(false).await,
            Some(Act::After(late)) => {
                tokio::time::sleep(late).await;
                self.ordinary(true).await;
            }
            Some(Act::AnswerAfter(late)) => {
                let reply = self.carry_out().await;
                tokio::time::sleep(late).await;
                self.answer(reply).await;
            }
            Some(Act::Response(bytes)) => self.send(bytes, Headers::none()).await,
            Some(Act::ObeyAndAnswer(bytes)) => {
                self.carry_out().await;
                self.send(bytes, Headers::none()).await;
            }
            Some(Act::Fail { message, known }) => {
                if known {
                    self.record(State::Error, &message);
                }
                self.answer(Some(self.status(State::Error, &message))).await;
            }
            Some(Act::Starting(takes)) => {
                if self.claim().is_err() {
                    return self.ordinary(true).await;
                }
                self.answer(Some(self.status(State::Starting, "pulling the image")))
                    .await;
                tokio::time::sleep(takes).await;
                self.ran();
            }
        }
    }

    async fn ordinary(&self, answered: bool) {
        let reply = self.carry_out().await;
        if answered {
            self.answer(reply).await;
        }
    }

    /// Does what is asked; `None` when hosts of this look answer nothing.
    async fn carry_out(&self) -> Option<Reply> {
        let message = match self.came.command.as_str() {
            "workload.start" => "WorkloadStartRequest",
            "workload.stop" => "WorkloadStopRequest",
            "workload.status" => "WorkloadStatusRequest",
            "heartbeat" => {
                let book = self.inner.book();
                let body = book.heartbeat();
                return Some(Reply { body, code: None });
            }
            _ => return self.refuse(404, "there is no such command"),
        };
        let is_start = message == "WorkloadStartRequest";
        let unreadable = match self.look() {
            // Every field that it does not know is an error to it.
            HostFlavor::Wash => !json_judge::judge(&self.came.payload, message).is_empty(),
            HostFlavor::Berth => self.came.json.is_none(),
        };
        let workload = self
            .came
            .json
            .as_ref()
            .and_then(|json| json.get("workload"));
        if unreadable || (is_start && (self.came.id.is_empty() || workload.is_none())) {
            return self.refuse(400, "the request cannot be read");
        }
        match message {
            "WorkloadStartRequest" => self.start().await,
            "WorkloadStopRequest" => Some(self.stop()),
            _ => Some(self.ask()),
        }
    }

    /// An answer with a code, or none: the older kind only writes a line into its log.
    fn refuse(&self, code: u16, message: &str) -> Option<Reply> {
        let reply = self.status(State::Error, message);
        (self.look() == HostFlavor::Berth).then_some(Reply {
            code: Some(code),
            ..reply
        })
    }

    async fn start(&self) -> Option<Reply> {
        let takes = self.inner.book().plan.start_takes;
        if self.look() == HostFlavor::Wash {
            // It pulls first, and looks at the id then.
            tokio::time::sleep(takes).await;
        }
        if let Err(known) = self.claim() {
            let code = (self.look() == HostFlavor::Berth).then_some(409);
            return Some(Reply { code, ..known });
        }
        if self.look() == HostFlavor::Berth {
            if takes > SAY_STARTING_AFTER {
                tokio::time::sleep(SAY_STARTING_AFTER).await;
                self.answer(Some(self.status(State::Starting, "pulling the image")))
                    .await;
                tokio::time::sleep(takes.saturating_sub(SAY_STARTING_AFTER)).await;
                self.ran();
                return None;
            }
            tokio::time::sleep(takes).await;
        }
        Some(match self.ran() {
            true => self.status(State::Running, "Workload started successfully"),
            false => self.status(State::Stopping, "stopped while it started"),
        })
    }

    /// Enters the id, or says that it is known.
    fn claim(&self) -> Result<(), Reply> {
        let mut book = self.inner.book();
        if book.workloads.contains_key(&self.came.id) {
            drop(book);
            let message = format!("Workload ID [{}] already exists", self.came.id);
            return Err(self.status(State::Error, &message));
        }
        let workload = Workload {
            state: State::Starting,
            message: "starting".to_owned(),
            request: self.came.json.clone().unwrap_or_default(),
        };
        book.workloads.insert(self.came.id.clone(), workload);
        Ok(())
    }

    /// The workload runs now, unless it was stopped meanwhile.
    fn ran(&self) -> bool {
        let mut book = self.inner.book();
        let workload = book.workloads.get_mut(&self.came.id);
        let Some(workload) = workload.filter(|workload| workload.state == State::Starting) else {
            return false;
        };
        workload.state = State::Running;
        workload.message = "Workload is Running".to_owned();
        drop(book);
        self.inner.note(EventKind::Ran(self.came.id.clone()));
        true
    }

    fn record(&self, state: State, message: &str) {
        let workload = Workload {
            state,
            message: message.to_owned(),
            request: self.came.json.clone().unwrap_or_default(),
        };
        let mut book = self.inner.book();
        book.workloads.insert(self.came.id.clone(), workload);
    }

    fn stop(&self) -> Reply {
        let removed = self.inner.book().workloads.remove(&self.came.id);
        match removed {
            None => self.status(State::NotFound, "Workload not found"),
            Some(workload) => {
                if workload.state == State::Running {
                    self.inner.note(EventKind::Ended(self.came.id.clone()));
                }
                self.status(State::Stopping, "Workload stopped successfully")
            }
        }
    }

    fn ask(&self) -> Reply {
        let workload = self.inner.book().workloads.get(&self.came.id).cloned();
        match workload {
            None => self.status(State::NotFound, "Workload not found"),
            Some(workload) => self.status(workload.state, &workload.message),
        }
    }

    fn status(&self, state: State, message: &str) -> Reply {
        let body = json!({ "workloadStatus": {
            "workloadId": self.came.id,
            "workloadState": format!("WORKLOAD_STATE_{state}"),
            "message": message,
        } });
        Reply { body, code: None }
    }

    async fn answer(&self, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let text = reply.body.pointer("/workloadStatus/message");
        let headers = match reply.code {
            None => Headers::none(),
            Some(code) => Headers::none()
                .with(ERROR_CODE_HEADER, &code.to_string())
                .with(
                    ERROR_HEADER,
                    text.and_then(Value::as_str).unwrap_or_default(),
                ),
        };
        self.send(reply.body.to_string().into(), headers).await;
    }

    async fn send(&self, payload: Bytes, headers: Headers) {
        let Some(inbox) = &self.came.reply else {
            return;
        };
        self.inner
            .note(EventKind::Answered(inbox.clone(), payload.clone()));
        // Whoever asked is told by the broker when the connection is gone.
        let _ = self.link.publish(inbox, payload, &headers).await;
    }

    fn look(&self) -> HostFlavor {
        self.inner.book().plan.look
    }
}
