//! The scheduler suite as a library: what to judge, how, and the report of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::environment::{Environment, EnvironmentConfig};
use super::scenario::Scenario;
use super::target::{Access, LaunchError, READY_WITHIN, Target};
use super::{preflight, runner, scenarios};
use crate::check::executor::ExecutorOptions;
use crate::check::outcome::{Outcome, chain};
use crate::check::run_options;
use crate::check::run_options::{RunOptions, UsageError};
use crate::report::run::{RunnableSuite, run};
use crate::report::{Report, TargetInfo};
use crate::spec::requirements::{Profile, Requirement};
use crate::testbed::broker::BrokerChoice;
use crate::testbed::clock::Patience;
use crate::testbed::secrets::Secrets;

/// Scenarios at once: nearly all of their time is waiting.
pub const JOBS: usize = 24;
/// Schedulers of scenarios' own at once.
const OWN: usize = 6;

/// The suite with everything set.
#[derive(Clone)]
pub struct Suite {
    /// What is judged.
    pub target: Target,
    /// What was asked for.
    pub options: RunOptions,
    /// A canary has to run before anything is judged.
    pub examined: bool,
    /// Ends as soon as this is seen broken: what the self test wants to know then is known.
    pub until_broken: Option<&'static Requirement>,
}

impl Suite {
    /// A suite for a target, with all its defaults.
    pub fn new(target: Target) -> Suite {
        Suite {
            target,
            options: RunOptions::new(super::catalog(), JOBS),
            examined: true,
            until_broken: None,
        }
    }

    fn config(&self) -> EnvironmentConfig {
        EnvironmentConfig {
            target: Arc::new(self.target.clone()),
            broker: self.options.broker.clone(),
            run: run_options::run_token(),
            patience: Patience::start(),
            secrets: Arc::default(),
            tags: Arc::new(AtomicU64::new(0)),
        }
    }

    async fn set_up(&self, props: &EnvironmentConfig) -> Result<Environment, String> {
        let trouble = |failed: LaunchError| chain(&failed);
        let stage = props.stage(true, true).await.map_err(trouble)?;
        let within = self
            .target
            .launch()
            .map_or(READY_WITHIN, |launch| launch.ready_within);
        if self.examined {
            preflight::examine(&stage, within).await?;
        }
        Ok(stage)
    }

    /// Runs the suite and returns its report.
    ///
    /// Cancel safe: dropping the future stops every scheduler that the suite launched.
    pub async fn run(&self) -> Report {
        run(self).await
    }
}

impl RunnableSuite for Suite {
    type Check = Scenario;
    type Testbed = (Environment, EnvironmentConfig);

    fn options(&self) -> &RunOptions {
        &self.options
    }

    fn options_mut(&mut self) -> &mut RunOptions {
        &mut self.options
    }

    fn validate(&self) -> Result<(), UsageError> {
        let running = matches!(self.target.access, Access::Running { .. });
        if running && self.options.broker != BrokerChoice::Embedded {
            let text = "a scheduler that runs already has its broker: leave out --broker";
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
            Access::Running { nats_url } => {
                format!(
                    "--nats-url {}",
                    crate::wire::nats::without_credentials(nats_url)
                )
            }
        }
    }

    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Scenario>, Vec<Outcome>) {
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for scenario in scenarios() {
            let long = scenario.is_long(&self.target.timings);
            match self.options.reason_against(scenario, profiles, long) {
                None => selected.push(scenario),
                Some(reason) => others.push(run_options::not_run(scenario, reason)),
            }
        }
        (selected, others)
    }

    async fn start_testbed(&self) -> Result<Self::Testbed, String> {
        let config = self.config();
        let environment = self.set_up(&config).await?;
        Ok((environment, config))
    }

    async fn execute(
        &self,
        selected: &[&'static Scenario],
        (environment, config): Self::Testbed,
        report: &mut Report,
    ) -> (Vec<Outcome>, Arc<Secrets>) {
        report.run.id = config.run.clone();
        report.environment.broker = environment.live.bus.broker.name.clone();
        let (secrets, patience) = (config.secrets.clone(), config.patience.clone());
        let options = ExecutorOptions {
            jobs: self.options.jobs,
            own_hosts: OWN,
            repeat: self.options.repeat,
            seed: self.options.seed,
        };
        let ends = runner::Ends {
            stop: &self.options.stop,
            broken: self.until_broken,
        };
        let observer = self.options.observer.as_ref();
        let outcomes = runner::run(selected, config, environment, &options, observer, ends).await;
        report.environment.patience_ms = patience.now().as_secs_f64() * 1000.0;
        report.environment.timer_lateness_ms =
            patience.clock.worst_lateness().as_secs_f64() * 1000.0;
        (outcomes, secrets)
    }
}
