//! The suite as a library: which host to judge, how, and the report of it.

mod builder;

pub use crate::plan::Usage;
pub use builder::Builder;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use crate::{
    beacon::Beacons,
    bench::Bench,
    broker::{self, Choice, RunningBroker},
    bus::Bus,
    check::Check,
    checks,
    doctor::{self, Examination},
    outcome::{Outcome, chain},
    plan::{self, Plan},
    registry::Registry,
    report::{Report, TargetInfo},
    requirements::Profile,
    run::{self, Facts},
    side::Side,
    target::{self, Access, Images, Launcher, LiveHost, Target},
};

/// Checks at once: most of them wait, and two cores keep up with so many.
pub const JOBS: usize = 16;
/// Hosts of checks' own at once: each may compile guests.
pub const OWN_HOSTS: usize = 4;

/// The conformance suite with everything set. Made by [`Suite::builder`].
#[derive(Clone)]
pub struct Suite {
    target: Target,
    plan: Plan,
}

/// There is nothing to judge, or nothing to judge it with.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No broker.
    #[error(transparent)]
    Broker(#[from] broker::NoBroker),
    /// No connection to it.
    #[error(transparent)]
    Bus(#[from] crate::bus::BusError),
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
    Host(#[from] crate::target::LaunchFailed),
}

/// A bench with a host on it.
#[derive(Debug)]
pub struct Setup {
    /// The equipment.
    pub bench: Arc<Bench>,
    /// Brings up more hosts.
    pub launcher: Launcher,
    /// The shared host.
    pub host: LiveHost,
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
            plan: Plan::new(Side::Host, JOBS),
        }
    }

    /// Begins to put a suite together.
    pub fn builder() -> Builder {
        Builder::new(Suite::new(Target::command(Vec::<String>::new())))
    }

    /// Whether everything that was asked for exists.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), Usage> {
        if matches!(self.target.access, Access::Running(_)) && self.plan.broker != Choice::Embedded
        {
            let text = "a host that runs already has its broker: leave out --broker";
            return Err(Usage::Contradiction(text.to_owned()));
        }
        self.plan.validate()
    }

    /// Runs the suite. What keeps it from running stands in the report as its trouble.
    ///
    /// Cancel safe: dropping the future ends every host that was launched.
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
        if selected.is_empty() {
            plan.enter(&mut draft, &mut outcomes, &known, &Default::default());
            return plan.close(draft, &outcomes, &profiles, began);
        }
        let setup = tokio::select! {
            biased;
            () = plan.stop.cancelled() => Err("interrupted before the host was up".to_owned()),
            setup = self.set_up() => setup.map_err(|trouble| chain(&trouble)),
        };
        let setup = match setup {
            Ok(setup) => setup,
            Err(trouble) => {
                draft.trouble = Some(trouble);
                return plan.close(draft, &[], &profiles, began);
            }
        };
        draft.run.id = setup.bench.run.clone();
        draft.environment.broker = setup.broker.name.clone();
        draft.environment.rtt_ms = setup.examination.slowest_rtt.as_secs_f64() * 1000.0;
        draft.target.host_id = Some(setup.host.id.clone());
        draft.target.version = self.target.version.clone().or(setup.examination.version());
        let bench = setup.bench.clone();
        outcomes.extend(self.execute(&selected, setup).await);
        draft.environment.patience_ms = bench.patience().as_secs_f64() * 1000.0;
        draft.environment.timer_lateness_ms = bench.clock.worst_lateness().as_secs_f64() * 1000.0;
        plan.enter(&mut draft, &mut outcomes, &known, &bench.secrets);
        plan.close(draft, &outcomes, &profiles, began)
    }

    /// Brings up broker, equipment and host, and lets the doctor look at them.
    ///
    /// # Errors
    /// One of them does not come up.
    pub async fn set_up(&self) -> Result<Setup, Trouble> {
        let equipment = |what| move |source| Trouble::Equipment { what, source };
        let run = plan::run_token();
        let broker = match &self.target.access {
            Access::Running(running) => {
                broker::start(&Choice::Url(running.nats_url.clone())).await?
            }
            Access::Launch(_) | Access::Grpc(_) => broker::start(&self.plan.broker).await?,
        };
        let bus = Bus::connect(&broker.url, &run).await?;
        let registry = Registry::start().await.map_err(equipment("registry"))?;
        let beacons = Beacons::start().await.map_err(equipment("beacon server"))?;
        let images = Images::new(self.target.images.clone(), self.target.only_own_images);
        let authority = registry.authority().to_owned();
        let bench = Arc::new(Bench::new(
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
            secrets: bench.secrets.clone(),
            hosts: Arc::new(AtomicU64::new(0)),
        };
        let host = launcher.bring_up(false).await?;
        let examination = doctor::examine(&bench, &host).await;
        Ok(Setup {
            bench,
            launcher,
            host,
            examination,
            broker,
        })
    }

    async fn execute(&self, selected: &[&'static Check], setup: Setup) -> Vec<Outcome> {
        let facts = Facts::of(
            &self.target,
            &setup.bench.images,
            setup.host.http_addr.is_some(),
        );
        let options = run::Options {
            jobs: self
                .plan
                .jobs
                .min(self.target.jobs_max.unwrap_or(usize::MAX)),
            own_hosts: OWN_HOSTS.min(self.target.hosts_max.unwrap_or(usize::MAX)),
            repeat: self.plan.repeat,
            seed: self.plan.seed,
        };
        let observer = self.plan.observer.as_ref();
        let Setup {
            bench,
            launcher,
            host,
            broker: _broker,
            ..
        } = setup;
        run::run(
            selected,
            &facts,
            bench,
            launcher,
            host,
            &options,
            observer,
            &self.plan.stop,
        )
        .await
    }

    /// The checks that run, and the outcomes of those that do not.
    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Check>, Vec<Outcome>) {
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for check in checks::all() {
            let over_grpc = matches!(self.target.access, Access::Grpc(_));
            match self.plan.reason_against(check, profiles, false) {
                None if over_grpc && !target::carries(check) => {
                    let reason = "asks for what gRPC has no call for, or for a process";
                    others.push(plan::not_run(check, reason));
                }
                None => selected.push(check),
                Some(reason) => others.push(plan::not_run(check, reason)),
            }
        }
        (selected, others)
    }

    /// Its settings.
    pub fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// How many checks would run.
    pub fn selected(&self) -> usize {
        self.select(&self.plan.profiles(&self.target.profiles))
            .0
            .len()
    }

    /// The checks that would not run, and why.
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
            Access::Running(running) => {
                let url = crate::bus::without_credentials(&running.nats_url);
                let host_id = plan::quoted(&running.host_id);
                format!("--nats-url {url} --host-id {host_id}")
            }
            Access::Grpc(over) => format!("--grpc-url {}", plan::quoted(&over.url)),
        }
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
