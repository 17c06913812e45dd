//! The fixture of a measurement: a broker, a scheduler with a directory of manifests, and simulated
//! hosts, each as a process.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::super::BenchError;
use super::counters::{FleetCounters, HostEvent};
use super::process::Process;

/// Maximum number of unread events; the fleet waits when the channel is full.
const EVENTS_MAX: usize = 10_000;

/// Time limit until the broker listens.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of the host, event, and time.
type TimedEvent = (usize, HostEvent, Instant);

/// Paths of the programs.
pub(super) struct Programs {
    pub(super) scheduler: PathBuf,
    pub(super) conformance: PathBuf,
    pub(super) with_api_server: PathBuf,
    pub(super) burst: PathBuf,
    pub(super) nats_server: PathBuf,
    /// Directory with a real Kubernetes API server.
    pub(super) kube_api: PathBuf,
}

/// The processes and files of one measurement, ended and removed when dropped.
pub(super) struct Fixture<'a> {
    programs: &'a Programs,
    port: u16,
    counters: FleetCounters,
    events: (SyncSender<TimedEvent>, Receiver<TimedEvent>),
    hosts: Vec<Option<Process>>,
    scheduler: Option<Process>,
    broker: Option<Process>,
    // The last field, so that the directory exists until all processes have ended.
    dir: TempDir,
}

impl<'a> Fixture<'a> {
    /// Starts a broker, and a scheduler with additional `flags`, but no hosts.
    pub(super) fn start(programs: &'a Programs, flags: &[&str]) -> Result<Self, BenchError> {
        let file_error = |path: PathBuf| move |source| BenchError::File { path, source };
        let dir = tempfile::tempdir().map_err(file_error(std::env::temp_dir()))?;
        let manifests = dir.path().join("manifests");
        std::fs::create_dir(&manifests).map_err(file_error(manifests.clone()))?;
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(file_error("127.0.0.1:0".into()))?;
        let port = listener
            .local_addr()
            .map_err(file_error("127.0.0.1:0".into()))?
            .port();
        drop(listener);
        let mut fixture = Self {
            programs,
            port,
            counters: FleetCounters::default(),
            events: sync_channel(EVENTS_MAX),
            hosts: Vec::new(),
            scheduler: None,
            broker: None,
            dir,
        };
        fixture.start_broker()?;
        let store = format!("dir:{}", manifests.display());
        let url = fixture.url();
        let arguments = [&["--store", &store, "--nats-url", &url], flags].concat();
        let log = fixture.log_path("scheduler");
        fixture.scheduler = Some(Process::start(&programs.scheduler, &arguments, &log)?.0);
        Ok(fixture)
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Starts the broker, always at the same address.
    pub(super) fn start_broker(&mut self) -> Result<(), BenchError> {
        let port = self.port.to_string();
        let arguments = ["--addr", "127.0.0.1", "--port", &port];
        let log = self.log_path("broker");
        self.broker = Some(Process::start(&self.programs.nats_server, &arguments, &log)?.0);
        let deadline = Instant::now() + BROKER_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                return Err(self.timeout_error("broker is listening", BROKER_TIMEOUT));
            }
            // Polls the port, because nothing else signals that the broker listens.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(super) fn stop_broker(&mut self) {
        self.broker = None;
    }

    /// Adds a simulated host in its own process. Hosts are numbered from 0.
    pub(super) fn add_host(&mut self) -> Result<(), BenchError> {
        self.add_hosts(1)
    }

    /// Adds `count` simulated hosts in one process, under one number.
    pub(super) fn add_hosts(&mut self, count: usize) -> Result<(), BenchError> {
        let count = count.to_string();
        let number = self.hosts.len();
        let url = self.url();
        let arguments = ["fleet", "--hosts", &count, "--nats-url", &url];
        let log = self.log_path(&format!("host-{number}"));
        let (process, output) = Process::start(&self.programs.conformance, &arguments, &log)?;
        self.hosts.push(Some(process));
        let events = self.events.0.clone();
        if let Some(output) = output {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let event = HostEvent::parse_line(&line);
                    let event = event.map(|event| (number, event, Instant::now()));
                    if event.is_some_and(|event| events.send(event).is_err()) {
                        return;
                    }
                }
            });
        }
        Ok(())
    }

    pub(super) fn kill_host(&mut self, number: usize) {
        if let Some(host) = self.hosts.get_mut(number) {
            *host = None;
        }
        self.counters.remove_host(number);
    }

    pub(super) fn freeze_host(&self, number: usize) -> Result<(), BenchError> {
        match self.hosts.get(number) {
            Some(Some(host)) => host.freeze(),
            _ => Ok(()),
        }
    }

    /// Writes the manifest of a deployment into the directory.
    pub(super) fn deploy(&self, name: &str, replicas: usize) -> Result<(), BenchError> {
        let text = format!(
            "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\n\
             metadata:\n  name: {name}\n\
             spec:\n  replicas: {replicas}\n  template:\n    spec:\n      \
             components:\n        - name: main\n          \
             image: registry.example/{name}:1\n"
        );
        let scratch = self.dir.path().join("scratch");
        let path = self
            .dir
            .path()
            .join("manifests")
            .join(format!("{name}.yaml"));
        let written =
            std::fs::write(&scratch, text).and_then(|()| std::fs::rename(&scratch, &path));
        written.map_err(|source| BenchError::File { path, source })
    }

    pub(super) fn counters(&self) -> &FleetCounters {
        &self.counters
    }

    /// Waits for the initial state of a measurement. `condition` describes it in the error.
    pub(super) fn prepare(
        &mut self,
        condition: &str,
        timeout: Duration,
        holds: impl Fn(&FleetCounters) -> bool,
    ) -> Result<(), BenchError> {
        match self.time_until(timeout, holds) {
            Some(_) => Ok(()),
            None => Err(self.timeout_error(condition, timeout)),
        }
    }

    /// Waits until `holds` returns true. Returns the elapsed time, or `None` after `timeout`.
    pub(super) fn time_until(
        &mut self,
        timeout: Duration,
        holds: impl Fn(&FleetCounters) -> bool,
    ) -> Option<Duration> {
        let started = Instant::now();
        let deadline = started + timeout;
        if holds(&self.counters) {
            return Some(Duration::ZERO);
        }
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let (host, event, at) = self.events.1.recv_timeout(left).ok()?;
            // Ignores events of a host that was killed in the meantime.
            if !matches!(self.hosts.get(host), Some(Some(_))) {
                continue;
            }
            self.counters.apply(host, event);
            if holds(&self.counters) {
                return Some(at.saturating_duration_since(started));
            }
        }
    }

    /// Returns the processor time that the scheduler has used so far, in clock ticks.
    pub(super) fn scheduler_ticks(&self) -> Option<u64> {
        self.scheduler.as_ref()?.used_ticks()
    }

    /// Returns the number of its own files that the scheduler has written since `start`.
    pub(super) fn files_written_since(&self, start: SystemTime) -> usize {
        let mut pending = vec![self.dir.path().join("manifests/.berth")];
        let mut written = 0;
        while let Some(dir) = pending.pop() {
            // Files that disappear during the scan are not counted.
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                    Ok(metadata) => {
                        let is_new = metadata.modified().is_ok_and(|modified| modified >= start);
                        written += usize::from(is_new);
                    }
                    Err(_) => {}
                }
            }
        }
        written
    }

    fn timeout_error(&self, condition: &str, timeout: Duration) -> BenchError {
        BenchError::Preparation {
            condition: condition.to_owned(),
            seconds: timeout.as_secs(),
            log: last_line(&self.log_path("scheduler")),
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}
