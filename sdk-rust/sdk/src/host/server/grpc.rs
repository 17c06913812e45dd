//! Serving a host over gRPC.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::{WorkloadStartRequest, WorkloadStatusRequest, WorkloadStopRequest};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tasks;
use super::commands::Commands;
use super::heartbeat::HeartbeatPublisher;
use super::request::Request;
use crate::grpc::{Channel, CommandHandler, HostEndpoints, serve_commands};
use crate::host::{Host, ServeOptions};
use crate::reply::Status;

/// Delay before a failed heartbeat is retried. A scheduler that comes back gets a heartbeat within
/// 10 s, as over the bus (HOST-RESIL-001).
const RETRY_DELAY: Duration = Duration::from_secs(3);

/// Timeout of a heartbeat; after that it is stale.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gRPC server of a host, and the schedulers that receive its heartbeats.
pub(super) struct GrpcServer {
    close: CancellationToken,
    serving: TaskTracker,
    /// URL of the listener at the host name from the description.
    url: Option<String>,
    schedulers: Vec<Channel>,
}

impl GrpcServer {
    /// Starts serving commands.
    pub fn open<H: Host>(
        endpoints: HostEndpoints,
        options: &ServeOptions,
        commands: Arc<Commands<H>>,
        heartbeats: &HeartbeatPublisher<H>,
        tasks: &Tasks,
    ) -> Self {
        let (close, serving) = (CancellationToken::new(), TaskTracker::new());
        let listener = endpoints.listener;
        let url = listener.as_ref().map(|at| at.url(heartbeats.hostname()));
        if let Some(listener) = listener {
            let host_id = options.host_id.clone();
            let end = tasks.end.clone();
            let served = serve_commands(listener, host_id, commands, close.clone(), end);
            serving.spawn(tasks.cancellable(served));
        }
        serving.close();
        Self {
            close,
            serving,
            url,
            schedulers: endpoints.schedulers,
        }
    }

    /// Sends a heartbeat to each scheduler immediately and then at each interval, until `stop`.
    pub fn send_heartbeats<H: Host>(
        &self,
        heartbeats: &Arc<HeartbeatPublisher<H>>,
        interval: Duration,
        stop: &CancellationToken,
        tasks: &Tasks,
        senders: &mut JoinSet<()>,
    ) {
        for scheduler in &self.schedulers {
            let (scheduler, heartbeats) = (scheduler.clone(), heartbeats.clone());
            let sending = send_heartbeats(scheduler, heartbeats, self.url.clone(), interval);
            let stop = stop.clone();
            senders.spawn(tasks.cancellable(async move {
                stop.run_until_cancelled_owned(sending).await;
            }));
        }
    }

    /// Stops accepting calls.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// Waits until every call in flight has its response.
    pub async fn wait_for_responses(&self) {
        self.serving.wait().await;
    }
}

async fn send_heartbeats<H: Host>(
    scheduler: Channel,
    heartbeats: Arc<HeartbeatPublisher<H>>,
    url: Option<String>,
    interval: Duration,
) {
    let mut reachable = true;
    loop {
        let pause = match heartbeats.heartbeat() {
            None => interval,
            Some(heartbeat) => {
                let sent = scheduler.send_heartbeat(heartbeat, url.as_deref(), HEARTBEAT_TIMEOUT);
                match sent.await {
                    Ok(()) => {
                        reachable = true;
                        interval
                    }
                    Err(error) => {
                        // Logged once, not at each attempt.
                        if std::mem::replace(&mut reachable, false) {
                            let scheduler = scheduler.url();
                            tracing::warn!(%error, scheduler, "cannot send heartbeat");
                        }
                        interval.min(RETRY_DELAY)
                    }
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl<H: Host> CommandHandler for Commands<H> {
    fn start(&self, request: WorkloadStartRequest) -> BoxFuture<'static, Option<Status>> {
        self.accept(Request::start(request)).outcome().boxed()
    }

    fn stop(&self, request: WorkloadStopRequest) -> BoxFuture<'static, Option<Status>> {
        self.accept(Request::stop(request)).outcome().boxed()
    }

    fn status(&self, request: WorkloadStatusRequest) -> BoxFuture<'static, Option<Status>> {
        self.accept(Request::status(request)).outcome().boxed()
    }
}
