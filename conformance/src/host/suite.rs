//! The suite as a library: which host to judge, how, and the report of it.

mod builder;

pub use self::builder::Builder;
pub use crate::check::run_options::UsageError;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::check::Check;
use super::eligibility::Facts;
use super::preflight::Examination;
use super::target::{Access, Launcher, RunningHost, Target};
use super::{checks, eligibility, preflight, runner};
use crate::check::executor::ExecutorOptions;
use crate::check::outcome::{Outcome, chain};
use crate::check::run_options;
use crate::check::run_options::RunOptions;
use crate::report::run::{RunnableSuite, run};
use crate::report::{Report, TargetInfo};
use crate::spec::requirements::Profile;
use crate::testbed::beacon::Beacons;
use crate::testbed::broker;
use crate::testbed::broker::{BrokerChoice, RunningBroker};
use crate::testbed::fixture::Fixture;
use crate::testbed::images::Images;
use crate::testbed::registry::Registry;
use crate::testbed::secrets::Secrets;
use crate::wire::nats::Bus;

/// Checks at once: most of them wait, and two cores keep up with so many.
pub const JOBS: usize = 16;
/// Hosts of checks' own at once: each may compile guests.
pub const OWN_HOSTS: usize = 4;

/// The conformance suite with everything set. Made by [`Suite::builder`].
#[derive(Clone)]
pub struct Suite {
    target: Target,
    options: RunOptions,
}

/// There is nothing to judge, or nothing to judge it with.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No broker.
    #[error(transparent)]
    Broker(#[from] broker::BrokerStartError),
    /// No connection to it.
    #[error(transparent)]
    Bus(#[from] crate::wire::nats::BusError),
    /// The suite's own servers cannot listen.
    #[error("the suite's own {what} cannot start")]
    Equipment {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No host.
    #[error(transparent)]
    Host(#[from] crate::host::target::LaunchError),
}

/// A bench with a host on it.
#[derive(Debug)]
pub struct Testbed {
    /// The equipment.
    pub fixture: Arc<Fixture>,
    /// Brings up more hosts.
    pub launcher: Launcher,
    /// The shared host.
    pub host: RunningHost,
    /// What the doctor found.
    pub examination: Examination,
    /// The broker.
    pub broker: RunningBroker,
}

impl Suite {
    /// A suite for a target, with all its defaults.
    pub fn new(target: Target) -> Suite {
        Suite {
            target,
            options: RunOptions::new(crate::host::catalog(), JOBS),
        }
    }

    /// Begins to put a suite together.
    pub fn builder() -> Builder {
        Builder::new(Suite::new(Target::command(Vec::<String>::new())))
    }

    /// Brings up broker, equipment and host, and lets the doctor look at them.
    ///
    /// # Errors
    /// One of them does not come up.
    pub async fn set_up(&self) -> Result<Testbed, Trouble> {
        let equipment = |what| move |source| Trouble::Equipment { what, source };
        let run = run_options::run_token();
        let broker = match &self.target.access {
            Access::Running(running) => {
                broker::start(&BrokerChoice::Url(running.nats_url.clone())).await?
            }
            Access::Launch(_) | Access::Grpc(_) => broker::start(&self.options.broker).await?,
        };
        let bus = Bus::connect(&broker.url, &run).await?;
        let registry = Registry::start().await.map_err(equipment("registry"))?;
        let beacons = Beacons::start().await.map_err(equipment("beacon server"))?;
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
            hosts: Arc::new(AtomicU64::new(0)),
        };
        let host = launcher.bring_up(false).await?;
        let examination = preflight::examine(&fixture, &host).await;
        Ok(Testbed {
            fixture,
            launcher,
            host,
            examination,
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
            let text = "a host that runs already has its broker: leave out --broker";
            return Err(UsageError::Contradiction(text.to_owned()));
        }
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

    fn target_words(&self) -> String {
        if let Some(file) = &self.target.file {
            return run_options::target_file_words(file);
        }
        match &self.target.access {
            Access::Launch(launch) => run_options::command_words(&launch.command),
            Access::Running(running) => {
                let url = crate::wire::nats::without_credentials(&running.nats_url);
                let host_id = run_options::quoted(&running.host_id);
                format!("--nats-url {url} --host-id {host_id}")
            }
            Access::Grpc(over) => format!("--grpc-url {}", run_options::quoted(&over.url)),
        }
    }

    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Check>, Vec<Outcome>) {
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for check in checks::all() {
            let over_grpc = matches!(self.target.access, Access::Grpc(_));
            match self.options.reason_against(check, profiles, false) {
                None if over_grpc && !eligibility::carries(check) => {
                    let reason = "asks for what gRPC has no call for, or for a process";
                    others.push(run_options::not_run(check, reason));
                }
                None => selected.push(check),
                Some(reason) => others.push(run_options::not_run(check, reason)),
            }
        }
        (selected, others)
    }

    async fn start_testbed(&self) -> Result<Testbed, String> {
        self.set_up().await.map_err(|trouble| chain(&trouble))
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
            examination,
            broker,
        } = testbed;
        report.run.id = fixture.run.clone();
        report.environment.broker = broker.name.clone();
        report.environment.rtt_ms = examination.slowest_rtt.as_secs_f64() * 1000.0;
        report.target.host_id = Some(host.id.clone());
        report.target.version = self.target.version.clone().or(examination.version());
        let facts = Facts::of(&self.target, &fixture.images, host.http_addr.is_some());
        let jobs_max = self.target.jobs_max.unwrap_or(usize::MAX);
        let options = ExecutorOptions {
            jobs: self.options.jobs.min(jobs_max),
            own_hosts: OWN_HOSTS.min(self.target.hosts_max.unwrap_or(usize::MAX)),
            repeat: self.options.repeat,
            seed: self.options.seed,
        };
        let outcomes = runner::run(
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
        report.environment.patience_ms = fixture.patience().as_secs_f64() * 1000.0;
        report.environment.timer_lateness_ms =
            fixture.clock.worst_lateness().as_secs_f64() * 1000.0;
        (outcomes, fixture.secrets.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_describes_is_judged_again_by_that_file() {
        let mut target = Target::command(["./my-host"]);
        assert_eq!(Suite::new(target.clone()).target_words(), "-- ./my-host");
        target.file = Some("my target.toml".into());
        let words = Suite::new(target).target_words();
        assert_eq!(words, "--target 'my target.toml'");
    }

    #[test]
    fn patterns_that_name_nothing_are_usage_errors() {
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
