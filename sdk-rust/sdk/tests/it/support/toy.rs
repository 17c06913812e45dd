//! A host whose workloads do what their names say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use berth_sdk::ConnectOptions;
use berth_sdk::host::{
    Connection, Description, Host, Refusal, ServeError, ServeOptions, Start, serve,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::soon;

/// What the host has in hand; one entry for each workload that was begun and not let go of.
pub type Held = Arc<Mutex<BTreeSet<String>>>;

/// Runs what the workload's name asks for: `hang`, `refuse`, `panic`, `complete`, `fail`, and else well.
pub struct Toy {
    held: Held,
}

/// Released by drop, whether by stop or by a cancelled start.
pub struct Holding {
    id: String,
    held: Held,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.lock().unwrap().remove(&self.id);
    }
}

impl Host for Toy {
    type Instance = Holding;

    fn describe(&self) -> Description {
        Description {
            hostname: "localhost".into(),
            friendly_name: "toy-1".into(),
            version: "0".into(),
            system_cpu_usage: f32::NAN,
            ..Description::default()
        }
    }

    async fn start(&self, start: Start) -> Result<Holding, Refusal> {
        let holding = Holding {
            id: start.id.clone(),
            held: self.held.clone(),
        };
        assert!(
            self.held.lock().unwrap().insert(start.id),
            "the id was not free"
        );
        match start.workload.name.as_str() {
            "hang" => {
                start.reporter.starting("hanging");
                std::future::pending::<()>().await;
            }
            "refuse" => return Err(Refusal::new("x".repeat(100_000))),
            "panic" => panic!("as asked"),
            "complete" => start.reporter.completed("done"),
            "fail" => start.reporter.failed("broken"),
            _ => {}
        }
        Ok(holding)
    }

    async fn stop(&self, instance: Holding) {
        drop(instance);
    }
}

/// A toy host that is being served.
pub struct Served {
    pub id: String,
    pub held: Held,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub fn begin(url: &str) -> Self {
        Self::begin_with(url, ServeOptions::default())
    }

    pub fn begin_with(url: &str, options: ServeOptions) -> Self {
        Self::begin_as(ConnectOptions::to(url), options)
    }

    pub fn begin_on(connect: ConnectOptions) -> Self {
        Self::begin_as(connect, ServeOptions::default())
    }

    pub fn begin_as(connection: impl Into<Connection>, options: ServeOptions) -> Self {
        let (held, shutdown) = (Held::default(), CancellationToken::new());
        let toy = Toy { held: held.clone() };
        let id = options.host_id.clone();
        let served = serve(connection.into(), options, toy, shutdown.clone());
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

    pub async fn ended(self) -> Result<(), ServeError> {
        soon("serve returns", self.served).await.unwrap()
    }

    /// Ends it as a crash would.
    pub async fn crash(self) {
        self.served.abort();
        assert!(self.served.await.unwrap_err().is_cancelled());
    }

    pub fn holds(&self) -> Vec<String> {
        self.held.lock().unwrap().iter().cloned().collect()
    }
}
