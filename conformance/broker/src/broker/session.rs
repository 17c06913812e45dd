//! What one client's operations do, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::greeting::{self, Refused, Wishes};
use super::hub::{Client, Hub, Scratch, Subscription};
use crate::Auth;
use crate::frame::{ClientOp, FrameError, Headers, Message, Publish, ServerOp, Text};
use crate::subject;

/// One client's side of the conversation.
#[derive(Debug)]
pub(super) struct Session {
    hub: Arc<Hub>,
    client: Arc<Client>,
    wishes: Wishes,
    /// Has shown what it must show.
    let_in: bool,
    /// Pings of the broker's that were not answered; shared with whoever sends them.
    pings_out: Arc<AtomicU64>,
    /// Those that used up their messages stay here until the next sweep.
    subscriptions: HashMap<Text, Arc<Subscription>>,
    /// As many subscriptions start a sweep.
    sweep_at: usize,
    scratch: Scratch,
}

/// Sweeps come at this many subscriptions at the earliest, and then at every doubling, so that each
/// subscription costs a constant amount of sweeping.
const SWEEP_AT_MIN: usize = 1024;

/// Why a conversation ends: the text of the `-ERR` that closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell(pub(super) &'static str);

impl Session {
    pub(super) fn new(hub: Arc<Hub>, client: Arc<Client>, pings_out: Arc<AtomicU64>) -> Self {
        Self {
            let_in: matches!(hub.options.auth, Auth::None),
            wishes: Wishes::default(),
            scratch: Scratch::new(client.id.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            subscriptions: HashMap::new(),
            sweep_at: SWEEP_AT_MIN,
            hub,
            client,
            pings_out,
        }
    }

    /// Carries out one operation.
    pub(super) fn handle(&mut self, op: ClientOp) -> Result<(), Farewell> {
        if let ClientOp::Connect(json) = op {
            return self.connect(&json);
        }
        if !self.let_in {
            return Err(Farewell("Authorization Violation"));
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
                self.say(&ServerOp::Pong);
                Ok(())
            }
            ClientOp::Pong => {
                self.pings_out.store(0, Ordering::Relaxed);
                Ok(())
            }
            ClientOp::Connect(_) => Ok(()),
        }
    }

    /// Whether the client has shown what it must show.
    pub(super) fn is_let_in(&self) -> bool {
        self.let_in
    }

    /// The clients that must be flushed now that a batch of operations is done.
    pub(super) fn take_touched(&mut self) -> impl Iterator<Item = Arc<Client>> {
        self.scratch.take_touched()
    }

    /// Takes leave: no message reaches the client any more.
    pub(super) fn end(&mut self) {
        self.hub.unsubscribe(self.subscriptions.values());
        self.subscriptions.clear();
    }

    /// Says something to the client itself, behind what is already on its way.
    pub(super) fn say(&mut self, op: &ServerOp) {
        self.hub
            .send(&self.client, &mut self.scratch, |output| op.encode(output));
    }

    fn connect(&mut self, json: &Bytes) -> Result<(), Farewell> {
        match greeting::connect(json, &self.hub.options.auth) {
            Ok(wishes) => {
                self.client.headers.store(wishes.headers, Ordering::Relaxed);
                self.wishes = wishes;
                self.let_in = true;
                self.acknowledge();
                Ok(())
            }
            Err(Refused::Unauthorized) => Err(Farewell("Authorization Violation")),
            Err(Refused::Malformed) => Err(Farewell("Unknown Protocol Operation")),
            Err(Refused::NeedsHeaders) => Err(Farewell("no responders requires headers support")),
        }
    }

    fn publish(&mut self, publish: &Publish) -> Result<(), Farewell> {
        if publish.headers.is_some() && !self.wishes.headers {
            return Err(Farewell("message headers not supported"));
        }
        if self.wishes.pedantic && !subject::is_literal(publish.subject.as_bytes()) {
            self.complain("Invalid Publish Subject");
        }
        self.acknowledge();
        let skipped = (!self.wishes.echo).then_some(self.client.id);
        let delivered = self.hub.publish(publish, skipped, &mut self.scratch);
        if let (0, true, Some(reply)) = (delivered, self.wishes.no_responders, &publish.reply) {
            self.report_no_responders(&publish.subject, reply);
        }
        Ok(())
    }

    fn report_no_responders(&mut self, subject: &Text, reply: &Text) {
        let Some(subscription) = self.hub.reply_subscription(&self.client, reply) else {
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
        self.say(&status);
    }

    fn subscribe(&mut self, subject: &Text, queue: Option<&Text>, sid: &Text) {
        if !subject::is_pattern(subject.as_bytes()) {
            return self.complain("Invalid Subject");
        }
        self.sweep();
        if self.subscriptions.len() >= self.hub.options.max_subscriptions {
            return self.complain("maximum subscriptions exceeded");
        }
        if self
            .subscriptions
            .get(sid)
            .is_none_or(|known| known.is_used_up())
        {
            let subscription = Arc::new(Subscription {
                client: self.client.clone(),
                // Copies: what was read shares its memory with everything read along with it.
                subject: Text::from(subject.as_str()),
                queue: queue.map(|queue| Text::from(queue.as_str())),
                sid: Text::from(sid.as_str()),
                delivered: AtomicU64::new(0),
                max: AtomicU64::new(Subscription::UNLIMITED),
            });
            self.hub.subscribe(&subscription);
            self.subscriptions
                .insert(subscription.sid.clone(), subscription);
        }
        self.acknowledge();
    }

    fn unsubscribe(&mut self, sid: &Text, max: Option<u64>) {
        if let Some(subscription) = self.subscriptions.get(sid) {
            let max = max.unwrap_or(0);
            subscription.max.store(max, Ordering::Release);
            if subscription.is_used_up() {
                self.hub.unsubscribe([subscription]);
                self.subscriptions.remove(sid);
            }
        }
        self.acknowledge();
    }

    fn sweep(&mut self) {
        if self.subscriptions.len() < self.sweep_at.min(self.hub.options.max_subscriptions) {
            return;
        }
        self.subscriptions
            .retain(|_, subscription| !subscription.is_used_up());
        self.sweep_at = SWEEP_AT_MIN.max(self.subscriptions.len().saturating_mul(2));
    }

    fn acknowledge(&mut self) {
        if self.wishes.verbose {
            self.say(&ServerOp::Ok);
        }
    }

    fn complain(&mut self, error: &'static str) {
        self.say(&ServerOp::Error(Text::from_static(error)));
    }
}

impl From<FrameError> for Farewell {
    fn from(error: FrameError) -> Self {
        Self(match error {
            FrameError::PayloadTooLarge { .. } => "Maximum Payload Violation",
            FrameError::LineTooLong { .. } => "Maximum Control Line Exceeded",
            _ => "Unknown Protocol Operation",
        })
    }
}
