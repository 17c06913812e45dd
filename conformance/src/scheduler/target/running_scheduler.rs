//! A bus with a scheduler on it: brought up, ended, killed, brought up again over the same directory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_broker::subject_matches;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Access, IntakePlan, KubePlan, Launch, Target};
use crate::scheduler::intake::{DirIntake, ExecIntake, Intake, IntakeError, KubeIntake};
use crate::scheduler::manifest::NAMESPACE;
use crate::testbed::broker;
use crate::testbed::broker::{BrokerChoice, BrokerStartError, RunningBroker};
use crate::testbed::process::{Process, ProcessError};
use crate::testbed::program::fill;
use crate::testbed::tap::{Frame, Kind, Mark, Outage, OutagePlan, Tap, TapError};
use crate::wire::nats::heartbeat_subject;

/// No scheduler to judge.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No broker.
    #[error(transparent)]
    Broker(#[from] BrokerStartError),
    /// The command cannot be executed.
    #[error(transparent)]
    Launch(#[from] ProcessError),
    /// The tap cannot listen.
    #[error("no tap")]
    Tap(#[from] TapError),
    /// There is no directory for it.
    #[error("no directory for the scheduler")]
    Directory(#[source] std::io::Error),
    /// Nothing says how to reach an API server.
    #[error("the kube intake needs --kubeconfig, KUBECONFIG or `kubeconfig` in target.toml")]
    NoKubeconfig,
    /// The intake does not work.
    #[error("no intake")]
    Intake(#[source] IntakeError),
}

/// A broker with taps before it: one for the scheduler, one for the hosts, so that it can be taken away from
/// either.
#[derive(Debug)]
pub struct Bus {
    /// The broker.
    pub broker: RunningBroker,
    scheduler: Tap,
    hosts: Tap,
}

impl Bus {
    /// Brings it up.
    ///
    /// # Errors
    /// The broker or a tap does not come up.
    pub async fn start(choice: &BrokerChoice) -> Result<Bus, LaunchError> {
        let broker = broker::start(choice).await?;
        let scheduler = Tap::start(broker.addr).await?;
        let hosts = Tap::start(broker.addr).await?;
        Ok(Bus {
            broker,
            scheduler,
            hosts,
        })
    }

    /// The tap between the scheduler and the broker.
    pub fn tap(&self) -> &Tap {
        &self.scheduler
    }

    /// Where simulated hosts connect.
    pub fn hosts_url(&self) -> String {
        self.url(&self.hosts)
    }

    /// Takes the broker away from the scheduler, until the guard is restored.
    pub async fn away_from_scheduler(&self) -> Outage {
        self.scheduler.cut(OutagePlan::Refuse).await
    }

    /// Takes the broker away from every host, until the guard is restored.
    pub async fn away_from_hosts(&self) -> Outage {
        self.hosts.cut(OutagePlan::Refuse).await
    }

    /// How many connections of hosts are open.
    pub fn connected_hosts(&self) -> usize {
        self.hosts.connections()
    }

    /// Waits until no host is connected any more, at most that long.
    pub async fn without_hosts(&self, within: Duration) {
        // What is left then is dropped with the broker.
        let _ = tokio::time::timeout(within, self.hosts.deserted()).await;
    }

    fn url(&self, tap: &Tap) -> String {
        let credentials = format!("nats://{}", self.broker.credentials);
        tap.url().replace("nats://", &credentials)
    }
}

/// A scheduler on a bus. Dropping it kills its process.
#[derive(Debug)]
pub struct RunningScheduler {
    /// Before the bus, so that it is dropped before it.
    process: Mutex<Option<Arc<Process>>>,
    /// The bus.
    pub bus: Bus,
    /// How it is given its work.
    pub intake: Intake,
    target: Arc<Target>,
    launched: Mutex<Instant>,
    dir: TempDir,
    namespace: String,
}

impl RunningScheduler {
    /// Brings up a bus, and a scheduler on it when `launched`.
    ///
    /// # Errors
    /// One of them does not come up.
    pub async fn start(
        target: Arc<Target>,
        choice: &BrokerChoice,
        launched: bool,
    ) -> Result<RunningScheduler, LaunchError> {
        let choice = match &target.access {
            Access::Running { nats_url } => BrokerChoice::Url(nats_url.clone()),
            Access::Launch(_) => choice.clone(),
        };
        let bus = Bus::start(&choice).await?;
        let dir = tempfile::Builder::new()
            .prefix("berth-scheduler-")
            .tempdir()
            .map_err(LaunchError::Directory)?;
        let namespace = namespace(&target.intake);
        let values = values(&bus, dir.path(), &target.intake, &namespace);
        let intake = intake(&target.intake, &values, &namespace).await?;
        let live = RunningScheduler {
            bus,
            intake,
            target,
            process: Mutex::new(None),
            launched: Mutex::new(Instant::now()),
            dir,
            namespace,
        };
        if launched {
            live.launch()?;
        }
        Ok(live)
    }

    /// Starts its process, over the directory as it is.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub fn launch(&self) -> Result<(), ProcessError> {
        let process = self.another()?;
        *self.launched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        *self.lock() = process.map(Arc::new);
        Ok(())
    }

    /// Waits until it listens for heartbeats, at most that long: whatever comes before that it cannot know.
    pub async fn listens(&self, within: Duration) {
        if self.process().is_none() {
            return;
        }
        let listens = |frame: &Frame| {
            let wide = |subject: &str| subject_matches(subject, &heartbeat_subject("host"));
            frame.kind == Kind::Subscribe && frame.subject.as_ref().is_some_and(|own| wide(own))
        };
        let deadline = tokio::time::Instant::now() + within;
        // One that never does is for the checks to find.
        let _ = self
            .bus
            .tap()
            .wait_for(Mark::START, listens, deadline)
            .await;
    }

    /// Starts one more process like it, beside it. `None` for a scheduler that runs already.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub fn another(&self) -> Result<Option<Process>, ProcessError> {
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
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let command: Vec<String> = command.iter().map(|word| fill(word, &values)).collect();
        let env = env
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, &values)))
            .collect();
        Process::launch(&command, &env).map(Some)
    }

    /// Kills its process, as a crash does.
    pub async fn kill(&self) {
        let process = self.lock().take();
        if let Some(process) = process {
            process.signal(Signal::SIGKILL);
            process.wait_exit(Duration::from_secs(5)).await;
        }
    }

    /// Asks its process to end, and kills it when it does not. Whether it ended by itself.
    pub async fn end(&self, within: Duration) -> bool {
        let process = self.lock().take();
        let signal = self
            .target
            .launch()
            .map_or(Signal::SIGTERM, |launch| launch.stop_signal);
        match process {
            None => true,
            Some(process) => {
                process.signal(signal);
                process.wait_exit(within).await.is_some()
            }
        }
    }

    /// Its process, when the suite launched it and has not ended it.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.lock().clone()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether its process ended although nobody asked it to.
    pub fn has_died(&self) -> bool {
        self.process().is_some_and(|process| process.has_exited())
    }

    /// Everything that it has said on its log.
    pub fn log(&self) -> Option<String> {
        self.process().map(|process| process.log())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn values(bus: &Bus, dir: &Path, plan: &IntakePlan, namespace: &str) -> Vec<(String, String)> {
    let kubeconfig = kubeconfig(plan).unwrap_or_default();
    let values = [
        ("nats_url", bus.url(&bus.scheduler)),
        ("dir", dir.display().to_string()),
        ("kubeconfig", kubeconfig),
        ("namespace", namespace.to_owned()),
    ];
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn kubeconfig(plan: &IntakePlan) -> Option<String> {
    let IntakePlan::Kube(KubePlan { kubeconfig, .. }) = plan else {
        return None;
    };
    let named = || std::env::var("KUBECONFIG").ok();
    kubeconfig
        .clone()
        .or_else(named)
        .filter(|path| !path.is_empty())
}

/// The namespace that manifests call `default`: that of the plan, or a new one.
fn namespace(plan: &IntakePlan) -> String {
    match plan {
        IntakePlan::Dir { .. } | IntakePlan::Exec(_) => NAMESPACE.to_owned(),
        IntakePlan::Kube(plan) => plan
            .namespace
            .clone()
            .unwrap_or_else(|| format!("berth-{:08x}", rand::random::<u32>())),
    }
}

async fn intake(
    plan: &IntakePlan,
    owned: &[(String, String)],
    namespace: &str,
) -> Result<Intake, LaunchError> {
    let values: Vec<(&str, &str)> = owned
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    match plan {
        IntakePlan::Dir { manifests, status } => {
            let manifests = fill(manifests, &values);
            std::fs::create_dir_all(&manifests).map_err(LaunchError::Directory)?;
            let status = fill(status, &values);
            Ok(Intake::Dir(DirIntake::new(
                manifests.as_ref(),
                status.as_ref(),
            )))
        }
        IntakePlan::Exec(plan) => Ok(Intake::Exec(ExecIntake::new(plan.clone(), &values))),
        IntakePlan::Kube(_) => {
            let path = kubeconfig(plan).ok_or(LaunchError::NoKubeconfig)?;
            let opened = KubeIntake::open(path.as_ref(), namespace).await;
            Ok(Intake::Kube(opened.map_err(LaunchError::Intake)?))
        }
    }
}
