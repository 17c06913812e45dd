//! The shell around the lifecycle: receives commands, publishes heartbeats, shuts down.

mod commands;
mod discovery;
mod executor;
#[cfg(feature = "grpc")]
mod grpc;
mod heartbeat;
mod nats;
mod request;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::commands::Commands;
use self::executor::Executor;
#[cfg(feature = "grpc")]
use self::grpc::GrpcServer;
use self::heartbeat::HeartbeatPublisher;
use self::nats::NatsResponder;
use super::{Connection, Host, ServeError, ServeOptions};

/// Serves the host until `shutdown` is cancelled.
pub(super) async fn run<H: Host>(
    connection: Connection,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let host = Arc::new(host);
    let tasks = Tasks::default();
    // When this future is dropped, all its tasks end.
    let _end_tasks = tasks.end.clone().drop_guard();
    let executor = Executor::new(host.clone(), tasks.clone());
    let bus = connection.bus().await?;
    let heartbeats = HeartbeatPublisher::new(host, executor.clone(), &options, bus.is_some())?;
    let heartbeats = Arc::new(heartbeats);
    let commands = Arc::new(Commands::new(executor.clone()));
    let nats = match bus {
        None => None,
        Some(bus) => Some(
            NatsResponder::open(
                bus,
                &options.host_id,
                commands.clone(),
                heartbeats.clone(),
                tasks.clone(),
            )
            .await?,
        ),
    };
    let server = Server {
        nats,
        #[cfg(feature = "grpc")]
        grpc: GrpcServer::open(connection.grpc, &options, commands, &heartbeats, &tasks),
        heartbeats,
        executor,
        tasks,
    };
    server.tasks.spawn(server.executor.clone().run_ticks());
    server.serve(options, shutdown).await
}

/// The tasks of one call of [`run`], which end with it.
#[derive(Clone, Debug, Default)]
struct Tasks {
    end: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.cancellable(task));
    }

    /// Returns the same task, cancelled when all tasks end.
    fn cancellable(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let end = self.end.clone();
        async move {
            end.run_until_cancelled_owned(task).await;
        }
    }
}

struct Server<H: Host> {
    nats: Option<NatsResponder<H>>,
    #[cfg(feature = "grpc")]
    grpc: GrpcServer,
    heartbeats: Arc<HeartbeatPublisher<H>>,
    executor: Arc<Executor<H>>,
    tasks: Tasks,
}

impl<H: Host> Server<H> {
    async fn serve(
        mut self,
        options: ServeOptions,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let stop_heartbeats = CancellationToken::new();
        let publishers = self.publish_heartbeats(options.heartbeat_interval, &stop_heartbeats);
        let closed = tokio::select! {
            () = shutdown.cancelled() => false,
            () = serve_until_closed(&mut self.nats) => true,
        };
        // No heartbeat may follow the end of the subscription (HOST-DOWN-004).
        stop_heartbeats.cancel();
        publishers.join_all().await;
        self.shut_down(options).await;
        if closed {
            Err(ServeError::Closed)
        } else {
            Ok(())
        }
    }

    /// Starts publishing heartbeats over each transport, until `stop`.
    fn publish_heartbeats(&self, interval: Duration, stop: &CancellationToken) -> JoinSet<()> {
        let mut publishers = JoinSet::new();
        if let Some(nats) = &self.nats {
            let (heartbeats, bus) = (self.heartbeats.clone(), nats.bus());
            let until = stop.clone();
            publishers.spawn(
                self.tasks
                    .cancellable(async move { heartbeats.run(&bus, interval, until).await }),
            );
            let discovery = discovery::run(nats.bus(), self.heartbeats.clone(), stop.clone());
            publishers.spawn(self.tasks.cancellable(discovery));
        }
        #[cfg(feature = "grpc")]
        self.grpc.send_heartbeats(
            &self.heartbeats,
            interval,
            stop,
            &self.tasks,
            &mut publishers,
        );
        publishers
    }

    /// Stops receiving commands first, so that callers get "no responders" immediately, then lets
    /// the host finish its requests, then stops the workloads.
    async fn shut_down(mut self, options: ServeOptions) {
        tracing::info!(host_id = %options.host_id, "shutting down");
        let grace = options.shutdown_grace;
        let end_at = Instant::now() + grace;
        #[cfg(feature = "grpc")]
        self.grpc.close();
        if let Some(nats) = &mut self.nats {
            nats.unsubscribe().await;
        }
        let executor = self.executor.clone();
        let drained = timeout_at(end_at - stop_reserve(grace), executor.drain());
        let received = async {
            if let Some(nats) = &mut self.nats {
                nats.receive_remaining().await;
            }
        };
        let _ = tokio::join!(drained, received);
        self.executor.shut_down();
        let done = async {
            if let Some(nats) = &self.nats {
                nats.wait_for_replies().await;
            }
            #[cfg(feature = "grpc")]
            self.grpc.wait_for_responses().await;
            self.executor.wait_until_idle().await;
        };
        if timeout_at(end_at, done).await.is_err() {
            tracing::warn!(?grace, "shutdown exceeded the grace period");
        }
        if let Some(nats) = &self.nats {
            nats.flush().await;
        }
    }
}

/// Returns the end of the grace period that is kept for stopping the workloads: a second is enough
/// for guests that never yield, and a short grace period leaves most of its time to requests.
fn stop_reserve(grace: Duration) -> Duration {
    Duration::from_secs(1).min(grace / 4)
}

/// Receives commands from the bus until its connection is closed for good. Pends forever without a
/// bus.
async fn serve_until_closed<H: Host>(nats: &mut Option<NatsResponder<H>>) {
    match nats {
        Some(nats) => nats.serve().await,
        None => std::future::pending().await,
    }
}
