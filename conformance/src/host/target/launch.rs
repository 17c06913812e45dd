//! Launcher: starts a tap and a host process, and waits for the first heartbeat of the host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::Signal;
use tokio::net::TcpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::{Access, Bridge, ExistingHost, GrpcHost, Launch, RunningHost, Target, monitor_feed};
use crate::host::monitors::MonitorSet;
use crate::spec::deadlines;
use crate::testbed::process::{Process, ProcessError};
use crate::testbed::program::expand_placeholders;
use crate::testbed::secrets::Secrets;
use crate::testbed::tap::{OutageMode, Tap, TapError};
use crate::wire::grpc::{CallError, Channel};
use crate::wire::nats;
use crate::wire::nats::{Bus, BusError};
use crate::wire::response::Headers;
use crate::wire::trace::Frame;

/// Interval at which the launcher polls for the first heartbeat.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Time without a heartbeat after which the launcher sends a request, in case the host never
/// publishes one.
const PROBE_AFTER: Duration = Duration::from_secs(6);
/// Time within which an existing host must respond.
const EXISTING_HOST_TIMEOUT: Duration = Duration::from_secs(10);
/// Grace period between the stop signal and the kill of a process that only shows its id.
const FURTHER_HOST_GRACE: Duration = Duration::from_millis(500);
/// Number of lines, from the end of a host's log, that are shown if the host does not start.
const LOG_LINES_SHOWN: usize = 12;

/// Reason why no host is available.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command cannot be executed.
    #[error(transparent)]
    Launch(#[from] ProcessError),
    /// The tap cannot listen.
    #[error("cannot start the tap")]
    Tap(#[from] TapError),
    /// The gRPC URL is invalid.
    #[error(transparent)]
    Grpc(#[from] CallError),
    /// The bridge between gRPC and the bus cannot start.
    #[error("cannot start the bridge between gRPC and the bus")]
    Bridge(#[from] BusError),
    /// A port or a directory for the host cannot be allocated.
    #[error("cannot allocate a {resource} for the host")]
    Resource {
        /// Kind of resource.
        resource: &'static str,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The process exited before its first heartbeat.
    #[error("the host exited before its first heartbeat ({status}){log}")]
    Exited {
        /// Exit status.
        status: String,
        /// End of the log.
        log: String,
    },
    /// Each process of the target uses the same id, so that the processes answer each other's
    /// requests.
    #[error(
        "two processes of the target use the same host id {id:?}: let the command pass \
         {{host_id}} to the host, or let the host choose a random id"
    )]
    SameId {
        /// Id of both processes.
        id: String,
    },
    /// The host published no heartbeat and did not reply.
    #[error("no heartbeat and no reply from {host} within {} s{log}", waited.as_secs())]
    Silent {
        /// The host, with its id if known.
        host: String,
        /// Time waited.
        waited: Duration,
        /// End of the log.
        log: String,
    },
}

/// Launches hosts of one target, or attaches to a host that is already running.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Target.
    pub target: Arc<Target>,
    /// Connection of the suite.
    pub bus: Bus,
    /// Address of the broker.
    pub broker: SocketAddr,
    /// `user:password@` of the broker's URL, for the URL that is passed to the host.
    pub broker_credentials: String,
    /// Authority of the registry.
    pub registry: String,
    /// Token of the run.
    pub run: String,
    /// Secrets that must not appear in reports.
    pub secrets: Arc<Secrets>,
    /// Number of the next host.
    pub next_host: Arc<std::sync::atomic::AtomicU64>,
}

impl Launcher {
    /// Launches a host, or attaches to the host that is already running. If `checks_disturb_host`
    /// is set, a check may disconnect, freeze or signal the host, so its monitors do not judge
    /// times.
    ///
    /// # Errors
    /// Fails if the host does not start or respond in time.
    pub async fn bring_up(&self, checks_disturb_host: bool) -> Result<RunningHost, LaunchError> {
        match &self.target.access {
            Access::Launch(launch) => self.launch(launch, checks_disturb_host).await,
            Access::Running(existing) => {
                let announces_http = true;
                self.attach(existing, announces_http).await
            }
            Access::Grpc(grpc) => self.attach_grpc(grpc).await,
        }
    }

    /// Launches a host whose broker becomes reachable only after `delay`, and waits for the host.
    /// Returns `None` if the suite does not launch this target.
    ///
    /// # Errors
    /// Fails if the host does not start in time after the broker is reachable.
    pub async fn launch_before_broker(
        &self,
        delay: Duration,
    ) -> Option<Result<RunningHost, LaunchError>> {
        let launch = self.target.launch()?;
        let tap = match Tap::start(self.broker).await {
            Ok(tap) => tap,
            Err(error) => return Some(Err(error.into())),
        };
        let outage = tap.start_outage(OutageMode::Refuse).await;
        let restore = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            outage.restore().await;
        }));
        let launch = Launch {
            ready_timeout: launch.ready_timeout + delay,
            ..launch.clone()
        };
        let checks_disturb_host = true;
        let launched = self.launch_behind(tap, &launch, checks_disturb_host).await;
        drop(restore);
        Some(launched)
    }

    /// Verifies that a further process of the target has another id than `host`.
    ///
    /// Checks launch processes of their own. If these had the id of the shared host, requests would
    /// get replies from several processes, and the suite would blame the host for them.
    ///
    /// # Errors
    /// Fails if both have the same id, or if the further process does not start.
    pub async fn verify_distinct_ids(&self, host: &RunningHost) -> Result<(), LaunchError> {
        let uses_passed_id = host.id.starts_with(&self.host_id_prefix());
        let launches_more = self.target.max_hosts != Some(0);
        let Some(launch) = self.target.launch().filter(|_| launches_more) else {
            return Ok(());
        };
        if uses_passed_id {
            return Ok(());
        }
        let checks_disturb_host = true;
        let further = self.launch(launch, checks_disturb_host).await?;
        further.stop(FURTHER_HOST_GRACE).await;
        if further.id == host.id {
            return Err(LaunchError::SameId {
                id: host.id.clone(),
            });
        }
        Ok(())
    }

    fn host_id_prefix(&self) -> String {
        format!("berth-{}-", self.run)
    }

    async fn launch(
        &self,
        launch: &Launch,
        checks_disturb_host: bool,
    ) -> Result<RunningHost, LaunchError> {
        self.launch_behind(Tap::start(self.broker).await?, launch, checks_disturb_host)
            .await
    }

    async fn launch_behind(
        &self,
        tap: Tap,
        launch: &Launch,
        checks_disturb_host: bool,
    ) -> Result<RunningHost, LaunchError> {
        let resource_error = |resource| move |source| LaunchError::Resource { resource, source };
        let monitors = MonitorSet::new(self.secrets.clone(), checks_disturb_host);
        let recorder = AbortOnDropHandle::new(tokio::spawn(monitor_feed::feed_from_tap(
            tap.subscribe(),
            monitors.clone(),
        )));
        let (http_port, http_addr) = reserve_port().map_err(resource_error("port"))?;
        let dir = tempfile::Builder::new()
            .prefix("berth-conformance-")
            .tempdir()
            .map_err(resource_error("directory"))?;
        let number = self
            .next_host
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let host_id = format!("{}{number}", self.host_id_prefix());
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
            .map(|argument| expand_placeholders(argument, &values))
            .collect();
        let env = launch
            .env
            .iter()
            .map(|(name, value)| (name.clone(), expand_placeholders(value, &values)))
            .collect();
        let process = Process::launch(&command, &env)?;
        let known_id = launch
            .uses_placeholder("host_id")
            .then_some(host_id.as_str());
        let id = self
            .await_host(&monitors, known_id, Some(&process), launch.ready_timeout)
            .await?;
        monitors.set_host_id(&id);
        let http_addr = launch
            .http_addr
            .clone()
            .or_else(|| launch.uses_placeholder("http_addr").then_some(http_addr))
            .or(self.announced_http(&id).await);
        Ok(RunningHost {
            id,
            http_addr,
            trace: monitors.trace.clone(),
            monitors,
            process: Some(process),
            tap: Some(tap),
            stop_signal: launch.stop_signal,
            stop_requested: AtomicBool::new(false),
            _recorder: recorder,
            _http_port: Some(http_port),
            _dir: Some(dir),
            _bridge: None,
        })
    }

    /// Bridges a gRPC host to the bus, under a host id of this run.
    async fn attach_grpc(&self, grpc: &GrpcHost) -> Result<RunningHost, LaunchError> {
        let channel = Channel::new(&grpc.url)?;
        let broker_url = format!("nats://{}{}", self.broker_credentials, self.broker);
        let host_id = format!("grpc-{}", self.run);
        let bridge = Bridge::start(&broker_url, &host_id, channel).await?;
        let existing = ExistingHost {
            nats_url: broker_url,
            host_id,
            http_addr: grpc.http_addr.clone(),
        };
        let announces_http = false;
        let mut host = self.attach(&existing, announces_http).await?;
        host._bridge = Some(bridge);
        Ok(host)
    }

    /// Attaches to a host on the bus. With `announces_http`, the address of its ingress can be
    /// taken from its heartbeat.
    async fn attach(
        &self,
        existing: &ExistingHost,
        announces_http: bool,
    ) -> Result<RunningHost, LaunchError> {
        let checks_disturb_host = false;
        let monitors = MonitorSet::new(self.secrets.clone(), checks_disturb_host);
        monitors.set_host_id(&existing.host_id);
        let recorder = monitor_feed::feed_from_bus(&self.bus, &existing.host_id, monitors.clone());
        let recorder = AbortOnDropHandle::new(tokio::spawn(recorder));
        self.await_host(
            &monitors,
            Some(&existing.host_id),
            None,
            EXISTING_HOST_TIMEOUT,
        )
        .await?;
        let http_addr = match &existing.http_addr {
            Some(http_addr) => Some(http_addr.clone()),
            None if announces_http => self.announced_http(&existing.host_id).await,
            None => None,
        };
        Ok(RunningHost {
            id: existing.host_id.clone(),
            http_addr,
            trace: monitors.trace.clone(),
            monitors,
            process: None,
            tap: None,
            stop_signal: Signal::SIGTERM,
            stop_requested: AtomicBool::new(false),
            _recorder: recorder,
            _http_port: None,
            _dir: None,
            _bridge: None,
        })
    }

    /// Waits for the first heartbeat and returns the host's id. A host with a known id may reply to
    /// a request instead.
    async fn await_host(
        &self,
        monitors: &MonitorSet,
        known_id: Option<&str>,
        process: Option<&Process>,
        timeout: Duration,
    ) -> Result<String, LaunchError> {
        let started_at = Instant::now();
        // The next heartbeat of an existing host may be 15 s away.
        let probe_after = if process.is_some() {
            PROBE_AFTER
        } else {
            Duration::ZERO
        };
        loop {
            if let Some(id) = first_heartbeat(monitors) {
                return Ok(id);
            }
            if let Some(status) = process.and_then(Process::exit_status) {
                return Err(LaunchError::Exited {
                    status: status.to_string(),
                    log: log_end(process),
                });
            }
            if let Some(id) = known_id
                && started_at.elapsed() >= probe_after
                && self.responds(id).await
            {
                return Ok(id.to_owned());
            }
            if started_at.elapsed() >= timeout {
                let host =
                    known_id.map_or_else(|| "the host".to_owned(), |id| format!("host {id:?}"));
                return Err(LaunchError::Silent {
                    host,
                    waited: timeout,
                    log: log_end(process),
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns whether the host replies to a status request.
    async fn responds(&self, id: &str) -> bool {
        let subject = nats::command_subject(id, "workload.status");
        let payload = Bytes::from_static(b"{\"workloadId\":\"berth-never-started\"}");
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

    /// Returns the ingress that the heartbeat announces, on loopback.
    async fn announced_http(&self, id: &str) -> Option<String> {
        let subject = nats::command_subject(id, "heartbeat");
        let inbox = format!("http.{id}");
        let payload = Bytes::from_static(b"{}");
        let mut replies = self
            .bus
            .request(&subject, &inbox, payload, &Headers::none())
            .await
            .ok()?;
        let delivery = replies.next(deadlines::REPLY.limit).await?;
        let heartbeat: serde_json::Value = serde_json::from_slice(&delivery.payload).ok()?;
        let port = heartbeat
            .get("httpPort")?
            .as_u64()
            .filter(|port| *port > 0)?;
        Some(format!("127.0.0.1:{port}"))
    }
}

fn first_heartbeat(monitors: &MonitorSet) -> Option<String> {
    let first = monitors.trace.first(|frame: &Frame| {
        frame.direction == crate::wire::trace::Direction::FromHost
            && frame.subject.starts_with("runtime.operator.heartbeat.")
    });
    let subject = first?.subject;
    subject
        .strip_prefix("runtime.operator.heartbeat.")
        .map(str::to_owned)
}

/// Reserves a port while the socket exists. The host can still listen on it, with `SO_REUSEADDR`.
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
        format!("; end of the log:{end}")
    }
}
