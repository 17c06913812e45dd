//! The conformance suite for hosts, as a library.

mod builder;

pub use self::builder::Builder;
pub use crate::check::run_options::UsageError;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::check::Check;
use super::eligibility::TargetFacts;
use super::preflight::PreflightResult;
use super::target::{Access, Launcher, RunningHost, Target};
use super::{checks, concurrency, eligibility, preflight, runner};
use crate::check::executor::ExecutorOptions;
use crate::check::isolation::HostIsolation;
use crate::check::outcome::{Outcome, error_chain};
use crate::check::run_options;
use crate::check::run_options::RunOptions;
use crate::report::run::{RunnableSuite, run};
use crate::report::{Report, TargetInfo};
use crate::spec::requirements::Profile;
use crate::testbed::beacon::BeaconServer;
use crate::testbed::broker;
use crate::testbed::broker::{BrokerChoice, RunningBroker};
use crate::testbed::fixture::Fixture;
use crate::testbed::images::Images;
use crate::testbed::registry::Registry;
use crate::testbed::secrets::Secrets;
use crate::wire::nats::Bus;

/// Default number of concurrent checks. Two cores are sufficient for them, because checks spend
/// most of their time waiting.
pub const JOBS: usize = 16;
/// Maximum number of hosts that run at the same time, besides the shared host. Each of them is
/// launched for one check. The limit is low, because each host may compile guests.
pub const MAX_OWN_HOSTS: usize = 4;

/// The conformance suite with its settings. Created by [`Suite::builder`].
#[derive(Clone)]
pub struct Suite {
    target: Target,
    options: RunOptions,
}

/// Reason why the run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The broker cannot start.
    #[error(transparent)]
    Broker(#[from] broker::BrokerStartError),
    /// The suite cannot connect to the broker.
    #[error(transparent)]
    Bus(#[from] crate::wire::nats::BusError),
    /// A server of the suite cannot listen.
    #[error("cannot start the {server} of the suite")]
    Server {
        /// Name of the server.
        server: &'static str,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The host does not start or does not respond.
    #[error(transparent)]
    Host(#[from] crate::host::target::LaunchError),
}

/// Running broker, fixture and host.
#[derive(Debug)]
pub struct Testbed {
    /// Fixture of the run.
    pub fixture: Arc<Fixture>,
    /// Launcher of hosts in addition to the shared host.
    pub launcher: Launcher,
    /// Shared host.
    pub host: RunningHost,
    /// Result of the preflight.
    pub preflight: PreflightResult,
    /// Broker.
    pub broker: RunningBroker,
}

impl Suite {
    /// Creates a suite for a target, with default settings.
    pub fn new(target: Target) -> Suite {
        Suite {
            target,
            options: RunOptions::new(crate::host::catalog(), JOBS),
        }
    }

    /// Creates a builder.
    pub fn builder() -> Builder {
        Builder::new(Suite::new(Target::command(Vec::<String>::new())))
    }

    /// Starts the broker, the fixture and the host, and runs the preflight.
    ///
    /// # Errors
    /// Fails if the broker, the fixture or the host does not start.
    pub async fn set_up(&self) -> Result<Testbed, SetUpError> {
        let server_error = |server| move |source| SetUpError::Server { server, source };
        let run = run_options::run_token();
        let broker = match &self.target.access {
            Access::Running(existing) => {
                broker::start(&BrokerChoice::Url(existing.nats_url.clone())).await?
            }
            Access::Launch(_) | Access::Grpc(_) => broker::start(&self.options.broker).await?,
        };
        let bus = Bus::connect(&broker.url, &run).await?;
        let registry = Registry::start().await.map_err(server_error("registry"))?;
        let beacons = BeaconServer::start()
            .await
            .map_err(server_error("beacon server"))?;
        let images = Images::new(self.target.images.clone(), self.target.only_own_images);
        let authority = registry.authority().to_owned();
        let fixture = Arc::new(Fixture::new(
            run.clone(),
            bus.clone(),
            registry,
            beacons,
            images,
        ));
        let launcher = Launcher {
            target: Arc::new(self.target.clone()),
            bus,
            broker: broker.addr,
            broker_credentials: broker.credentials.clone(),
            registry: authority,
            run,
            secrets: fixture.secrets.clone(),
            next_host: Arc::new(AtomicU64::new(0)),
        };
        let checks_disturb_host = false;
        let host = launcher.bring_up(checks_disturb_host).await?;
        launcher.verify_distinct_ids(&host).await?;
        let preflight = preflight::run(&fixture, &host).await;
        Ok(Testbed {
            fixture,
            launcher,
            host,
            preflight,
            broker,
        })
    }

    /// Runs the suite and returns its report.
    ///
    /// Cancel safe: dropping the future stops every host that the suite launched.
    pub async fn run(&self) -> Report {
        run(self).await
    }
}

impl RunnableSuite for Suite {
    type Check = Check;
    type Testbed = Testbed;

    fn options(&self) -> &RunOptions {
        &self.options
    }

    fn options_mut(&mut self) -> &mut RunOptions {
        &mut self.options
    }

    fn validate(&self) -> Result<(), UsageError> {
        if matches!(self.target.access, Access::Running(_))
            && self.options.broker != BrokerChoice::Embedded
        {
            let text =
                "--broker conflicts with a host that is already running, which has its own broker";
            return Err(UsageError::Contradiction(text.to_owned()));
        }
        let known: Vec<&str> = checks::all()
            .filter_map(|check| check.feature.map(|(name, _)| name))
            .collect();
        self.options
            .validate_features(&self.target.features, &known)?;
        self.options.validate()
    }

    fn claimed_profiles(&self) -> &[Profile] {
        &self.target.profiles
    }

    fn target_info(&self) -> TargetInfo {
        let launch = self.target.launch();
        let claimed = self.target.profiles.iter();
        TargetInfo {
            name: self.target.name.clone(),
            version: self.target.version.clone(),
            host_id: None,
            command: launch
                .map(|launch| launch.command.clone())
                .unwrap_or_default(),
            claimed_profiles: claimed.map(|profile| profile.name()).collect(),
            features: self.target.features.clone(),
        }
    }

    fn target_arguments(&self) -> String {
        if let Some(file) = &self.target.file {
            return run_options::target_file_arguments(file);
        }
        match &self.target.access {
            Access::Launch(launch) => run_options::command_arguments(&launch.command),
            Access::Running(existing) => {
                let url = crate::wire::nats::without_credentials(&existing.nats_url);
                let host_id = run_options::shell_quoted(&existing.host_id);
                format!("--nats-url {url} --host-id {host_id}")
            }
            Access::Grpc(grpc) => format!("--grpc-url {}", run_options::shell_quoted(&grpc.url)),
        }
    }

    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Check>, Vec<Outcome>) {
        let (mut selected, mut skipped) = (Vec::new(), Vec::new());
        let over_grpc = matches!(self.target.access, Access::Grpc(_));
        // A check is slow because of its target only if the target declares times. Only schedulers
        // do.
        let target_makes_slow = false;
        for check in checks::all() {
            let waits = Duration::from_secs(check.waits_s);
            match self
                .options
                .skip_reason(check, profiles, waits, target_makes_slow)
            {
                None if over_grpc && !eligibility::runs_over_grpc(check) => {
                    let reason =
                        "needs a command that gRPC lacks, or a host that the suite launches";
                    skipped.push(run_options::not_run(check, reason));
                }
                None => selected.push(check),
                Some(reason) => skipped.push(run_options::not_run(check, reason)),
            }
        }
        (selected, skipped)
    }

    async fn start_testbed(&self) -> Result<Testbed, String> {
        self.set_up().await.map_err(|error| error_chain(&error))
    }

    async fn execute(
        &self,
        selected: &[&'static Check],
        testbed: Testbed,
        report: &mut Report,
    ) -> (Vec<Outcome>, Arc<Secrets>) {
        let Testbed {
            fixture,
            launcher,
            host,
            preflight,
            broker,
        } = testbed;
        report.run.id = fixture.run_id.clone();
        report.environment.broker = broker.name.clone();
        report.environment.rtt_ms = preflight.slowest_rtt.as_secs_f64() * 1000.0;
        report.target.host_id = Some(host.id.clone());
        report.target.version = self.target.version.clone().or(preflight.version());
        let facts = TargetFacts::new(&self.target, &fixture.images, host.http_addr.is_some());
        let max_jobs = self.target.max_jobs.unwrap_or(usize::MAX);
        let unanswered = if shares_host(selected) {
            concurrency::unanswered_during_start(&fixture, &host).await
        } else {
            Vec::new()
        };
        let isolated = !unanswered.is_empty();
        let options = ExecutorOptions {
            jobs: self.options.jobs.min(max_jobs),
            own_targets: MAX_OWN_HOSTS.min(self.target.max_hosts.unwrap_or(usize::MAX)),
            repeat: self.options.repeat,
            seed: self.options.seed,
            wire: self.options.wire,
            isolated,
        };
        let mut outcomes = runner::run(
            selected,
            &facts,
            fixture.clone(),
            launcher,
            host,
            &options,
            self.options.observer.as_ref(),
            &self.options.stop,
        )
        .await;
        drop(broker);
        if isolated {
            report.notes.push(concurrency::NOTE.to_owned());
            outcomes.push(concurrency::outcome(&unanswered));
        }
        report.environment.patience_ms = fixture.patience().as_secs_f64() * 1000.0;
        report.environment.timer_lateness_ms =
            fixture.clock.max_timer_lateness().as_secs_f64() * 1000.0;
        (outcomes, fixture.secrets.clone())
    }
}

/// Returns whether several checks run on the shared host.
fn shares_host(checks: &[&'static Check]) -> bool {
    let shared = |check: &&&'static Check| check.host == HostIsolation::Shared;
    checks.iter().filter(shared).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_arguments_name_the_target_file_if_it_exists() {
        let mut target = Target::command(["./my-host"]);
        assert_eq!(
            Suite::new(target.clone()).target_arguments(),
            "-- ./my-host"
        );
        target.file = Some("my target.toml".into());
        let arguments = Suite::new(target).target_arguments();
        assert_eq!(arguments, "--target 'my target.toml'");
    }

    #[test]
    fn rejects_patterns_that_match_nothing() {
        let with = |pattern: &str| Suite::builder().only(pattern).build().validate();
        assert!(with("wire/*").is_ok());
        assert!(with("HOST-WIRE-003").is_ok());
        let error = with("wire/unknown-comand").unwrap_err().to_string();
        assert!(
            error.contains("did you mean `wire/unknown-command`"),
            "{error}"
        );
    }
}
