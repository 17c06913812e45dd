//! Brings hosts up: a tap, a process, and the wait until it shows itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::Signal;
use tokio::net::TcpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::{Access, Bridge, Launch, OverGrpc, Running, RunningHost, Target, monitor_feed};
use crate::host::monitors::Watch;
use crate::spec::deadlines;
use crate::testbed::process::{Process, ProcessError};
use crate::testbed::program::fill;
use crate::testbed::secrets::Secrets;
use crate::testbed::tap::{OutagePlan, Tap, TapError};
use crate::wire::grpc::{CallFailed, Channel};
use crate::wire::nats;
use crate::wire::nats::{Bus, BusError};
use crate::wire::response::Headers;
use crate::wire::trace::Frame;

/// How often the suite looks for the first sign of life.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// After so long without a heartbeat the host is asked directly, in case it never sends one.
const ASK_AFTER: Duration = Duration::from_secs(6);
/// A host that is said to run already answers within this, or is not there.
const RUNNING_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a host's log shown when it does not come up.
const LOG_LINES_SHOWN: usize = 12;

/// No host to judge.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command cannot be executed.
    #[error(transparent)]
    Launch(#[from] ProcessError),
    /// The tap cannot listen.
    #[error("no tap")]
    Tap(#[from] TapError),
    /// It cannot be reached by gRPC.
    #[error(transparent)]
    Grpc(#[from] CallFailed),
    /// What is reached by gRPC cannot be put on the bus.
    #[error("no bridge between gRPC and the bus")]
    Bridge(#[from] BusError),
    /// There is no port or directory for it.
    #[error("no {what} for the host")]
    Resource {
        /// What there is none of.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process ended before it showed itself.
    #[error("the host ended before its first heartbeat ({status}){log}")]
    Exited {
        /// How.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It never showed itself.
    #[error("no host appeared: no heartbeat{whose} and no answer within {} s{log}", waited.as_secs())]
    Silent {
        /// Whose heartbeat was awaited.
        whose: String,
        /// How long was waited.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
}

/// Brings up hosts of one target.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The target.
    pub target: Arc<Target>,
    /// The suite's own connection.
    pub bus: Bus,
    /// Where the broker listens.
    pub broker: SocketAddr,
    /// `user:password@` of the broker's URL, for the URL that the host gets.
    pub broker_credentials: String,
    /// The registry's authority.
    pub registry: String,
    /// The token of the run.
    pub run: String,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    /// The number of the next host.
    pub hosts: Arc<std::sync::atomic::AtomicU64>,
}

impl Launcher {
    /// Brings up a host, or finds the one that runs already. `own`: a check may cut,
    /// freeze or signal it, so that monitors judge no times.
    ///
    /// # Errors
    /// It does not show itself in time.
    pub async fn bring_up(&self, own: bool) -> Result<RunningHost, LaunchError> {
        match &self.target.access {
            Access::Launch(launch) => self.launch(launch, own).await,
            Access::Running(running) => self.find(running, true).await,
            Access::Grpc(over) => self.reach(over).await,
        }
    }

    /// Launches a host whose broker is away for that long, then waits for it. `None` when the suite
    /// does not launch this target.
    ///
    /// # Errors
    /// It does not show itself in time once the broker is there.
    pub async fn launch_before_broker(
        &self,
        away: Duration,
    ) -> Option<Result<RunningHost, LaunchError>> {
        let launch = self.target.launch()?;
        let tap = match Tap::start(self.broker).await {
            Ok(tap) => tap,
            Err(error) => return Some(Err(error.into())),
        };
        let outage = tap.cut(OutagePlan::Refuse).await;
        let back = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(away).await;
            outage.restore().await;
        }));
        let patient = Launch {
            ready_within: launch.ready_within + away,
            ..launch.clone()
        };
        let launched = self.launch_behind(tap, &patient, true).await;
        drop(back);
        Some(launched)
    }

    async fn launch(&self, launch: &Launch, own: bool) -> Result<RunningHost, LaunchError> {
        self.launch_behind(Tap::start(self.broker).await?, launch, own)
            .await
    }

    async fn launch_behind(
        &self,
        tap: Tap,
        launch: &Launch,
        own: bool,
    ) -> Result<RunningHost, LaunchError> {
        let resource = |what| move |source| LaunchError::Resource { what, source };
        let watch = Watch::new(self.secrets.clone(), own);
        let recorder = AbortOnDropHandle::new(tokio::spawn(monitor_feed::feed(
            tap.subscribe(),
            watch.clone(),
        )));
        let (http_port, http_addr) = reserve_port().map_err(resource("port"))?;
        let dir = tempfile::Builder::new()
            .prefix("berth-conformance-")
            .tempdir()
            .map_err(resource("directory"))?;
        let number = self
            .hosts
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let host_id = format!("berth-{}-{number}", self.run);
        let nats_url = tap
            .url()
            .replace("nats://", &format!("nats://{}", self.broker_credentials));
        let dir_path = dir.path().display().to_string();
        let values: [(&str, &str); 5] = [
            ("nats_url", &nats_url),
            ("http_addr", &http_addr),
            ("registry", &self.registry),
            ("host_id", &host_id),
            ("dir", &dir_path),
        ];
        let command: Vec<String> = launch
            .command
            .iter()
            .map(|word| fill(word, &values))
            .collect();
        let env = launch
            .env
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, &values)))
            .collect();
        let process = Process::launch(&command, &env)?;
        let known = launch.uses("host_id").then_some(host_id.as_str());
        let id = self
            .await_host(&watch, known, Some(&process), launch.ready_within)
            .await?;
        watch.identify(&id);
        let http_addr = launch
            .http_addr
            .clone()
            .or_else(|| launch.uses("http_addr").then_some(http_addr))
            .or(self.announced_http(&id).await);
        Ok(RunningHost {
            id,
            http_addr,
            trace: watch.trace.clone(),
            watch,
            process: Some(process),
            tap: Some(tap),
            stop_signal: launch.stop_signal,
            ended: AtomicBool::new(false),
            _recorder: recorder,
            _http_port: Some(http_port),
            _dir: Some(dir),
            _bridge: None,
        })
    }

    /// Puts a host that is reached by gRPC on the bus, under an id of this run.
    async fn reach(&self, over: &OverGrpc) -> Result<RunningHost, LaunchError> {
        let channel = Channel::new(&over.url)?;
        let broker_url = format!("nats://{}{}", self.broker_credentials, self.broker);
        let host_id = format!("grpc-{}", self.run);
        let bridge = Bridge::begin(&broker_url, &host_id, channel).await?;
        let running = Running {
            nats_url: broker_url,
            host_id,
            http_addr: over.http_addr.clone(),
        };
        let mut host = self.find(&running, false).await?;
        host._bridge = Some(bridge);
        Ok(host)
    }

    async fn find(&self, running: &Running, announces: bool) -> Result<RunningHost, LaunchError> {
        let watch = Watch::new(self.secrets.clone(), false);
        watch.identify(&running.host_id);
        let recorder = monitor_feed::overhear(&self.bus, &running.host_id, watch.clone());
        let recorder = AbortOnDropHandle::new(tokio::spawn(recorder));
        self.await_host(&watch, Some(&running.host_id), None, RUNNING_WITHIN)
            .await?;
        let http_addr = match &running.http_addr {
            Some(http_addr) => Some(http_addr.clone()),
            None if announces => self.announced_http(&running.host_id).await,
            None => None,
        };
        Ok(RunningHost {
            id: running.host_id.clone(),
            http_addr,
            trace: watch.trace.clone(),
            watch,
            process: None,
            tap: None,
            stop_signal: Signal::SIGTERM,
            ended: AtomicBool::new(false),
            _recorder: recorder,
            _http_port: None,
            _dir: None,
            _bridge: None,
        })
    }

    /// Waits for the first heartbeat; a host whose id is known may answer a request instead.
    async fn await_host(
        &self,
        watch: &Watch,
        known: Option<&str>,
        process: Option<&Process>,
        within: Duration,
    ) -> Result<String, LaunchError> {
        let began = Instant::now();
        // A host that runs already may have a quarter of a minute to its next heartbeat.
        let ask_after = if process.is_some() {
            ASK_AFTER
        } else {
            Duration::ZERO
        };
        loop {
            if let Some(id) = first_heartbeat(watch) {
                return Ok(id);
            }
            if let Some(status) = process.and_then(Process::exit_status) {
                return Err(LaunchError::Exited {
                    status: status.to_string(),
                    log: log_end(process),
                });
            }
            if let Some(id) = known
                && began.elapsed() >= ask_after
                && self.answers(id).await
            {
                return Ok(id.to_owned());
            }
            if began.elapsed() >= within {
                let whose = known.map(|id| format!(" of {id:?}")).unwrap_or_default();
                return Err(LaunchError::Silent {
                    whose,
                    waited: within,
                    log: log_end(process),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn answers(&self, id: &str) -> bool {
        let subject = nats::command_subject(id, "workload.status");
        let payload = Bytes::from_static(b"{\"workloadId\":\"berth-nobody\"}");
        let inbox = format!("ready.{id}");
        let Ok(mut replies) = self
            .bus
            .request(&subject, &inbox, payload, &Headers::none())
            .await
        else {
            return false;
        };
        match replies.next(Duration::from_secs(1)).await {
            Some(delivery) if delivery.status.is_none() => true,
            Some(_) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                false
            }
            None => false,
        }
    }

    /// The ingress that the heartbeat announces, on loopback.
    async fn announced_http(&self, id: &str) -> Option<String> {
        let subject = nats::command_subject(id, "heartbeat");
        let inbox = format!("http.{id}");
        let payload = Bytes::from_static(b"{}");
        let mut replies = self
            .bus
            .request(&subject, &inbox, payload, &Headers::none())
            .await
            .ok()?;
        let delivery = replies.next(deadlines::ANSWER.limit).await?;
        let beat: serde_json::Value = serde_json::from_slice(&delivery.payload).ok()?;
        let port = beat.get("httpPort")?.as_u64().filter(|port| *port > 0)?;
        Some(format!("127.0.0.1:{port}"))
    }
}

fn first_heartbeat(watch: &Watch) -> Option<String> {
    let beats = watch.trace.first(|frame: &Frame| {
        frame.way == crate::wire::trace::Direction::FromHost
            && frame.subject.starts_with("runtime.operator.heartbeat.")
    });
    let subject = beats?.subject;
    subject
        .strip_prefix("runtime.operator.heartbeat.")
        .map(str::to_owned)
}

/// A port nobody else gets while the socket lives; a listener with the usual options may still take it.
fn reserve_port() -> std::io::Result<(TcpSocket, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = socket.local_addr()?.to_string();
    Ok((socket, address))
}

fn log_end(process: Option<&Process>) -> String {
    let log = process.map(Process::log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let end = lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES_SHOWN));
    let end: String = end.map(|line| format!("\n    | {line}")).collect();
    if end.is_empty() {
        end
    } else {
        format!("; the end of its log:{end}")
    }
}
