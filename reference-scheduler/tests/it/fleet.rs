//! Hosts that speak the protocol and run nothing, each on a connection of its own, and a record of what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_sdk::ConnectOptions;
use berth_sdk::grpc::{Channel, ChannelOptions, HostSide, Listener};
use berth_sdk::host::{Connection, Description, Host, Refusal, ServeOptions, Start, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What happened on all hosts.
#[derive(Clone, Default)]
pub struct Record {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<String, BTreeSet<String>>,
    starts: Vec<(String, String)>,
    stops: Vec<(String, String)>,
}

impl Record {
    /// The ids that run, by host.
    pub fn running(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.state.lock().unwrap().running.clone()
    }

    /// The ids that run anywhere.
    pub fn ids(&self) -> BTreeSet<String> {
        self.running().into_values().flatten().collect()
    }

    /// How many ids run on a host.
    pub fn count(&self, host: &str) -> usize {
        self.running().get(host).map_or(0, BTreeSet::len)
    }

    /// All starts so far: host and id.
    pub fn starts(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().starts.clone()
    }

    /// All stops so far: host and id.
    pub fn stops(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().stops.clone()
    }
}

/// A host in this process.
pub struct FakeHost {
    pub id: String,
    record: Record,
    serving: JoinHandle<()>,
}

struct Puppet {
    id: String,
    record: Record,
    never_starts: bool,
}

impl FakeHost {
    pub fn start(url: &str, id: &str, record: &Record) -> Self {
        Self::serve(ConnectOptions::to(url).into(), id, record, false)
    }

    /// One whose starts never come to an end.
    pub fn start_stuck(url: &str, id: &str, record: &Record) -> Self {
        Self::serve(ConnectOptions::to(url).into(), id, record, true)
    }

    /// One without NATS, that beats to a scheduler by gRPC.
    pub async fn start_over_grpc(scheduler: &str, id: &str, record: &Record) -> Self {
        let any = ([127, 0, 0, 1], 0).into();
        let options = ChannelOptions::to(scheduler);
        let side = HostSide {
            listener: Some(Listener::bind(any, None).await.unwrap()),
            schedulers: vec![Channel::open(&options).await.unwrap()],
        };
        Self::serve(Connection::over_grpc(side), id, record, false)
    }

    fn serve(connection: Connection, id: &str, record: &Record, never_starts: bool) -> Self {
        let puppet = Puppet {
            id: id.to_owned(),
            record: record.clone(),
            never_starts,
        };
        let options = ServeOptions {
            host_id: id.to_owned(),
            // A scheduler that comes back places nothing before it has heard hosts again.
            heartbeat_interval: Duration::from_secs(1),
            ..ServeOptions::default()
        };
        let serving = tokio::spawn(async move {
            serve(connection, options, puppet, CancellationToken::new())
                .await
                .unwrap();
        });
        Self {
            id: id.to_owned(),
            record: record.clone(),
            serving,
        }
    }

    /// The process dies: its connection is gone, and so is all that ran in it.
    pub async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.record.state.lock().unwrap().running.remove(&self.id);
    }
}

impl Host for Puppet {
    type Instance = String;

    fn describe(&self) -> Description {
        Description {
            hostname: "127.0.0.1".into(),
            friendly_name: self.id.clone(),
            version: "0".into(),
            labels: [("hostgroup".into(), "default".into())].into(),
            system_memory_total: 8 << 30,
            system_memory_free: 4 << 30,
            ..Description::default()
        }
    }

    async fn start(&self, start: Start) -> Result<String, Refusal> {
        if self.never_starts {
            std::future::pending::<()>().await;
        }
        let mut state = self.record.state.lock().unwrap();
        state.starts.push((self.id.clone(), start.id.clone()));
        let running = state.running.entry(self.id.clone()).or_default();
        assert!(
            running.insert(start.id.clone()),
            "{} runs already",
            start.id
        );
        Ok(start.id)
    }

    async fn stop(&self, id: String) {
        let mut state = self.record.state.lock().unwrap();
        state.stops.push((self.id.clone(), id.clone()));
        state
            .running
            .entry(self.id.clone())
            .or_default()
            .remove(&id);
    }
}
