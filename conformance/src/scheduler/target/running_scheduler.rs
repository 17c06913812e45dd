//! A bus with a scheduler, which can be launched, stopped, killed, and relaunched with the same
//! directory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_broker::subject_matches;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Access, IntakeConfig, KubernetesConfig, Launch, Target};
use crate::scheduler::intake::{DirIntake, ExecIntake, Intake, IntakeError, KubeIntake};
use crate::scheduler::manifest::NAMESPACE;
use crate::testbed::broker;
use crate::testbed::broker::{BrokerChoice, BrokerStartError, RunningBroker};
use crate::testbed::process::{Process, ProcessError};
use crate::testbed::program::expand_placeholders;
use crate::testbed::tap::{Frame, FrameKind, Mark, Outage, OutageMode, Tap, TapError};
use crate::wire::nats::heartbeat_subject;

/// Failure to start a bus or a scheduler.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The broker does not start.
    #[error(transparent)]
    Broker(#[from] BrokerStartError),
    /// The command of the scheduler cannot be executed.
    #[error(transparent)]
    Launch(#[from] ProcessError),
    /// The tap cannot listen.
    #[error("cannot start the tap proxy")]
    Tap(#[from] TapError),
    /// The directory of the scheduler cannot be created.
    #[error("cannot create a directory for the scheduler")]
    Directory(#[source] std::io::Error),
    /// No kubeconfig file is configured.
    #[error("the kube intake needs --kubeconfig, KUBECONFIG or `kubeconfig` in target.toml")]
    NoKubeconfig,
    /// The intake cannot be opened.
    #[error("cannot open the intake")]
    Intake(#[source] IntakeError),
}

/// A broker behind two taps, one for the scheduler and one for the hosts, so that either can be
/// disconnected.
#[derive(Debug)]
pub struct TappedBus {
    /// The broker.
    pub broker: RunningBroker,
    scheduler_tap: Tap,
    hosts_tap: Tap,
}

impl TappedBus {
    /// Starts the broker and the taps.
    ///
    /// # Errors
    /// The broker or a tap does not start.
    pub async fn start(choice: &BrokerChoice) -> Result<TappedBus, LaunchError> {
        let broker = broker::start(choice).await?;
        let scheduler_tap = Tap::start(broker.addr).await?;
        let hosts_tap = Tap::start(broker.addr).await?;
        Ok(TappedBus {
            broker,
            scheduler_tap,
            hosts_tap,
        })
    }

    /// Tap between the scheduler and the broker.
    pub fn tap(&self) -> &Tap {
        &self.scheduler_tap
    }

    /// URL to which simulated hosts connect.
    pub fn hosts_url(&self) -> String {
        self.url(&self.hosts_tap)
    }

    /// Disconnects the scheduler from the broker until the returned outage is restored.
    pub async fn disconnect_scheduler(&self) -> Outage {
        self.scheduler_tap.start_outage(OutageMode::Refuse).await
    }

    /// Disconnects every host from the broker until the returned outage is restored.
    pub async fn disconnect_hosts(&self) -> Outage {
        self.hosts_tap.start_outage(OutageMode::Refuse).await
    }

    /// Returns the number of open connections of hosts.
    pub fn host_connections(&self) -> usize {
        self.hosts_tap.connections()
    }

    /// Waits until no host is connected, at most for `within`.
    pub async fn wait_for_host_disconnects(&self, within: Duration) {
        // Remaining connections are dropped with the broker.
        let _ = tokio::time::timeout(within, self.hosts_tap.wait_until_disconnected()).await;
    }

    fn url(&self, tap: &Tap) -> String {
        let credentials = format!("nats://{}", self.broker.credentials);
        tap.url().replace("nats://", &credentials)
    }
}

/// A scheduler on a bus. Dropping it kills its process.
#[derive(Debug)]
pub struct RunningScheduler {
    /// Process of the scheduler. Dropped before the bus.
    process: Mutex<Option<Arc<Process>>>,
    /// Bus of the scheduler and the simulated hosts.
    pub bus: TappedBus,
    /// Intake of the scheduler.
    pub intake: Intake,
    target: Arc<Target>,
    launched_at: Mutex<Instant>,
    dir: TempDir,
    namespace: String,
}

impl RunningScheduler {
    /// Starts a bus, and the scheduler if the suite launches it.
    ///
    /// # Errors
    /// The bus or the scheduler does not start.
    pub async fn start(
        target: Arc<Target>,
        choice: &BrokerChoice,
    ) -> Result<RunningScheduler, LaunchError> {
        let choice = match &target.access {
            Access::Running { nats_url } => BrokerChoice::Url(nats_url.clone()),
            Access::Launch(_) => choice.clone(),
        };
        let bus = TappedBus::start(&choice).await?;
        let dir = tempfile::Builder::new()
            .prefix("berth-scheduler-")
            .tempdir()
            .map_err(LaunchError::Directory)?;
        let namespace = namespace(&target.intake);
        let values = values(&bus, dir.path(), &target.intake, &namespace);
        let intake = open_intake(&target.intake, &values, &namespace).await?;
        let scheduler = RunningScheduler {
            bus,
            intake,
            target,
            process: Mutex::new(None),
            launched_at: Mutex::new(Instant::now()),
            dir,
            namespace,
        };
        scheduler.launch()?;
        Ok(scheduler)
    }

    /// Launches the process of the scheduler. The directory keeps its contents.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub fn launch(&self) -> Result<(), ProcessError> {
        let process = self.launch_another()?;
        *self
            .launched_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        *self.lock() = process.map(Arc::new);
        Ok(())
    }

    /// Waits until the scheduler has subscribed to heartbeats, at most for `within`, because it
    /// cannot receive heartbeats that are sent before its subscription.
    pub async fn wait_until_subscribed(&self, within: Duration) {
        if self.process().is_none() {
            return;
        }
        let subscribes = |frame: &Frame| {
            let covers_heartbeats =
                |subject: &str| subject_matches(subject, &heartbeat_subject("host"));
            let subject = frame.subject.as_ref();
            frame.kind == FrameKind::Subscribe
                && subject.is_some_and(|subject| covers_heartbeats(subject))
        };
        let deadline = tokio::time::Instant::now() + within;
        // A scheduler that never subscribes fails the checks.
        let _ = self
            .bus
            .tap()
            .wait_for(Mark::START, subscribes, deadline)
            .await;
    }

    /// Launches another process with the same command. Returns `None` if the suite does not launch
    /// the scheduler.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub fn launch_another(&self) -> Result<Option<Process>, ProcessError> {
        let Some(Launch { command, env, .. }) = self.target.launch() else {
            return Ok(None);
        };
        let owned = values(
            &self.bus,
            self.dir.path(),
            &self.target.intake,
            &self.namespace,
        );
        let values: Vec<(&str, &str)> = owned
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let command: Vec<String> = command
            .iter()
            .map(|word| expand_placeholders(word, &values))
            .collect();
        let env = env
            .iter()
            .map(|(name, value)| (name.clone(), expand_placeholders(value, &values)))
            .collect();
        Process::launch(&command, &env).map(Some)
    }

    /// Kills the process with SIGKILL.
    pub async fn kill(&self) {
        let process = self.lock().take();
        if let Some(process) = process {
            process.signal(Signal::SIGKILL);
            process.wait_exit(Duration::from_secs(5)).await;
        }
    }

    /// Stops the process with its stop signal. If the process still runs after `grace`, kills it
    /// and returns `false`.
    pub async fn stop(&self, grace: Duration) -> bool {
        let process = self.lock().take();
        let signal = self
            .target
            .launch()
            .map_or(Signal::SIGTERM, |launch| launch.stop_signal);
        match process {
            None => true,
            Some(process) => {
                process.signal(signal);
                process.wait_exit(grace).await.is_some()
            }
        }
    }

    /// Returns the process, if the suite has launched it and has not ended it.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.lock().clone()
    }

    /// Directory of the scheduler.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns whether the process has exited although the suite did not stop it.
    pub fn has_exited(&self) -> bool {
        self.process().is_some_and(|process| process.has_exited())
    }

    /// Returns the log of the process.
    pub fn log(&self) -> Option<String> {
        self.process().map(|process| process.log())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn values(
    bus: &TappedBus,
    dir: &Path,
    intake: &IntakeConfig,
    namespace: &str,
) -> Vec<(String, String)> {
    let kubeconfig = kubeconfig(intake).unwrap_or_default();
    let values = [
        ("nats_url", bus.url(&bus.scheduler_tap)),
        ("dir", dir.display().to_string()),
        ("kubeconfig", kubeconfig),
        ("namespace", namespace.to_owned()),
    ];
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn kubeconfig(intake: &IntakeConfig) -> Option<String> {
    let IntakeConfig::Kube(KubernetesConfig { kubeconfig, .. }) = intake else {
        return None;
    };
    let from_env = || std::env::var("KUBECONFIG").ok();
    kubeconfig
        .clone()
        .or_else(from_env)
        .filter(|path| !path.is_empty())
}

/// Returns the namespace that manifests call `default`: the configured one, or a new one.
fn namespace(intake: &IntakeConfig) -> String {
    match intake {
        IntakeConfig::Dir { .. } | IntakeConfig::Exec(_) => NAMESPACE.to_owned(),
        IntakeConfig::Kube(config) => config
            .namespace
            .clone()
            .unwrap_or_else(|| format!("berth-{:08x}", rand::random::<u32>())),
    }
}

async fn open_intake(
    config: &IntakeConfig,
    owned: &[(String, String)],
    namespace: &str,
) -> Result<Intake, LaunchError> {
    let values: Vec<(&str, &str)> = owned
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    match config {
        IntakeConfig::Dir { manifests, status } => {
            let manifests = expand_placeholders(manifests, &values);
            std::fs::create_dir_all(&manifests).map_err(LaunchError::Directory)?;
            let status = expand_placeholders(status, &values);
            Ok(Intake::Dir(DirIntake::new(
                manifests.as_ref(),
                status.as_ref(),
            )))
        }
        IntakeConfig::Exec(config) => Ok(Intake::Exec(ExecIntake::new(config.clone(), &values))),
        IntakeConfig::Kube(_) => {
            let path = kubeconfig(config).ok_or(LaunchError::NoKubeconfig)?;
            let opened = KubeIntake::open(path.as_ref(), namespace).await;
            Ok(Intake::Kube(opened.map_err(LaunchError::Intake)?))
        }
    }
}
