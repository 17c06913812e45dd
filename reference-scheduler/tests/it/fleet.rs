//! Fake hosts, each with its own connection, that record their commands and run nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_sdk::ConnectOptions;
use berth_sdk::grpc::{Channel, ChannelOptions, HostEndpoints, Listener};
use berth_sdk::host::{
    Connection, Description, Host, ServeOptions, StartError, StartRequest, serve,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Record of the commands to all hosts.
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
    /// Returns the running ids by host.
    pub fn running(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.state.lock().unwrap().running.clone()
    }

    /// Returns the running ids of all hosts.
    pub fn ids(&self) -> BTreeSet<String> {
        self.running().into_values().flatten().collect()
    }

    /// Returns the number of running ids on a host.
    pub fn count(&self, host: &str) -> usize {
        self.running().get(host).map_or(0, BTreeSet::len)
    }

    /// Returns all starts, as host and id.
    pub fn starts(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().starts.clone()
    }

    /// Returns all stops, as host and id.
    pub fn stops(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().stops.clone()
    }
}

/// A host in this process that only records its commands.
pub struct FakeHost {
    pub id: String,
    record: Record,
    serving: JoinHandle<()>,
}

struct RecordingHost {
    id: String,
    record: Record,
    hangs_on_start: bool,
}

impl FakeHost {
    pub fn start(url: &str, id: &str, record: &Record) -> Self {
        let hangs_on_start = false;
        Self::serve(ConnectOptions::to(url).into(), id, record, hangs_on_start)
    }

    /// Starts a host whose starts never finish.
    pub fn start_hanging(url: &str, id: &str, record: &Record) -> Self {
        let hangs_on_start = true;
        Self::serve(ConnectOptions::to(url).into(), id, record, hangs_on_start)
    }

    /// Starts a host without NATS that sends heartbeats to a scheduler by gRPC.
    pub async fn start_over_grpc(scheduler: &str, id: &str, record: &Record) -> Self {
        let any = ([127, 0, 0, 1], 0).into();
        let options = ChannelOptions::to(scheduler);
        let endpoints = HostEndpoints {
            listener: Some(Listener::bind(any, None).await.unwrap()),
            schedulers: vec![Channel::open(&options).await.unwrap()],
        };
        let hangs_on_start = false;
        Self::serve(Connection::over_grpc(endpoints), id, record, hangs_on_start)
    }

    fn serve(connection: Connection, id: &str, record: &Record, hangs_on_start: bool) -> Self {
        let host = RecordingHost {
            id: id.to_owned(),
            record: record.clone(),
            hangs_on_start,
        };
        let options = ServeOptions {
            host_id: id.to_owned(),
            // A restarted scheduler places nothing before it has received heartbeats.
            heartbeat_interval: Duration::from_secs(1),
            ..ServeOptions::default()
        };
        let serving = tokio::spawn(async move {
            serve(connection, options, host, CancellationToken::new())
                .await
                .unwrap();
        });
        Self {
            id: id.to_owned(),
            record: record.clone(),
            serving,
        }
    }

    /// Kills the host: its connection is closed, and its workloads no longer run.
    pub async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.record.state.lock().unwrap().running.remove(&self.id);
    }
}

impl Host for RecordingHost {
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

    async fn start(&self, start: StartRequest) -> Result<String, StartError> {
        if self.hangs_on_start {
            std::future::pending::<()>().await;
        }
        let mut state = self.record.state.lock().unwrap();
        state.starts.push((self.id.clone(), start.id.clone()));
        let running = state.running.entry(self.id.clone()).or_default();
        assert!(
            running.insert(start.id.clone()),
            "{} is already running",
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
