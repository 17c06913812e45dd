//! A run of a suite of either side, and the assembly of its report.

use std::time::Instant;

use super::{EnvironmentInfo, KnownResult, Report, RunInfo, SuiteInfo, TargetInfo};
use crate::check::known_failures::{Entry, KnownFailures};
use crate::check::outcome::{Outcome, chain};
use crate::check::run_options::{RunOptions, UsageError, today};
use crate::check::verdict::{self, Scope, Verdict};
use crate::spec::requirements::Profile;
use crate::testbed::secrets::Secrets;

/// A suite of one side, as [`run`] and the command line use it.
pub trait RunnableSuite: Sync {
    /// Declaration of one check.
    type Check: 'static;
    /// Testbed with a running target.
    type Testbed: Send;

    /// Returns the options of the run.
    fn options(&self) -> &RunOptions;

    /// Returns the options of the run, to be changed before it starts.
    fn options_mut(&mut self) -> &mut RunOptions;

    /// Checks that every pattern and file of the options exists.
    ///
    /// # Errors
    /// The first that does not.
    fn validate(&self) -> Result<(), UsageError>;

    /// Returns the profiles that the target claims.
    fn claimed_profiles(&self) -> &[Profile];

    /// Returns the description of the target for the report.
    fn target_info(&self) -> TargetInfo;

    /// Returns the arguments that select the target on a command line.
    fn target_words(&self) -> String;

    /// Returns the checks that run, and the outcomes of those that do not.
    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Self::Check>, Vec<Outcome>);

    /// Starts the testbed and the target.
    ///
    /// # Errors
    /// The reason, with its causes, why one of them does not start.
    fn start_testbed(&self) -> impl Future<Output = Result<Self::Testbed, String>> + Send;

    /// Runs the selected checks, records the environment in the report, and returns the outcomes and the
    /// secrets that the report must redact.
    fn execute(
        &self,
        selected: &[&'static Self::Check],
        testbed: Self::Testbed,
        report: &mut Report,
    ) -> impl Future<Output = (Vec<Outcome>, std::sync::Arc<Secrets>)> + Send;

    /// Returns the number of checks that would run.
    fn selected(&self) -> usize {
        let profiles = self.options().profiles(self.claimed_profiles());
        self.select(&profiles).0.len()
    }

    /// Returns the checks that would not run, with the reason.
    fn not_selected(&self) -> Vec<(String, String)> {
        let profiles = self.options().profiles(self.claimed_profiles());
        let others = self.select(&profiles).1.into_iter();
        others
            .map(|outcome| (outcome.id, outcome.reason.unwrap_or_default()))
            .collect()
    }
}

/// Runs a suite. An error that prevents the run is recorded in the report as its `trouble`.
///
/// Cancel safe: dropping the future stops every target that the suite launched.
pub async fn run<S: RunnableSuite>(suite: &S) -> Report {
    let started = Instant::now();
    let options = suite.options();
    let profiles = options.profiles(suite.claimed_profiles());
    let (selected, mut outcomes) = suite.select(&profiles);
    let mut report = draft(
        options,
        suite.target_info(),
        &profiles,
        &suite.target_words(),
    );
    let checked = suite.validate().map_err(|usage| chain(&usage));
    let known = match checked.and_then(|()| options.checked()) {
        Ok(known) => known,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return close(options, report, &[], &profiles, started);
        }
    };
    if selected.is_empty() {
        enter(
            options,
            &mut report,
            &mut outcomes,
            &known,
            &Secrets::default(),
        );
        return close(options, report, &outcomes, &profiles, started);
    }
    let testbed = tokio::select! {
        biased;
        () = options.stop.cancelled() => {
            Err(format!("interrupted before the {} was up", options.catalog.side.name()))
        }
        testbed = suite.start_testbed() => testbed,
    };
    let testbed = match testbed {
        Ok(testbed) => testbed,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return close(options, report, &[], &profiles, started);
        }
    };
    let (judged, secrets) = suite.execute(&selected, testbed, &mut report).await;
    outcomes.extend(judged);
    enter(options, &mut report, &mut outcomes, &known, &secrets);
    close(options, report, &outcomes, &profiles, started)
}

/// Creates an empty report. `target_words` end the command line of the run.
fn draft(
    options: &RunOptions,
    target: TargetInfo,
    profiles: &[Profile],
    target_words: &str,
) -> Report {
    Report {
        schema_version: super::SCHEMA_VERSION,
        suite: SuiteInfo {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            requirements_sha256: super::requirements_sha256(options.catalog.side),
            requirements: options.catalog.side.requirements().count(),
        },
        target,
        environment: EnvironmentInfo {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            broker: options.broker.to_string(),
            ..EnvironmentInfo::default()
        },
        run: RunInfo {
            id: String::new(),
            seed: options.seed,
            started: today(),
            duration_ms: 0,
            filters: options.filters(),
            repeat: options.repeat,
            slow: options.slow,
            again: options.again(profiles, target_words),
        },
        verdict: Verdict::Error,
        exit_code: Verdict::Error.exit_code(),
        trouble: None,
        profiles: Vec::new(),
        requirements: Vec::new(),
        checks: Vec::new(),
        known: Vec::new(),
        totals: super::totals(&[]),
    }
}

/// Adds the outcomes to the report in the order of the tables, known failures applied.
fn enter(
    options: &RunOptions,
    draft: &mut Report,
    outcomes: &mut [Outcome],
    known: &KnownFailures,
    secrets: &Secrets,
) {
    known.apply(outcomes);
    let checks = &options.catalog.checks;
    let position = |id: &str| checks.iter().position(|check| check.id == id);
    // Monitors stand behind the checks.
    outcomes.sort_by_key(|outcome| position(&outcome.id).unwrap_or(usize::MAX));
    draft.checks = results(outcomes, secrets, &draft.run.again);
    draft.totals = super::totals(outcomes);
    draft.known = known.entries.iter().map(known_result).collect();
}

/// Derives the verdict and completes the report.
fn close(
    options: &RunOptions,
    mut draft: Report,
    outcomes: &[Outcome],
    profiles: &[Profile],
    began: Instant,
) -> Report {
    let scope = Scope {
        profiles: profiles.to_vec(),
        filtered: !options.run.is_empty() || !options.skip.is_empty(),
        aborted: options.stop.is_cancelled(),
    };
    let standings = verdict::standings(outcomes, options.catalog.side, profiles);
    draft.verdict = match (&draft.trouble, scope.aborted) {
        (Some(_), false) => Verdict::Error,
        _ => verdict::verdict(outcomes, &standings, &scope),
    };
    draft.exit_code = draft.verdict.exit_code();
    draft.profiles = super::profile_sums(&standings, profiles);
    draft.requirements = standings.iter().map(super::requirement_result).collect();
    draft.run.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    draft
}

fn results(outcomes: &[Outcome], secrets: &Secrets, again: &str) -> Vec<super::CheckResult> {
    let result = |outcome: &Outcome| {
        // Monitors see every check, so that there is nothing to select.
        let selection = match outcome.section() {
            "monitor" => String::new(),
            _ => format!("--run {} ", outcome.id),
        };
        let again = again
            .replace("{run} ", &selection)
            .replace("{run}", selection.trim_end());
        super::check_result(outcome, secrets, again)
    };
    outcomes.iter().map(result).collect()
}

fn known_result(entry: &Entry) -> KnownResult {
    KnownResult {
        check: entry.check.clone(),
        text: entry.text.clone(),
        reason: entry.reason.clone(),
        issue: entry.issue.clone(),
        expires: entry.expires.to_string(),
    }
}
