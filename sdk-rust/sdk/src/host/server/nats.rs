//! Serving a host over NATS: one subscription for commands, and a reply to each request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Tasks;
use super::commands::{AcceptedCommand, Commands};
use super::heartbeat::HeartbeatPublisher;
use super::request::IncomingRequest;
use crate::bus::{Bus, Delivery, Subscription};
use crate::host::{Host, ServeError};
use crate::subject;

/// Time that a reply may wait for the connection: 60 s, because by then its caller has timed out.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of replies that wait to be sent, besides those to starts and stops, which have
/// bounds of their own. They wait only while the broker accepts no data; the excess is dropped.
const MAX_REPLIES: usize = 16_384;

/// Time for the broker to process the end of the subscription, within the 1 s of HOST-DOWN-001 if
/// it is reachable.
const UNSUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The NATS side of one host.
pub(super) struct NatsResponder<H: Host> {
    subscription: Subscription,
    handler: Arc<RequestHandler<H>>,
}

impl<H: Host> NatsResponder<H> {
    /// Subscribes to the commands of this host.
    pub async fn open(
        bus: Bus,
        host_id: &str,
        commands: Arc<Commands<H>>,
        heartbeats: Arc<HeartbeatPublisher<H>>,
        tasks: Tasks,
    ) -> Result<Self, ServeError> {
        let subscription = bus
            .subscribe(subject::commands_of(host_id))
            .await
            .map_err(ServeError::Subscribe)?;
        let handler = Arc::new(RequestHandler {
            bus,
            host_id: host_id.to_owned(),
            commands,
            heartbeats,
            requests: TaskTracker::new(),
            replies: Arc::new(Semaphore::new(MAX_REPLIES)),
            tasks,
        });
        Ok(Self {
            subscription,
            handler,
        })
    }

    pub fn bus(&self) -> Bus {
        self.handler.bus.clone()
    }

    /// Receives requests until the connection is closed for good. Cancel safe.
    pub async fn serve(&mut self) {
        while let Some(delivery) = self.subscription.next().await {
            self.handler.clone().receive(delivery);
        }
    }

    /// Unsubscribes, so that callers get "no responders" from now on.
    pub async fn unsubscribe(&mut self) {
        let unsubscribed = async {
            self.subscription.drain().await;
            self.flush().await;
        };
        let _ = timeout(UNSUBSCRIBE_TIMEOUT, unsubscribed).await;
    }

    /// Receives the requests that arrived before [`NatsResponder::unsubscribe`].
    pub async fn receive_remaining(&mut self) {
        let _ = timeout(UNSUBSCRIBE_TIMEOUT, self.serve()).await;
        self.handler.requests.close();
    }

    /// Waits until every reply is queued for sending.
    pub async fn wait_for_replies(&self) {
        self.handler.requests.wait().await;
    }

    /// Waits until all queued messages are sent.
    pub async fn flush(&self) {
        let _ = self.handler.bus.flush(UNSUBSCRIBE_TIMEOUT).await;
    }
}

/// Handles requests and sends their replies.
struct RequestHandler<H: Host> {
    bus: Bus,
    host_id: String,
    commands: Arc<Commands<H>>,
    heartbeats: Arc<HeartbeatPublisher<H>>,
    requests: TaskTracker,
    /// Permits for replies that are available immediately.
    replies: Arc<Semaphore>,
    tasks: Tasks,
}

impl<H: Host> RequestHandler<H> {
    /// Accepts a request, in the order of arrival. Only waiting for the outcome and replying run in
    /// a task of their own.
    fn receive(self: Arc<Self>, delivery: Delivery) {
        let accepted = match IncomingRequest::read(&self.host_id, &delivery) {
            IncomingRequest::Heartbeat => None,
            IncomingRequest::Command(request) => Some(self.commands.accept(request)),
        };
        let mut permit = None;
        if !accepted.as_ref().is_some_and(AcceptedCommand::is_bounded) {
            permit = self.replies.clone().try_acquire_owned().ok();
            if permit.is_none() {
                return tracing::debug!("reply dropped: {MAX_REPLIES} others wait for the broker");
            }
        }
        let (requests, tasks) = (self.requests.clone(), self.tasks.clone());
        requests.spawn(tasks.cancellable(async move {
            match accepted {
                Some(command) => self.reply_with_outcome(delivery.reply_to, command).await,
                None => self.reply_with_heartbeat(delivery.reply_to).await,
            }
            drop(permit);
        }));
    }

    async fn reply_with_outcome(&self, reply_to: Option<String>, command: AcceptedCommand) {
        let outcome = command.outcome().await;
        let (Some(status), Some(subject)) = (outcome, reply_to) else {
            return;
        };
        match status.to_json(self.bus.max_payload_bytes()) {
            Some(body) => self.reply(subject, body, status.service_error()).await,
            None => tracing::error!("cannot reply: the broker does not accept a message this long"),
        }
    }

    async fn reply_with_heartbeat(&self, reply_to: Option<String>) {
        if let (Some(body), Some(subject)) = (self.heartbeats.message(), reply_to) {
            self.reply(subject, body, None).await;
        }
    }

    async fn reply(&self, subject: String, body: Vec<u8>, error: Option<(u16, String)>) {
        // A reply to a reserved subject could be a command to another host (HOST-WIRE-015).
        if subject::is_reserved(&subject) {
            tracing::warn!(
                subject,
                "reply dropped: its subject belongs to the protocol"
            );
            return;
        }
        match timeout(REPLY_TIMEOUT, self.bus.publish(subject, body, error)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot publish reply"),
            Err(_) => tracing::warn!("reply dropped: timed out waiting for the broker"),
        }
    }
}
