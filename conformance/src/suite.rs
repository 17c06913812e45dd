//! The suite as a library: what to judge, how, and the report of it.

mod builder;

pub use builder::Builder;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use crate::{
    beacon::Beacons,
    bench::Bench,
    broker::{self, Choice, RunningBroker},
    bus::Bus,
    check::Check,
    checks,
    doctor::{self, Examination},
    known::Known,
    outcome::{Outcome, Status, chain},
    pattern::{Pattern, suggestion},
    registry::Registry,
    report::{self, Environment, KnownResult, Report, RunInfo, SuiteInfo, TargetInfo},
    requirements::{self, Profile},
    run::{self, Facts, Observer, Unobserved},
    target::{Access, Images, Launcher, LiveHost, Target},
    verdict::{self, Scope, Verdict},
};

/// Checks at once: most of them wait, and two cores keep up with so many.
pub const JOBS: usize = 16;
/// Hosts of checks' own at once: each may compile guests.
pub const OWN_HOSTS: usize = 4;
/// Nobody repeats a suite more often in one run.
const MAX_REPEAT: usize = 1000;

/// The conformance suite with everything set. Made by [`Suite::builder`].
#[derive(Clone)]
pub struct Suite {
    target: Target,
    profiles: Option<Vec<Profile>>,
    run: Vec<Pattern>,
    skip: Vec<Pattern>,
    slow: bool,
    seed: u64,
    repeat: usize,
    jobs: usize,
    broker: Choice,
    known: Option<PathBuf>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
}

/// The suite was asked for something that there is not.
#[derive(Debug, thiserror::Error)]
pub enum Usage {
    /// A pattern names nothing.
    #[error("`{pattern}` matches no check and no requirement{suggestion}")]
    Unmatched {
        /// The pattern.
        pattern: String,
        /// The near spelling.
        suggestion: String,
    },
    /// The known-failures file is not valid.
    #[error(transparent)]
    Known(#[from] crate::known::BadKnown),
    /// Two things that exclude each other.
    #[error("{0}")]
    Contradiction(String),
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
            profiles: None,
            run: Vec::new(),
            skip: Vec::new(),
            slow: false,
            seed: rand::random::<u32>().into(),
            repeat: 1,
            jobs: JOBS,
            broker: Choice::Embedded,
            known: None,
            observer: Arc::new(Unobserved),
            stop: CancellationToken::new(),
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
        let all: Vec<&'static Check> = checks::all().collect();
        for pattern in self.run.iter().chain(&self.skip) {
            if !all.iter().any(|check| pattern.matches(check)) {
                let names = || {
                    let requirements = requirements::ALL.iter().map(|item| item.id);
                    all.iter().map(|check| check.id).chain(requirements)
                };
                let suggestion = match names().any(|name| pattern.matches_id(name)) {
                    true => "; it names a requirement that has no check of its own".to_owned(),
                    false => suggestion(&pattern.0, names()),
                };
                return Err(Usage::Unmatched {
                    pattern: pattern.0.clone(),
                    suggestion,
                });
            }
        }
        if matches!(self.target.access, Access::Running(_)) && self.broker != Choice::Embedded {
            let text = "a host that runs already has its broker: leave out --broker";
            return Err(Usage::Contradiction(text.to_owned()));
        }
        self.known()?;
        Ok(())
    }

    fn known(&self) -> Result<Known, crate::known::BadKnown> {
        let all: Vec<&Check> = checks::all().collect();
        match &self.known {
            Some(path) => Known::load(path, &all, today().get(..10).unwrap_or_default()),
            None => Ok(Known::default()),
        }
    }

    /// Runs the suite. What keeps it from running stands in the report as its trouble.
    ///
    /// Cancel safe: dropping the future ends every host that was launched.
    pub async fn run(&self) -> Report {
        let began = Instant::now();
        let started = today();
        let profiles = self
            .profiles
            .clone()
            .unwrap_or_else(|| self.target.profiles.clone());
        let (selected, mut outcomes) = self.select(&profiles);
        let mut draft = self.draft(started, &profiles);
        let again = draft.run.again.clone();
        let known = match self
            .validate()
            .map_err(|usage| chain(&usage))
            .and_then(|()| self.known().map_err(|bad| chain(&bad)))
        {
            Ok(known) => known,
            Err(trouble) => {
                draft.trouble = Some(trouble);
                return self.close(draft, &[], &profiles, began);
            }
        };
        if selected.is_empty() {
            draft.checks = results(&outcomes, &Default::default(), &again);
            draft.totals = report::totals(&outcomes);
            return self.close(draft, &outcomes, &profiles, began);
        }
        let setup = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err("interrupted before the host was up".to_owned()),
            setup = self.set_up() => setup.map_err(|trouble| chain(&trouble)),
        };
        let setup = match setup {
            Ok(setup) => setup,
            Err(trouble) => {
                draft.trouble = Some(trouble);
                return self.close(draft, &[], &profiles, began);
            }
        };
        draft.run.id = setup.bench.run.clone();
        draft.environment.broker = setup.broker.name.clone();
        draft.environment.rtt_ms = setup.examination.slowest_rtt.as_secs_f64() * 1000.0;
        draft.target.host_id = Some(setup.host.id.clone());
        draft.target.version = self.target.version.clone().or(setup.examination.version());
        let bench = setup.bench.clone();
        outcomes.extend(self.execute(&selected, setup).await);
        known.apply(&mut outcomes);
        outcomes.sort_by_key(|outcome| position(&outcome.id));
        draft.environment.patience_ms = bench.patience().as_secs_f64() * 1000.0;
        draft.environment.timer_lateness_ms = bench.clock.worst_lateness().as_secs_f64() * 1000.0;
        draft.checks = results(&outcomes, &bench.secrets, &again);
        draft.totals = report::totals(&outcomes);
        draft.known = known.entries.iter().map(known_result).collect();
        self.close(draft, &outcomes, &profiles, began)
    }

    /// Brings up broker, equipment and host, and lets the doctor look at them.
    ///
    /// # Errors
    /// One of them does not come up.
    pub async fn set_up(&self) -> Result<Setup, Trouble> {
        let equipment = |what| move |source| Trouble::Equipment { what, source };
        let run = run_token();
        let broker = match &self.target.access {
            Access::Running(running) => {
                broker::start(&Choice::Url(running.nats_url.clone())).await?
            }
            Access::Launch(_) => broker::start(&self.broker).await?,
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
            jobs: self.jobs.min(self.target.jobs_max.unwrap_or(usize::MAX)),
            own_hosts: OWN_HOSTS.min(self.target.hosts_max.unwrap_or(usize::MAX)),
            repeat: self.repeat,
            seed: self.seed,
        };
        let observer = self.observer.as_ref();
        let Setup {
            bench,
            launcher,
            host,
            broker: _broker,
            ..
        } = setup;
        run::run(
            selected, &facts, bench, launcher, host, &options, observer, &self.stop,
        )
        .await
    }

    /// The checks that run, and the outcomes of those that do not.
    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Check>, Vec<Outcome>) {
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for check in checks::all() {
            match self.reason_against(check, profiles) {
                None => selected.push(check),
                Some(reason) => {
                    let outcome = Outcome::of(check.id, check.covers, Status::NotRun);
                    others.push(outcome.because(reason));
                }
            }
        }
        (selected, others)
    }

    /// How many checks would run.
    pub fn selected(&self) -> usize {
        let profiles = self.profiles.as_deref().unwrap_or(&self.target.profiles);
        self.select(profiles).0.len()
    }

    /// The checks that would not run, and why.
    pub fn not_selected(&self) -> Vec<(String, String)> {
        let profiles = self.profiles.as_deref().unwrap_or(&self.target.profiles);
        let others = self.select(profiles).1.into_iter();
        others
            .map(|outcome| (outcome.id, outcome.reason.unwrap_or_default()))
            .collect()
    }

    fn reason_against(&self, check: &Check, profiles: &[Profile]) -> Option<&'static str> {
        if !check.serves(profiles) {
            return Some("its profile is not selected");
        }
        if !self.run.is_empty() && !self.run.iter().any(|pattern| pattern.matches(check)) {
            return Some("left out by --run");
        }
        if self.skip.iter().any(|pattern| pattern.matches(check)) {
            return Some("left out by --skip");
        }
        (check.slow && !self.slow).then_some("slow: add --slow")
    }

    fn draft(&self, started: String, profiles: &[Profile]) -> Report {
        let launch = self.target.launch();
        Report {
            schema_version: report::SCHEMA_VERSION,
            suite: SuiteInfo {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                requirements_sha256: report::requirements_sha256(),
                requirements: requirements::ALL.len(),
            },
            target: TargetInfo {
                name: self.target.name.clone(),
                version: self.target.version.clone(),
                host_id: None,
                command: launch
                    .map(|launch| launch.command.clone())
                    .unwrap_or_default(),
                claimed_profiles: self
                    .target
                    .profiles
                    .iter()
                    .map(|profile| profile.name())
                    .collect(),
                features: self.target.features.clone(),
            },
            environment: Environment {
                os: std::env::consts::OS,
                arch: std::env::consts::ARCH,
                broker: self.broker.to_string(),
                ..Environment::default()
            },
            run: RunInfo {
                id: String::new(),
                seed: self.seed,
                started,
                duration_ms: 0,
                filters: self.filters(),
                repeat: self.repeat,
                slow: self.slow,
                again: self.again(profiles),
            },
            verdict: Verdict::Error,
            exit_code: Verdict::Error.exit_code(),
            trouble: None,
            profiles: Vec::new(),
            requirements: Vec::new(),
            checks: Vec::new(),
            known: Vec::new(),
            totals: report::totals(&[]),
        }
    }

    fn close(
        &self,
        mut draft: Report,
        outcomes: &[Outcome],
        profiles: &[Profile],
        began: Instant,
    ) -> Report {
        let scope = Scope {
            profiles: profiles.to_vec(),
            filtered: !self.run.is_empty() || !self.skip.is_empty(),
            aborted: self.stop.is_cancelled(),
        };
        let standings = verdict::standings(outcomes, profiles);
        draft.verdict = match (&draft.trouble, scope.aborted) {
            (Some(_), false) => Verdict::Error,
            _ => verdict::verdict(outcomes, &standings, &scope),
        };
        draft.exit_code = draft.verdict.exit_code();
        draft.profiles = report::profile_sums(&standings, profiles);
        draft.requirements = standings.iter().map(report::requirement_result).collect();
        draft.run.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        draft
    }

    fn filters(&self) -> Vec<String> {
        let shown = |flag: &str, patterns: &[Pattern]| -> Vec<String> {
            patterns
                .iter()
                .map(|pattern| format!("{flag} {}", pattern.0))
                .collect()
        };
        [shown("--run", &self.run), shown("--skip", &self.skip)].concat()
    }

    /// The command line of this run, with the place of `--run` left to the check.
    fn again(&self, profiles: &[Profile]) -> String {
        let mut words = vec![env!("CARGO_PKG_NAME").to_owned(), "host".to_owned()];
        if self.profiles.is_some() {
            words.extend(
                profiles
                    .iter()
                    .map(|profile| format!("--profile {}", profile.name())),
            );
        }
        if self.broker != Choice::Embedded {
            words.push(format!("--broker {}", self.broker));
        }
        words.push(format!("--seed {}", self.seed));
        words.push("{run}".to_owned());
        match &self.target.access {
            Access::Launch(launch) => {
                words.push("--".to_owned());
                words.extend(launch.command.iter().map(|word| quoted(word)));
            }
            Access::Running(running) => {
                let url = crate::bus::without_credentials(&running.nats_url);
                words.push(format!(
                    "--nats-url {url} --host-id {}",
                    quoted(&running.host_id)
                ));
            }
        }
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,{}@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn results(
    outcomes: &[Outcome],
    secrets: &crate::bench::Secrets,
    again: &str,
) -> Vec<report::CheckResult> {
    let result = |outcome: &Outcome| {
        // Monitors see every check, so that there is nothing to select.
        let selection = match outcome.section() {
            "monitor" => String::new(),
            _ => format!("--run {} ", outcome.id),
        };
        let again = again.replace("{run} ", &selection);
        report::check_result(outcome, secrets, again)
    };
    outcomes.iter().map(result).collect()
}

fn known_result(entry: &crate::known::Entry) -> KnownResult {
    KnownResult {
        check: entry.check.clone(),
        text: entry.text.clone(),
        reason: entry.reason.clone(),
        issue: entry.issue.clone(),
        expires: entry.expires.to_string(),
    }
}

/// Checks in the order of the tables, monitors behind them.
fn position(id: &str) -> usize {
    checks::all()
        .position(|check| check.id == id)
        .unwrap_or(usize::MAX)
}

/// Short, for ids are read by people; 32 bits keep two runs on one broker apart.
fn run_token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Now, as RFC 3339 in UTC.
fn today() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    crate::calendar::rfc3339_ms(now.as_millis()) + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_one() {
        assert!(crate::json::is_rfc3339(&today()));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--nats={nats_url}"), "--nats={nats_url}");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
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
