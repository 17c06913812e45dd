//! The shell around the table of ids: subscribes, hands requests in, carries actions out, shuts down.

mod beat;
mod request;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::beat::Heart;
use self::request::Request;
use self::runs::Runs;
use super::{Host, ServeError, ServeOptions};
use crate::bus::{Bus, Delivery, Subscription};
use crate::reply::{Code, Status};
use crate::subject;

/// Starts, stops and unknown commands that are worked on at once; more are answered with 503. Each
/// start waits for seconds at most, so this is far more than any scheduler keeps open.
const MAX_IN_FLIGHT: usize = 512;

/// How long a reply may wait to be handed to the connection; its caller has given up by then.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// How long the broker may take to see the end of the subscription, inside the 1 s of HOST-DOWN-001
/// when it is there at all.
const UNSUBSCRIBE_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until `shutdown`.
pub(super) async fn run<H: Host>(
    bus: Bus,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let host = Arc::new(host);
    let tasks = Tasks::default();
    // When this future is dropped, so is everything that runs for it.
    let _end_with_me = tasks.closed.clone().drop_guard();
    let runs = Runs::new(host.clone(), tasks.clone());
    let heart = Heart::new(host, runs.clone(), &options)?;
    let commands = subject::commands_of(&options.host_id);
    let subscription = bus.subscribe(commands).await.map_err(ServeError::Bus)?;
    let server = Arc::new(Server {
        bus,
        host_id: options.host_id.clone(),
        runs,
        heart,
        room: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        requests: TaskTracker::new(),
        tasks,
    });
    server.tasks.spawn(server.runs.clone().tick());
    server.serve(subscription, options, shutdown).await
}

/// What belongs to one call of [`run`], and ends with it.
#[derive(Clone, Debug, Default)]
struct Tasks {
    closed: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        tokio::spawn(async move { closed.run_until_cancelled_owned(task).await });
    }
}

struct Server<H: Host> {
    bus: Bus,
    host_id: String,
    runs: Arc<Runs<H>>,
    heart: Heart<H>,
    room: Arc<Semaphore>,
    requests: TaskTracker,
    tasks: Tasks,
}

impl<H: Host> Server<H> {
    async fn serve(
        self: Arc<Self>,
        mut subscription: Subscription,
        options: ServeOptions,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let beating = CancellationToken::new();
        let beats = {
            let (server, beating) = (self.clone(), beating.clone());
            let interval = options.heartbeat_interval;
            async move { server.heart.beat(&server.bus, interval, beating).await }
        };
        let beats = tokio::spawn(self.tasks.closed.clone().run_until_cancelled_owned(beats));
        let closed = loop {
            tokio::select! {
                () = shutdown.cancelled() => break false,
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.clone().receive(delivery),
                    None => break true,
                },
            }
        };
        // No heartbeat may follow the end of the subscription (HOST-DOWN-004).
        beating.cancel();
        let _ = beats.await;
        self.shut_down(subscription, options.shutdown_grace).await;
        if closed {
            Err(ServeError::Closed)
        } else {
            Ok(())
        }
    }

    /// Unsubscribes first, so that callers learn at once that nobody is here.
    async fn shut_down(self: Arc<Self>, mut subscription: Subscription, grace: Duration) {
        tracing::info!(host_id = %self.host_id, "shutting down");
        let unsubscribed = async {
            subscription.drain().await;
            let _ = self.bus.flush(UNSUBSCRIBE_PATIENCE).await;
        };
        let _ = timeout(UNSUBSCRIBE_PATIENCE, unsubscribed).await;
        self.runs.shut_down();
        let received_before = async {
            while let Some(delivery) = subscription.next().await {
                self.clone().receive(delivery);
            }
        };
        let _ = timeout(UNSUBSCRIBE_PATIENCE, received_before).await;
        self.requests.close();
        let done = async {
            self.requests.wait().await;
            self.runs.idle().await;
        };
        if timeout(grace, done).await.is_err() {
            tracing::warn!(grace = ?grace, "not everything stopped within the grace period");
        }
        let _ = self.bus.flush(UNSUBSCRIBE_PATIENCE).await;
    }

    /// Takes a request in, in the order of arrival: a stop must not overtake the start before it. Only
    /// the waiting for the outcome and the reply get a task of their own. Status and heartbeat always
    /// have room: they wait for nobody.
    fn receive(self: Arc<Self>, delivery: Delivery) {
        let mut room = None;
        let request = match Request::read(&self.host_id, &delivery) {
            request @ (Request::Start { .. } | Request::Stop { .. }) => {
                match self.room.clone().try_acquire_owned() {
                    Ok(permit) => {
                        room = Some(permit);
                        request
                    }
                    Err(_) => Request::Refused(full(request)),
                }
            }
            request => request,
        };
        let outcome = match request {
            Request::Heartbeat => Outcome::Heartbeat,
            Request::Refused(status) => Outcome::Known(status),
            Request::Start { id, workload } => Outcome::Later(self.runs.start(id, *workload)),
            Request::Stop { id } => Outcome::Later(self.runs.stop(id)),
            Request::Status { id } => Outcome::Later(self.runs.status(id)),
        };
        let (requests, closed) = (self.requests.clone(), self.tasks.closed.clone());
        let task = async move {
            self.answer(delivery.reply, outcome).await;
            drop(room);
        };
        requests.spawn(closed.run_until_cancelled_owned(task));
    }

    async fn answer(&self, reply: Option<String>, outcome: Outcome) {
        let status = match outcome {
            Outcome::Heartbeat => return self.answer_heartbeat(reply).await,
            Outcome::Known(status) => status,
            Outcome::Later(status) => match status.await {
                Ok(status) => status,
                Err(_) => return tracing::error!("a request was lost"),
            },
        };
        let Some(to) = reply else { return };
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

/// What a request comes to.
enum Outcome {
    Heartbeat,
    Known(Status),
    Later(oneshot::Receiver<Status>),
}

fn full(request: Request) -> Status {
    let message = format!("the host is working on {MAX_IN_FLIGHT} requests already");
    Status::refused(request.into_id(), Code::Unavailable, message)
}
