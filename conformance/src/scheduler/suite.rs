//! The scheduler suite as a library: what to judge, how, and the report of it.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use super::{
    doctor, run,
    scenario::Scenario,
    scenarios,
    stage::{Props, Stage},
    target::{Access, NoScheduler, READY_WITHIN, Target},
};
use crate::{
    broker::Choice,
    clock::Patience,
    outcome::{Outcome, chain},
    plan::{self, Plan, Usage},
    report::{Report, TargetInfo},
    requirements::{Profile, Requirement},
    run::Options,
    side::Side,
};

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
    pub plan: Plan,
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
            plan: Plan::new(Side::Scheduler, JOBS),
            examined: true,
            until_broken: None,
        }
    }

    /// Whether everything that was asked for exists.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), Usage> {
        let running = matches!(self.target.access, Access::Running { .. });
        if running && self.plan.broker != Choice::Embedded {
            let text = "a scheduler that runs already has its broker: leave out --broker";
            return Err(Usage::Contradiction(text.to_owned()));
        }
        self.plan.validate()
    }

    /// Runs the suite. What keeps it from running stands in the report as its trouble.
    ///
    /// Cancel safe: dropping the future ends every scheduler that was launched.
    pub async fn run(&self) -> Report {
        let began = Instant::now();
        let plan = &self.plan;
        let profiles = plan.profiles(&self.target.profiles);
        let (selected, mut outcomes) = self.select(&profiles);
        let mut draft = plan.draft(self.target_info(), &profiles, &self.target_words());
        let checked = self.validate().map_err(|usage| chain(&usage));
        let known = match checked.and_then(|()| plan.checked()) {
            Ok(known) => known,
            Err(trouble) => {
                draft.trouble = Some(trouble);
                return plan.close(draft, &[], &profiles, began);
            }
        };
        let props = self.props();
        let secrets = props.secrets.clone();
        if selected.is_empty() {
            plan.enter(&mut draft, &mut outcomes, &known, &secrets);
            return plan.close(draft, &outcomes, &profiles, began);
        }
        let stage = tokio::select! {
            biased;
            () = plan.stop.cancelled() => Err("interrupted before the scheduler was up".to_owned()),
            stage = self.set_up(&props) => stage,
        };
        let stage = match stage {
            Ok(stage) => stage,
            Err(trouble) => {
                draft.trouble = Some(trouble);
                return plan.close(draft, &[], &profiles, began);
            }
        };
        draft.run.id = props.run.clone();
        draft.environment.broker = stage.live.bus.broker.name.clone();
        let patience = props.patience.clone();
        let options = Options {
            jobs: plan.jobs,
            own_hosts: OWN,
            repeat: plan.repeat,
            seed: plan.seed,
        };
        let observer = plan.observer.as_ref();
        let ends = run::Ends {
            stop: &plan.stop,
            broken: self.until_broken,
        };
        outcomes.extend(run::run(&selected, props, stage, &options, observer, ends).await);
        draft.environment.patience_ms = patience.now().as_secs_f64() * 1000.0;
        draft.environment.timer_lateness_ms =
            patience.clock.worst_lateness().as_secs_f64() * 1000.0;
        plan.enter(&mut draft, &mut outcomes, &known, &secrets);
        plan.close(draft, &outcomes, &profiles, began)
    }

    fn props(&self) -> Props {
        Props {
            target: Arc::new(self.target.clone()),
            broker: self.plan.broker.clone(),
            run: plan::run_token(),
            patience: Patience::start(),
            secrets: Arc::default(),
            tags: Arc::new(AtomicU64::new(0)),
        }
    }

    async fn set_up(&self, props: &Props) -> Result<Stage, String> {
        let trouble = |failed: NoScheduler| chain(&failed);
        let stage = props.stage(true, true).await.map_err(trouble)?;
        let within = self
            .target
            .launch()
            .map_or(READY_WITHIN, |launch| launch.ready_within);
        if self.examined {
            doctor::examine(&stage, within).await?;
        }
        Ok(stage)
    }

    /// The scenarios that run, and the outcomes of those that do not.
    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Scenario>, Vec<Outcome>) {
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for scenario in scenarios() {
            let long = scenario.is_long(&self.target.timings);
            match self.plan.reason_against(scenario, profiles, long) {
                None => selected.push(scenario),
                Some(reason) => others.push(plan::not_run(scenario, reason)),
            }
        }
        (selected, others)
    }

    /// How many scenarios would run.
    pub fn selected(&self) -> usize {
        let profiles = self.plan.profiles(&self.target.profiles);
        self.select(&profiles).0.len()
    }

    /// The scenarios that would not run, and why.
    pub fn not_selected(&self) -> Vec<(String, String)> {
        let profiles = self.plan.profiles(&self.target.profiles);
        let others = self.select(&profiles).1.into_iter();
        others
            .map(|outcome| (outcome.id, outcome.reason.unwrap_or_default()))
            .collect()
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

    /// What names the target on a command line.
    fn target_words(&self) -> String {
        if let Some(file) = &self.target.file {
            return plan::target_file_words(file);
        }
        match &self.target.access {
            Access::Launch(launch) => plan::command_words(&launch.command),
            Access::Running { nats_url } => {
                format!("--nats-url {}", crate::bus::without_credentials(nats_url))
            }
        }
    }
}
