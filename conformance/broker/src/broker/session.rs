//! The state of one client, and the effect of its operations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::handshake::{self, ClientOptions, ConnectError};
use super::router::{Client, PublishScratch, Router, Subscription};
use crate::Auth;
use crate::frame::{ClientOp, FrameError, Headers, Message, Publish, ServerOp, Text};
use crate::subject;

/// Executes the operations of one client.
#[derive(Debug)]
pub(super) struct Session {
    router: Arc<Router>,
    client: Arc<Client>,
    options: ClientOptions,
    /// The client has presented valid credentials, or needs none.
    authenticated: bool,
    /// The client has sent an operation.
    has_sent: bool,
    /// Unanswered pings; shared with the task that sends them.
    pings_out: Arc<AtomicU64>,
    /// Subscriptions by id. Exhausted ones, which have reached their maximum number of messages,
    /// remain in the map until the next sweep.
    subscriptions: HashMap<Text, Arc<Subscription>>,
    /// Number of subscriptions that triggers a sweep.
    sweep_at: usize,
    scratch: PublishScratch,
}

/// Smallest number of subscriptions that triggers a sweep. Later sweeps follow at twice the
/// remaining number, so that the cost of sweeping is constant per subscription.
const SWEEP_AT_MIN: usize = 1024;

/// An error that closes the connection: the text of its `-ERR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FatalError(pub(super) &'static str);

impl Session {
    pub(super) fn new(router: Arc<Router>, client: Arc<Client>, pings_out: Arc<AtomicU64>) -> Self {
        Self {
            authenticated: matches!(router.options.auth, Auth::None),
            has_sent: false,
            options: ClientOptions::default(),
            scratch: PublishScratch::new(client.id.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            subscriptions: HashMap::new(),
            sweep_at: SWEEP_AT_MIN,
            router,
            client,
            pings_out,
        }
    }

    /// Executes one operation.
    pub(super) fn handle(&mut self, op: ClientOp) -> Result<(), FatalError> {
        self.has_sent = true;
        if let ClientOp::Connect(json) = op {
            return self.connect(&json);
        }
        if !self.authenticated {
            return Err(FatalError("Authorization Violation"));
        }
        match op {
            ClientOp::Publish(publish) => self.publish(&publish),
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            } => {
                self.subscribe(&subject, queue.as_ref(), &sid);
                Ok(())
            }
            ClientOp::Unsubscribe { sid, max } => {
                self.unsubscribe(&sid, max);
                Ok(())
            }
            ClientOp::Ping => {
                self.send(&ServerOp::Pong);
                Ok(())
            }
            ClientOp::Pong => {
                self.pings_out.store(0, Ordering::Relaxed);
                Ok(())
            }
            ClientOp::Connect(_) => Ok(()),
        }
    }

    /// Returns whether the client has sent an operation, and has presented valid credentials or
    /// needs none.
    pub(super) fn is_established(&self) -> bool {
        self.authenticated && self.has_sent
    }

    /// Takes the clients to flush after a batch of operations.
    pub(super) fn take_to_flush(&mut self) -> impl Iterator<Item = Arc<Client>> {
        self.scratch.take_to_flush()
    }

    /// Removes all subscriptions, so that no further message is sent to the client.
    pub(super) fn unsubscribe_all(&mut self) {
        self.router.unsubscribe(self.subscriptions.values());
        self.subscriptions.clear();
    }

    /// Sends an operation to the client itself, after its pending data.
    pub(super) fn send(&mut self, op: &ServerOp) {
        self.router
            .send(&self.client, &mut self.scratch, |output| op.encode(output));
    }

    fn connect(&mut self, json: &Bytes) -> Result<(), FatalError> {
        match handshake::connect(json, &self.router.options.auth) {
            Ok(options) => {
                self.client
                    .headers
                    .store(options.headers, Ordering::Relaxed);
                self.options = options;
                self.authenticated = true;
                self.acknowledge();
                Ok(())
            }
            Err(ConnectError::Unauthorized) => Err(FatalError("Authorization Violation")),
            Err(ConnectError::Malformed) => Err(FatalError("Unknown Protocol Operation")),
            Err(ConnectError::HeadersRequired) => {
                Err(FatalError("no responders requires headers support"))
            }
        }
    }

    fn publish(&mut self, publish: &Publish) -> Result<(), FatalError> {
        if publish.headers.is_some() && !self.options.headers {
            return Err(FatalError("message headers not supported"));
        }
        if self.options.pedantic && !subject::is_valid_literal(publish.subject.as_bytes()) {
            self.send_error("Invalid Publish Subject");
        }
        self.acknowledge();
        let excluded = (!self.options.echo).then_some(self.client.id);
        let delivered = self.router.publish(publish, excluded, &mut self.scratch);
        if let (0, true, Some(reply)) = (delivered, self.options.no_responders, &publish.reply) {
            self.report_no_responders(&publish.subject, reply);
        }
        Ok(())
    }

    fn report_no_responders(&mut self, subject: &Text, reply: &Text) {
        let Some(subscription) = self.router.reply_subscription(&self.client, reply) else {
            return;
        };
        let headers = Headers {
            status: Some(503),
            ..Headers::default()
        };
        let status = ServerOp::Message(Message {
            subject: reply.clone(),
            sid: subscription.sid.clone(),
            headers: Some(headers.with("Nats-Subject", subject).to_bytes()),
            ..Message::default()
        });
        self.send(&status);
    }

    fn subscribe(&mut self, subject: &Text, queue: Option<&Text>, sid: &Text) {
        if !subject::is_valid_pattern(subject.as_bytes()) {
            return self.send_error("Invalid Subject");
        }
        self.sweep();
        if self.subscriptions.len() >= self.router.options.max_subscriptions {
            return self.send_error("maximum subscriptions exceeded");
        }
        if self
            .subscriptions
            .get(sid)
            .is_none_or(|subscription| subscription.is_exhausted())
        {
            let subscription = Arc::new(Subscription {
                client: self.client.clone(),
                // Copied: parsed text shares its memory with everything that was read along with
                // it.
                subject: Text::from(subject.as_str()),
                queue: queue.map(|queue| Text::from(queue.as_str())),
                sid: Text::from(sid.as_str()),
                delivered: AtomicU64::new(0),
                max: AtomicU64::new(Subscription::UNLIMITED),
            });
            self.router.subscribe(&subscription);
            self.subscriptions
                .insert(subscription.sid.clone(), subscription);
        }
        self.acknowledge();
    }

    fn unsubscribe(&mut self, sid: &Text, max: Option<u64>) {
        if let Some(subscription) = self.subscriptions.get(sid) {
            let max = max.unwrap_or(0);
            subscription.max.store(max, Ordering::Release);
            if subscription.is_exhausted() {
                self.router.unsubscribe([subscription]);
                self.subscriptions.remove(sid);
            }
        }
        self.acknowledge();
    }

    fn sweep(&mut self) {
        if self.subscriptions.len() < self.sweep_at.min(self.router.options.max_subscriptions) {
            return;
        }
        self.subscriptions
            .retain(|_, subscription| !subscription.is_exhausted());
        self.sweep_at = SWEEP_AT_MIN.max(self.subscriptions.len().saturating_mul(2));
    }

    fn acknowledge(&mut self) {
        if self.options.verbose {
            self.send(&ServerOp::Ok);
        }
    }

    fn send_error(&mut self, error: &'static str) {
        self.send(&ServerOp::Error(Text::from_static(error)));
    }
}

impl From<FrameError> for FatalError {
    fn from(error: FrameError) -> Self {
        Self(match error {
            FrameError::PayloadTooLarge { .. } => "Maximum Payload Violation",
            FrameError::LineTooLong { .. } => "Maximum Control Line Exceeded",
            _ => "Unknown Protocol Operation",
        })
    }
}
