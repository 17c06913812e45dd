//! A fake host whose workloads behave as their names say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use berth_sdk::ConnectOptions;
use berth_sdk::host::{
    Connection, Description, Host, ServeError, ServeOptions, StartError, StartRequest, serve,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::soon;

/// IDs of the workloads that were started and not yet released.
pub type Held = Arc<Mutex<BTreeSet<String>>>;

/// Host with a behavior for the workload names `hang`, `refuse`, `panic`, `complete` and `fail`.
/// All other workloads run.
pub struct FakeHost {
    held: Held,
}

/// An instance, released on drop: by a stop or by a cancelled start.
pub struct Instance {
    id: String,
    held: Held,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.held.lock().unwrap().remove(&self.id);
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
            held: self.held.clone(),
        };
        assert!(
            self.held.lock().unwrap().insert(request.id),
            "the ID was in use"
        );
        match request.workload.name.as_str() {
            "hang" => {
                request.reporter.starting("hanging");
                std::future::pending::<()>().await;
            }
            "refuse" => return Err(StartError::new("x".repeat(100_000))),
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
    pub held: Held,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl RunningHost {
    pub fn start(url: &str) -> Self {
        Self::start_with(url, ServeOptions::default())
    }

    pub fn start_with(url: &str, options: ServeOptions) -> Self {
        Self::start_as(ConnectOptions::to(url), options)
    }

    pub fn start_on(connect: ConnectOptions) -> Self {
        Self::start_as(connect, ServeOptions::default())
    }

    pub fn start_as(connection: impl Into<Connection>, options: ServeOptions) -> Self {
        let (held, shutdown) = (Held::default(), CancellationToken::new());
        let host = FakeHost { held: held.clone() };
        let id = options.host_id.clone();
        let served = serve(connection.into(), options, host, shutdown.clone());
        Self {
            id,
            held,
            shutdown,
            served: tokio::spawn(served),
        }
    }

    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub async fn join(self) -> Result<(), ServeError> {
        soon("serve returns", self.served).await.unwrap()
    }

    /// Stops the host as a crash would.
    pub async fn crash(self) {
        self.served.abort();
        assert!(self.served.await.unwrap_err().is_cancelled());
    }

    pub fn held_ids(&self) -> Vec<String> {
        self.held.lock().unwrap().iter().cloned().collect()
    }
}
