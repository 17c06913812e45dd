//! A fake host whose workloads behave as their names say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use berth_sdk::ConnectOptions;
use berth_sdk::host::{
    Connection, Description, Host, ServeError, ServeOptions, StartError, StartRequest, serve,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::within_timeout;

/// IDs of the workloads that were started and not yet released.
pub type LiveIds = Arc<Mutex<BTreeSet<String>>>;

/// Host with a behavior for the workload names `hang`, `fail-start`, `panic`, `complete` and
/// `fail`. All other workloads run.
pub struct FakeHost {
    live: LiveIds,
}

/// An instance, released on drop: by a stop or by a cancelled start.
pub struct Instance {
    id: String,
    live: LiveIds,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.live.lock().unwrap().remove(&self.id);
    }
}

impl Host for FakeHost {
    type Instance = Instance;

    fn describe(&self) -> Description {
        Description {
            hostname: "localhost".into(),
            friendly_name: "fake-1".into(),
            version: "0".into(),
            system_cpu_usage: f32::NAN,
            ..Description::default()
        }
    }

    async fn start(&self, request: StartRequest) -> Result<Instance, StartError> {
        let instance = Instance {
            id: request.id.clone(),
            live: self.live.clone(),
        };
        assert!(
            self.live.lock().unwrap().insert(request.id),
            "the ID was in use"
        );
        match request.workload.name.as_str() {
            "hang" => {
                request.reporter.starting("hanging");
                std::future::pending::<()>().await;
            }
            // The message is longer than a reply may be.
            "fail-start" => return Err(StartError::new("x".repeat(100_000))),
            "panic" => panic!("as requested"),
            "complete" => request.reporter.completed("done"),
            "fail" => request.reporter.failed("broken"),
            _ => {}
        }
        Ok(instance)
    }

    async fn stop(&self, instance: Instance) {
        drop(instance);
    }
}

/// A fake host that is being served.
pub struct RunningHost {
    pub id: String,
    pub live: LiveIds,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl RunningHost {
    pub fn start(url: &str) -> Self {
        Self::start_with_options(url, ServeOptions::default())
    }

    pub fn start_with_options(url: &str, options: ServeOptions) -> Self {
        Self::start_with_connection(ConnectOptions::to(url), options)
    }

    pub fn start_with_connect_options(connect: ConnectOptions) -> Self {
        Self::start_with_connection(connect, ServeOptions::default())
    }

    pub fn start_with_connection(connection: impl Into<Connection>, options: ServeOptions) -> Self {
        let (live, shutdown) = (LiveIds::default(), CancellationToken::new());
        let host = FakeHost { live: live.clone() };
        let id = options.host_id.clone();
        let served = serve(connection.into(), options, host, shutdown.clone());
        Self {
            id,
            live,
            shutdown,
            served: tokio::spawn(served),
        }
    }

    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub async fn join(self) -> Result<(), ServeError> {
        within_timeout("serve returns", self.served).await.unwrap()
    }

    /// Stops the host as a crash would.
    pub async fn crash(self) {
        self.served.abort();
        assert!(self.served.await.unwrap_err().is_cancelled());
    }

    pub fn live_ids(&self) -> Vec<String> {
        self.live.lock().unwrap().iter().cloned().collect()
    }
}
