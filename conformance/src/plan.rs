//! What was asked of a run, whichever side it judges: which checks, how often, with which excuses;
//! and the report that comes of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use crate::{
    bench::Secrets,
    broker::Choice,
    check::Case,
    known::Known,
    outcome::{Outcome, Status, chain},
    pattern::{Pattern, suggestion},
    report::{self, Environment, KnownResult, Report, RunInfo, SuiteInfo, TargetInfo},
    requirements::Profile,
    run::{Observer, Unobserved},
    side::Side,
    verdict::{self, Scope, Verdict},
};

/// Nobody repeats a suite more often in one run.
pub const MAX_REPEAT: usize = 1000;

/// The settings of a run.
#[derive(Clone)]
pub struct Plan {
    /// Who is judged.
    pub side: Side,
    /// By which profiles, when not by those that the target claims.
    pub profiles: Option<Vec<Profile>>,
    /// Only checks that match one of these.
    pub run: Vec<Pattern>,
    /// None of those that match one of these.
    pub skip: Vec<Pattern>,
    /// Slow checks as well.
    pub slow: bool,
    /// The order in which checks begin.
    pub seed: u64,
    /// How often each check runs.
    pub repeat: usize,
    /// How many checks run at once.
    pub jobs: usize,
    /// Which broker.
    pub broker: Choice,
    /// The failures that are known.
    pub known: Option<PathBuf>,
    /// Whoever wants to know how far the run is.
    pub observer: Arc<dyn Observer>,
    /// Ends the run early.
    pub stop: CancellationToken,
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

impl Plan {
    /// Everything about one side, with all the defaults.
    pub fn new(side: Side, jobs: usize) -> Plan {
        Plan {
            side,
            profiles: None,
            run: Vec::new(),
            skip: Vec::new(),
            slow: false,
            seed: rand::random::<u32>().into(),
            repeat: 1,
            jobs,
            broker: Choice::Embedded,
            known: None,
            observer: Arc::new(Unobserved),
            stop: CancellationToken::new(),
        }
    }

    /// Whether everything that was asked for exists.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), Usage> {
        let all = self.side.cases();
        for pattern in self.run.iter().chain(&self.skip) {
            if !all.iter().any(|case| pattern.matches(case)) {
                let names = || {
                    let requirements = self.side.requirements().map(|item| item.id);
                    all.iter().map(|case| case.id).chain(requirements)
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
        self.excuses()?;
        Ok(())
    }

    /// The failures that are known.
    ///
    /// # Errors
    /// The file is not valid.
    pub fn excuses(&self) -> Result<Known, crate::known::BadKnown> {
        let today = today();
        match &self.known {
            Some(path) => Known::load(path, self.side, today.get(..10).unwrap_or_default()),
            None => Ok(Known::default()),
        }
    }

    /// The profiles of the run, for a target that claims these.
    pub fn profiles(&self, claimed: &[Profile]) -> Vec<Profile> {
        self.profiles.clone().unwrap_or_else(|| claimed.to_vec())
    }

    /// Why a check is not run, when it is not. `long`: it takes long with this target.
    pub fn reason_against(
        &self,
        case: &Case,
        profiles: &[Profile],
        long: bool,
    ) -> Option<&'static str> {
        if !case.serves(profiles) {
            return Some("its profile is not selected");
        }
        if !self.run.is_empty() && !self.run.iter().any(|pattern| pattern.matches(case)) {
            return Some("left out by --run");
        }
        if self.skip.iter().any(|pattern| pattern.matches(case)) {
            return Some("left out by --skip");
        }
        ((case.slow || long) && !self.slow).then_some("slow: add --slow")
    }

    /// A report with nothing in it yet. `target_words` are the end of the command line.
    pub fn draft(&self, target: TargetInfo, profiles: &[Profile], target_words: &str) -> Report {
        Report {
            schema_version: report::SCHEMA_VERSION,
            suite: SuiteInfo {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                requirements_sha256: report::requirements_sha256(self.side),
                requirements: self.side.requirements().count(),
            },
            target,
            environment: Environment {
                os: std::env::consts::OS,
                arch: std::env::consts::ARCH,
                broker: self.broker.to_string(),
                ..Environment::default()
            },
            run: RunInfo {
                id: String::new(),
                seed: self.seed,
                started: today(),
                duration_ms: 0,
                filters: self.filters(),
                repeat: self.repeat,
                slow: self.slow,
                again: self.again(profiles, target_words),
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

    /// Puts outcomes into the report, what is known taken into account, in the order of the tables.
    pub fn enter(
        &self,
        draft: &mut Report,
        outcomes: &mut [Outcome],
        known: &Known,
        secrets: &Secrets,
    ) {
        known.apply(outcomes);
        let cases = self.side.cases();
        let position = |id: &str| cases.iter().position(|case| case.id == id);
        // Monitors stand behind the checks.
        outcomes.sort_by_key(|outcome| position(&outcome.id).unwrap_or(usize::MAX));
        draft.checks = results(outcomes, secrets, &draft.run.again);
        draft.totals = report::totals(outcomes);
        draft.known = known.entries.iter().map(known_result).collect();
    }

    /// The last word.
    pub fn close(
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
        let standings = verdict::standings(outcomes, self.side, profiles);
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

    /// The excuses, when everything that was asked for exists.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn checked(&self) -> Result<Known, String> {
        self.validate().map_err(|usage| chain(&usage))?;
        self.excuses().map_err(|bad| chain(&bad))
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
    fn again(&self, profiles: &[Profile], target_words: &str) -> String {
        let mut words = vec![
            env!("CARGO_PKG_NAME").to_owned(),
            self.side.name().to_owned(),
        ];
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
        words.push(target_words.to_owned());
        words.join(" ").trim_end().to_owned()
    }
}

/// The outcome of a check that does not run.
pub fn not_run(case: &Case, reason: &str) -> Outcome {
    Outcome::of(case.id, case.covers, Status::NotRun).because(reason)
}

/// `-- COMMAND …`, as a shell takes it.
pub fn command_words(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!("-- {}", words.join(" "))
}

/// What names a target on a command line that a file describes.
pub fn target_file_words(file: &Path) -> String {
    format!("--target {}", quoted(&file.display().to_string()))
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,{}@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn results(outcomes: &[Outcome], secrets: &Secrets, again: &str) -> Vec<report::CheckResult> {
    let result = |outcome: &Outcome| {
        // Monitors see every check, so that there is nothing to select.
        let selection = match outcome.section() {
            "monitor" => String::new(),
            _ => format!("--run {} ", outcome.id),
        };
        let again = again
            .replace("{run} ", &selection)
            .replace("{run}", selection.trim_end());
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

/// Short, for ids are read by people; 32 bits keep two runs on one broker apart.
pub fn run_token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Now, as RFC 3339 in UTC.
pub fn today() -> String {
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
}
