//! A broker, a scheduler over a directory of manifests, and simulated hosts, each a process that can be taken away.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::super::BenchError;
use super::process::Process;
use super::tally::{Tally, What};

/// Lines of the fleet that nobody has looked at yet; the fleet waits when there are more.
const LINES_MAX: usize = 10_000;

/// How long the broker may take to listen.
const BROKER_PATIENCE: Duration = Duration::from_secs(30);

/// What has happened, on which host, when.
type Line = (usize, What, Instant);

/// What is run.
pub(super) struct Programs {
    pub(super) scheduler: PathBuf,
    pub(super) conformance: PathBuf,
    pub(super) with_api_server: PathBuf,
    pub(super) burst: PathBuf,
    pub(super) nats_server: PathBuf,
    /// The folder with a real Kubernetes API server.
    pub(super) kube_api: PathBuf,
}

/// Everything that one measurement takes. Ends with it.
pub(super) struct Stage<'a> {
    programs: &'a Programs,
    port: u16,
    tally: Tally,
    lines: (SyncSender<Line>, Receiver<Line>),
    hosts: Vec<Option<Process>>,
    scheduler: Option<Process>,
    broker: Option<Process>,
    // Last, so that it is there as long as anyone writes into it.
    dir: TempDir,
}

impl<'a> Stage<'a> {
    /// A broker and a scheduler with these flags besides; no hosts.
    pub(super) fn start(programs: &'a Programs, flags: &[&str]) -> Result<Self, BenchError> {
        let file = |path: PathBuf| move |source| BenchError::File { path, source };
        let dir = tempfile::tempdir().map_err(file(std::env::temp_dir()))?;
        let manifests = dir.path().join("manifests");
        std::fs::create_dir(&manifests).map_err(file(manifests.clone()))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(file("127.0.0.1:0".into()))?;
        let port = listener
            .local_addr()
            .map_err(file("127.0.0.1:0".into()))?
            .port();
        drop(listener);
        let mut stage = Self {
            programs,
            port,
            tally: Tally::default(),
            lines: sync_channel(LINES_MAX),
            hosts: Vec::new(),
            scheduler: None,
            broker: None,
            dir,
        };
        stage.start_broker()?;
        let store = format!("dir:{}", manifests.display());
        let url = stage.url();
        let arguments = [&["--store", &store, "--nats-url", &url], flags].concat();
        let log = stage.log("scheduler");
        stage.scheduler = Some(Process::start(&programs.scheduler, &arguments, &log)?.0);
        Ok(stage)
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Starts the broker, for the first time or again, at the same address.
    pub(super) fn start_broker(&mut self) -> Result<(), BenchError> {
        let port = self.port.to_string();
        let arguments = ["--addr", "127.0.0.1", "--port", &port];
        let log = self.log("broker");
        self.broker = Some(Process::start(&self.programs.nats_server, &arguments, &log)?.0);
        let deadline = Instant::now() + BROKER_PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                return Err(self.not_come_about("a broker", BROKER_PATIENCE));
            }
            // There is nothing to wait on but the port itself.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(super) fn stop_broker(&mut self) {
        self.broker = None;
    }

    /// Adds a simulated host in a process of its own; hosts are numbered from 0.
    pub(super) fn add_host(&mut self) -> Result<(), BenchError> {
        self.add_hosts(1)
    }

    /// Adds so many simulated hosts in one process, under one number.
    pub(super) fn add_hosts(&mut self, count: usize) -> Result<(), BenchError> {
        let count = count.to_string();
        let number = self.hosts.len();
        let url = self.url();
        let arguments = ["fleet", "--hosts", &count, "--nats-url", &url];
        let log = self.log(&format!("host-{number}"));
        let (process, output) = Process::start(&self.programs.conformance, &arguments, &log)?;
        self.hosts.push(Some(process));
        let lines = self.lines.0.clone();
        if let Some(output) = output {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let what = What::of_line(&line).map(|what| (number, what, Instant::now()));
                    if what.is_some_and(|what| lines.send(what).is_err()) {
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
        self.tally.lose(number);
    }

    pub(super) fn freeze_host(&self, number: usize) -> Result<(), BenchError> {
        match self.hosts.get(number) {
            Some(Some(host)) => host.freeze(),
            _ => Ok(()),
        }
    }

    /// Puts the manifest of a deployment into the directory.
    pub(super) fn deploy(&self, name: &str, replicas: usize) -> Result<(), BenchError> {
        let text = format!(
            "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\nmetadata:\n  name: {name}\n\
             spec:\n  replicas: {replicas}\n  template:\n    spec:\n      components:\n        - name: main\n          \
             image: registry.example/{name}:1\n"
        );
        let scratch = self.dir.path().join("scratch");
        let place = self
            .dir
            .path()
            .join("manifests")
            .join(format!("{name}.yaml"));
        let put = std::fs::write(&scratch, text).and_then(|()| std::fs::rename(&scratch, &place));
        put.map_err(|source| BenchError::File {
            path: place,
            source,
        })
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Waits for what a measurement begins with.
    pub(super) fn prepare(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Tally) -> bool,
    ) -> Result<(), BenchError> {
        match self.time_until(patience, holds) {
            Some(_) => Ok(()),
            None => Err(self.not_come_about(what, patience)),
        }
    }

    /// How long it takes from now until something holds; `None` when it does not within `patience`.
    pub(super) fn time_until(
        &mut self,
        patience: Duration,
        holds: impl Fn(&Tally) -> bool,
    ) -> Option<Duration> {
        let began = Instant::now();
        let deadline = began + patience;
        if holds(&self.tally) {
            return Some(Duration::ZERO);
        }
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let (host, what, at) = self.lines.1.recv_timeout(left).ok()?;
            // What a host had said before it was killed.
            if !matches!(self.hosts.get(host), Some(Some(_))) {
                continue;
            }
            self.tally.take(host, what);
            if holds(&self.tally) {
                return Some(at.saturating_duration_since(began));
            }
        }
    }

    /// The processor time that the scheduler has used so far.
    pub(super) fn scheduler_ticks(&self) -> Option<u64> {
        self.scheduler.as_ref()?.used_ticks()
    }

    /// How many of the scheduler's own files it has written since then.
    pub(super) fn written_since(&self, then: SystemTime) -> usize {
        let mut open = vec![self.dir.path().join("manifests/.berth")];
        let mut written = 0;
        while let Some(dir) = open.pop() {
            // What goes while it is looked at is counted with its folder's other files, or not at all.
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                    Ok(metadata) => {
                        let is_new = metadata.modified().is_ok_and(|modified| modified >= then);
                        written += usize::from(is_new);
                    }
                    Err(_) => {}
                }
            }
        }
        written
    }

    fn not_come_about(&self, what: &str, patience: Duration) -> BenchError {
        BenchError::Preparation {
            what: what.to_owned(),
            seconds: patience.as_secs(),
            log: last_line(&self.log("scheduler")),
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}
