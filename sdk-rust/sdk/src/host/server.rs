//! The shell around the table of ids: opens the ways in, takes commands in, beats, shuts down.

mod beat;
mod commands;
#[cfg(feature = "grpc")]
mod grpc;
mod nats;
mod request;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::beat::Heart;
use self::commands::Commands;
#[cfg(feature = "grpc")]
use self::grpc::Grpc;
use self::nats::Nats;
use self::runs::Runs;
use super::{Connection, Host, ServeError, ServeOptions};

/// Serves until `shutdown`.
pub(super) async fn run<H: Host>(
    connection: Connection,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let host = Arc::new(host);
    let tasks = Tasks::default();
    // When this future is dropped, so is everything that runs for it.
    let _end_with_me = tasks.closed.clone().drop_guard();
    let runs = Runs::new(host.clone(), tasks.clone());
    let heart = Arc::new(Heart::new(host, runs.clone(), &options)?);
    let commands = Arc::new(Commands::new(runs.clone()));
    let nats = match connection.bus().await? {
        None => None,
        Some(bus) => Some(
            Nats::open(
                bus,
                &options.host_id,
                commands.clone(),
                heart.clone(),
                tasks.clone(),
            )
            .await?,
        ),
    };
    let server = Server {
        nats,
        #[cfg(feature = "grpc")]
        grpc: Grpc::open(connection.grpc, &options, commands, &heart, &tasks),
        heart,
        runs,
        tasks,
    };
    server.tasks.spawn(server.runs.clone().tick());
    server.serve(options, shutdown).await
}

/// What belongs to one call of [`run`], and ends with it.
#[derive(Clone, Debug, Default)]
struct Tasks {
    closed: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.ending(task));
    }

    /// The same task, ended when everything else is.
    fn ending(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let closed = self.closed.clone();
        async move {
            closed.run_until_cancelled_owned(task).await;
        }
    }
}

struct Server<H: Host> {
    nats: Option<Nats<H>>,
    #[cfg(feature = "grpc")]
    grpc: Grpc,
    heart: Arc<Heart<H>>,
    runs: Arc<Runs<H>>,
    tasks: Tasks,
}

impl<H: Host> Server<H> {
    async fn serve(
        mut self,
        options: ServeOptions,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let beating = CancellationToken::new();
        let beats = self.beats(options.heartbeat_interval, &beating);
        let closed = tokio::select! {
            () = shutdown.cancelled() => false,
            () = closed(&mut self.nats) => true,
        };
        // No heartbeat may follow the end of the subscription (HOST-DOWN-004).
        beating.cancel();
        beats.join_all().await;
        self.shut_down(options).await;
        if closed {
            Err(ServeError::Closed)
        } else {
            Ok(())
        }
    }

    /// The heartbeats on each way out.
    fn beats(&self, interval: Duration, stop: &CancellationToken) -> JoinSet<()> {
        let mut beats = JoinSet::new();
        if let Some(nats) = &self.nats {
            let (heart, bus, stop) = (self.heart.clone(), nats.bus(), stop.clone());
            beats.spawn(
                self.tasks
                    .ending(async move { heart.beat(&bus, interval, stop).await }),
            );
        }
        #[cfg(feature = "grpc")]
        self.grpc
            .beat(&self.heart, interval, stop, &self.tasks, &mut beats);
        beats
    }

    /// Closes the ways in first, so that callers learn at once that nobody is here.
    async fn shut_down(mut self, options: ServeOptions) {
        tracing::info!(host_id = %options.host_id, "shutting down");
        #[cfg(feature = "grpc")]
        self.grpc.close();
        if let Some(nats) = &mut self.nats {
            nats.unsubscribe().await;
        }
        self.runs.shut_down();
        if let Some(nats) = &mut self.nats {
            nats.receive_the_rest().await;
        }
        let done = async {
            if let Some(nats) = &self.nats {
                nats.answered().await;
            }
            #[cfg(feature = "grpc")]
            self.grpc.answered().await;
            self.runs.idle().await;
        };
        let grace = options.shutdown_grace;
        if timeout(grace, done).await.is_err() {
            tracing::warn!(?grace, "not everything stopped within the grace period");
        }
        if let Some(nats) = &self.nats {
            nats.flush().await;
        }
    }
}

/// Takes in what arrives on the bus; ends when its connection is closed for good, and never when there is none.
async fn closed<H: Host>(nats: &mut Option<Nats<H>>) {
    match nats {
        Some(nats) => nats.serve().await,
        None => std::future::pending().await,
    }
}
