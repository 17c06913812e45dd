//! The way in and out over gRPC.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::{WorkloadStartRequest, WorkloadStatusRequest, WorkloadStopRequest};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tasks;
use super::beat::Heart;
use super::commands::Commands;
use super::request::Request;
use crate::grpc::{Channel, HostSide, Obey, serve_commands};
use crate::host::{Host, ServeOptions};
use crate::reply::Status;

/// How long to wait before a heartbeat that did not arrive is sent anew. A scheduler that comes back is
/// met within 10 s, as one on the bus is (HOST-RESIL-001).
const AGAIN: Duration = Duration::from_secs(3);

/// How long a scheduler may take to accept a heartbeat; a late one says nothing new.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is served, and the schedulers that are told of it.
pub(super) struct Grpc {
    close: CancellationToken,
    serving: TaskTracker,
    /// The port and scheme of the listener, as the URL of a host name.
    url: Option<String>,
    schedulers: Vec<Channel>,
}

impl Grpc {
    /// Serves the commands from now on.
    pub fn open<H: Host>(
        side: HostSide,
        options: &ServeOptions,
        commands: Arc<Commands<H>>,
        heart: &Heart<H>,
        tasks: &Tasks,
    ) -> Self {
        let (close, serving) = (CancellationToken::new(), TaskTracker::new());
        let url = side.listener.as_ref().map(|at| at.url(heart.hostname()));
        if let Some(listener) = side.listener {
            let host_id = options.host_id.clone();
            let end = tasks.closed.clone();
            let served = serve_commands(listener, host_id, commands, close.clone(), end);
            serving.spawn(tasks.ending(served));
        }
        serving.close();
        Self {
            close,
            serving,
            url,
            schedulers: side.schedulers,
        }
    }

    /// Beats to each scheduler at once and then at each interval, until `stop`.
    pub fn beat<H: Host>(
        &self,
        heart: &Arc<Heart<H>>,
        interval: Duration,
        stop: &CancellationToken,
        tasks: &Tasks,
        beats: &mut JoinSet<()>,
    ) {
        for scheduler in &self.schedulers {
            let beat = beat(scheduler.clone(), heart.clone(), self.url.clone(), interval);
            let stop = stop.clone();
            beats.spawn(tasks.ending(async move {
                stop.run_until_cancelled_owned(beat).await;
            }));
        }
    }

    /// From here on callers find nobody.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// Waits until every call has its answer.
    pub async fn answered(&self) {
        self.serving.wait().await;
    }
}

async fn beat<H: Host>(
    scheduler: Channel,
    heart: Arc<Heart<H>>,
    url: Option<String>,
    interval: Duration,
) {
    let mut heard = true;
    loop {
        let pause = match heart.now() {
            None => interval,
            Some(now) => match scheduler.beat(now, url.as_deref(), PATIENCE).await {
                Ok(()) => {
                    heard = true;
                    interval
                }
                Err(error) => {
                    // Said once, not at each attempt.
                    if std::mem::replace(&mut heard, false) {
                        tracing::warn!(%error, scheduler = scheduler.url(), "a heartbeat did not arrive");
                    }
                    interval.min(AGAIN)
                }
            },
        };
        tokio::time::sleep(pause).await;
    }
}

impl<H: Host> Obey for Commands<H> {
    fn start(&self, request: WorkloadStartRequest) -> BoxFuture<'static, Option<Status>> {
        self.take(Request::start(request)).outcome().boxed()
    }

    fn stop(&self, request: WorkloadStopRequest) -> BoxFuture<'static, Option<Status>> {
        self.take(Request::stop(request)).outcome().boxed()
    }

    fn status(&self, request: WorkloadStatusRequest) -> BoxFuture<'static, Option<Status>> {
        self.take(Request::status(request)).outcome().boxed()
    }
}
