//! The scheduler suite as a library: a target and options in, a report out.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::environment::{Environment, EnvironmentConfig};
use super::scenario::{Need, Scenario};
use super::target::{Access, IntakeConfig, LaunchError, READY_WITHIN, Target};
use super::{preflight, runner, scenario, scenarios};
use crate::check::executor::ExecutorOptions;
use crate::check::outcome::{Outcome, error_chain};
use crate::check::run_options;
use crate::check::run_options::{RunOptions, UsageError};
use crate::check::wait::seconds;
use crate::report::run::{RunnableSuite, run};
use crate::report::{Report, TargetInfo};
use crate::spec::requirements::{Profile, Requirement};
use crate::testbed::broker::BrokerChoice;
use crate::testbed::clock::Patience;
use crate::testbed::secrets::Secrets;

/// Default number of scenarios that run at a time. Large, because scenarios spend nearly all of
/// their time waiting.
pub const JOBS: usize = 24;
/// Maximum number of scenarios with their own scheduler that run at a time.
const MAX_OWN_SCHEDULERS: usize = 6;
/// Time for the scheduler to exit after a diagnosis.
const DIAGNOSIS_GRACE: Duration = Duration::from_secs(5);

/// A configured suite.
#[derive(Clone)]
pub struct Suite {
    /// Scheduler to judge.
    pub target: Target,
    /// Selection of scenarios, and options of the run.
    pub options: RunOptions,
    /// Whether a canary workload must run before the first scenario.
    pub preflight: bool,
    /// Ends the run as soon as this requirement is violated. The self test needs no other result.
    pub until_violated: Option<&'static Requirement>,
}

impl Suite {
    /// Returns a suite for `target` with default options.
    pub fn new(target: Target) -> Suite {
        Suite {
            target,
            options: RunOptions::new(super::catalog(), JOBS),
            preflight: true,
            until_violated: None,
        }
    }

    fn config(&self) -> EnvironmentConfig {
        EnvironmentConfig {
            target: Arc::new(self.target.clone()),
            broker: self.options.broker.clone(),
            run_token: run_options::run_token(),
            patience: Patience::start(),
            secrets: Arc::default(),
            name_prefix_count: Arc::new(AtomicU64::new(0)),
        }
    }

    async fn set_up(&self, config: &EnvironmentConfig) -> Result<Environment, String> {
        let environment = config.start_shared().await;
        let environment = environment.map_err(|error: LaunchError| error_chain(&error))?;
        if self.preflight {
            self.run_canary(&environment).await?;
        }
        Ok(environment)
    }

    async fn run_canary(&self, environment: &Environment) -> Result<Duration, String> {
        let launch = self.target.launch();
        let ready_within = launch.map_or(READY_WITHIN, |launch| launch.ready_within);
        preflight::run_canary(environment, ready_within).await
    }

    /// Verifies that the broker and the scheduler work: a canary workload must run. Returns what
    /// was found, line by line.
    ///
    /// # Errors
    /// The broker or the scheduler does not start, or the canary does not run in time.
    pub async fn diagnose(&self) -> Result<Vec<String>, String> {
        let environment = self.config().start_own().await;
        let environment = environment.map_err(|error: LaunchError| error_chain(&error))?;
        let canary = self.run_canary(&environment).await;
        let broker = format!("broker {}", environment.scheduler.bus.broker.name);
        environment.shut_down(DIAGNOSIS_GRACE).await;
        let took = seconds(canary?);
        let scheduler = format!(
            "scheduler {}: a submitted workload ran on a simulated host after {took}",
            self.target.name
        );
        Ok(vec![broker, scheduler])
    }

    /// Runs the suite and returns its report.
    ///
    /// Cancel safe: dropping the future stops every scheduler that the suite has launched.
    pub async fn run(&self) -> Report {
        run(self).await
    }
}

impl Suite {
    /// Returns why the target's form of intake excludes a scenario, if it does. The requirements of
    /// the scenario are also judged by others, so that they remain measured.
    fn intake_reason(&self, scenario: &Scenario) -> Option<&'static str> {
        let is_directory = matches!(self.target.intake, IntakeConfig::Dir { .. });
        let excluded = scenario.needs.contains(&Need::Directory) && !is_directory;
        excluded.then_some("its manifests are not in a directory")
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
            let text = "--broker conflicts with a running scheduler, which already has a broker";
            return Err(UsageError::Contradiction(text.to_owned()));
        }
        let known: Vec<&str> = scenarios()
            .filter_map(|scenario| scenario.feature)
            .chain([scenario::CHILDREN])
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
            Access::Running { nats_url } => {
                format!(
                    "--nats-url {}",
                    crate::wire::nats::without_credentials(nats_url)
                )
            }
        }
    }

    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Scenario>, Vec<Outcome>) {
        let (mut selected, mut not_selected) = (Vec::new(), Vec::new());
        for scenario in scenarios() {
            let slow = scenario.is_slow_with(&self.target.timings);
            let waits = (scenario.waits)(&self.target.timings);
            let reason = self.options.skip_reason(scenario, profiles, waits, slow);
            let reason = reason.or_else(|| self.intake_reason(scenario));
            match reason {
                None => selected.push(scenario),
                Some(reason) => not_selected.push(run_options::not_run(scenario, reason)),
            }
        }
        (selected, not_selected)
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
        report.run.id = config.run_token.clone();
        report.environment.broker = environment.scheduler.bus.broker.name.clone();
        let (secrets, patience) = (config.secrets.clone(), config.patience.clone());
        let options = ExecutorOptions {
            jobs: self.options.jobs,
            own_targets: MAX_OWN_SCHEDULERS,
            repeat: self.options.repeat,
            seed: self.options.seed,
            wire: self.options.wire,
            isolated: false,
        };
        let stop = runner::StopConditions {
            cancelled: &self.options.stop,
            until_violated: self.until_violated,
        };
        let observer = self.options.observer.as_ref();
        let outcomes = runner::run(selected, config, environment, &options, observer, stop).await;
        let current_patience = patience.current();
        report.environment.patience_ms = current_patience.as_secs_f64() * 1000.0;
        report.environment.timer_lateness_ms =
            patience.clock.max_timer_lateness().as_secs_f64() * 1000.0;
        (outcomes, secrets)
    }
}
