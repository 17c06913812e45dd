//! The way in over NATS: one subscription, and a reply to each request that asks for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Tasks;
use super::beat::Heart;
use super::commands::{Commands, Taken};
use super::request::Asked;
use crate::bus::{Bus, Delivery, Subscription};
use crate::host::{Host, ServeError};
use crate::subject;

/// How long a reply may wait to be handed to the connection; its caller has given up by then.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// How long the broker may take to see the end of the subscription, inside the 1 s of HOST-DOWN-001
/// when it is there at all.
const UNSUBSCRIBE_PATIENCE: Duration = Duration::from_secs(1);

/// The commands of one host, as they arrive on the bus.
pub(super) struct Nats<H: Host> {
    subscription: Subscription,
    desk: Arc<Desk<H>>,
}

impl<H: Host> Nats<H> {
    /// Subscribes to the commands of this host.
    pub async fn open(
        bus: Bus,
        host_id: &str,
        commands: Arc<Commands<H>>,
        heart: Arc<Heart<H>>,
        tasks: Tasks,
    ) -> Result<Self, ServeError> {
        let subscription = bus
            .subscribe(subject::commands_of(host_id))
            .await
            .map_err(ServeError::Bus)?;
        let desk = Arc::new(Desk {
            bus,
            host_id: host_id.to_owned(),
            commands,
            heart,
            requests: TaskTracker::new(),
            tasks,
        });
        Ok(Self { subscription, desk })
    }

    pub fn bus(&self) -> Bus {
        self.desk.bus.clone()
    }

    /// Takes in what arrives, until the connection is closed for good. Cancel safe.
    pub async fn serve(&mut self) {
        while let Some(delivery) = self.subscription.next().await {
            self.desk.clone().receive(delivery);
        }
    }

    /// From here on callers learn that nobody listens.
    pub async fn unsubscribe(&mut self) {
        let unsubscribed = async {
            self.subscription.drain().await;
            self.flush().await;
        };
        let _ = timeout(UNSUBSCRIBE_PATIENCE, unsubscribed).await;
    }

    /// Takes in what had arrived before [`Nats::unsubscribe`], and nothing more.
    pub async fn receive_the_rest(&mut self) {
        let _ = timeout(UNSUBSCRIBE_PATIENCE, self.serve()).await;
        self.desk.requests.close();
    }

    /// Waits until every reply has been handed to the connection.
    pub async fn answered(&self) {
        self.desk.requests.wait().await;
    }

    /// Waits until what was handed to the connection is on its way.
    pub async fn flush(&self) {
        let _ = self.desk.bus.flush(UNSUBSCRIBE_PATIENCE).await;
    }
}

/// Where requests are taken and replies given out.
struct Desk<H: Host> {
    bus: Bus,
    host_id: String,
    commands: Arc<Commands<H>>,
    heart: Arc<Heart<H>>,
    requests: TaskTracker,
    tasks: Tasks,
}

impl<H: Host> Desk<H> {
    /// Takes a request in, in the order of arrival. Only the waiting for the outcome and the reply get a
    /// task of their own.
    fn receive(self: Arc<Self>, delivery: Delivery) {
        let asked = match Asked::read(&self.host_id, &delivery) {
            Asked::Heartbeat => None,
            Asked::Command(request) => Some(self.commands.take(request)),
        };
        let (requests, tasks) = (self.requests.clone(), self.tasks.clone());
        requests.spawn(tasks.ending(async move {
            match asked {
                Some(taken) => self.answer(delivery.reply, taken).await,
                None => self.answer_heartbeat(delivery.reply).await,
            }
        }));
    }

    async fn answer(&self, reply: Option<String>, taken: Taken) {
        let outcome = taken.outcome().await;
        let (Some(status), Some(to)) = (outcome, reply) else {
            return;
        };
        match status.to_json(self.bus.max_payload_bytes()) {
            Some(body) => self.reply(to, body, status.service_error()).await,
            None => tracing::error!("the broker takes no message as long as this reply must be"),
        }
    }

    async fn answer_heartbeat(&self, reply: Option<String>) {
        if let (Some(body), Some(to)) = (self.heart.message(), reply) {
            self.reply(to, body, None).await;
        }
    }

    async fn reply(&self, to: String, body: Vec<u8>, error: Option<(u16, String)>) {
        // A caller could have us command another host in our name (HOST-WIRE-015).
        if subject::is_of_the_protocol(&to) {
            tracing::warn!(subject = %to, "no reply is sent to a subject of the protocol itself");
            return;
        }
        match timeout(REPLY_PATIENCE, self.bus.publish(to, body, error)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a reply could not be sent"),
            Err(_) => tracing::warn!("a reply waited too long for the broker and is dropped"),
        }
    }
}
