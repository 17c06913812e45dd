//! Run of a suite of either side and assembly of its report.

use std::time::Instant;

use super::{EnvironmentInfo, KnownFailureResult, Report, RunInfo, SuiteInfo, TargetInfo};
use crate::check::known_failures::{Entry, KnownFailures};
use crate::check::outcome::{Outcome, error_chain};
use crate::check::run_options::{RunOptions, UsageError, now_rfc3339};
use crate::check::verdict::{self, Scope, Verdict};
use crate::spec::requirements::Profile;
use crate::testbed::secrets::Secrets;

/// Suite of one side, as [`run`] and the command line use it.
pub trait RunnableSuite: Sync {
    /// Declaration of one check.
    type Check: 'static;
    /// Testbed with a running target.
    type Testbed: Send;

    /// Returns the options of the run.
    fn options(&self) -> &RunOptions;

    /// Returns the options of the run, to be changed before it starts.
    fn options_mut(&mut self) -> &mut RunOptions;

    /// Validates the options.
    ///
    /// # Errors
    /// Fails if a pattern matches nothing, a file is invalid, or two options exclude each other.
    fn validate(&self) -> Result<(), UsageError>;

    /// Returns the profiles that the target claims.
    fn claimed_profiles(&self) -> &[Profile];

    /// Returns the description of the target for the report.
    fn target_info(&self) -> TargetInfo;

    /// Returns the command-line arguments that select the target.
    fn target_arguments(&self) -> String;

    /// Returns the selected checks, and an outcome for every other check.
    fn select(&self, profiles: &[Profile]) -> (Vec<&'static Self::Check>, Vec<Outcome>);

    /// Starts the testbed and the target.
    ///
    /// # Errors
    /// Fails with a message and its causes if either does not start.
    fn start_testbed(&self) -> impl Future<Output = Result<Self::Testbed, String>> + Send;

    /// Runs the selected checks and records the environment in the report. Returns the outcomes and
    /// the secrets that the report must redact.
    fn execute(
        &self,
        selected: &[&'static Self::Check],
        testbed: Self::Testbed,
        report: &mut Report,
    ) -> impl Future<Output = (Vec<Outcome>, std::sync::Arc<Secrets>)> + Send;

    /// Returns the number of selected checks.
    fn selected_count(&self) -> usize {
        let profiles = self.options().profiles(self.claimed_profiles());
        self.select(&profiles).0.len()
    }

    /// Returns the ids of all other checks, with the reasons why they do not run.
    fn not_selected(&self) -> Vec<(String, String)> {
        let profiles = self.options().profiles(self.claimed_profiles());
        let not_selected = self.select(&profiles).1.into_iter();
        not_selected
            .map(|outcome| (outcome.id, outcome.reason.unwrap_or_default()))
            .collect()
    }
}

/// Runs a suite. An error that prevents the run is recorded in [`Report::error`].
///
/// Cancel safe: dropping the future stops every target that the suite launched.
pub async fn run<S: RunnableSuite>(suite: &S) -> Report {
    let started_at = Instant::now();
    let options = suite.options();
    let profiles = options.profiles(suite.claimed_profiles());
    let (selected, mut outcomes) = suite.select(&profiles);
    let mut report = draft(
        options,
        suite.target_info(),
        &profiles,
        &suite.target_arguments(),
    );
    let validated = suite.validate().map_err(|error| error_chain(&error));
    let known_failures = match validated.and_then(|()| options.validated_known_failures()) {
        Ok(known_failures) => known_failures,
        Err(error) => {
            report.error = Some(error);
            return complete(options, report, &[], &profiles, started_at);
        }
    };
    if selected.is_empty() {
        add_outcomes(
            options,
            &mut report,
            &mut outcomes,
            &known_failures,
            &Secrets::default(),
        );
        return complete(options, report, &outcomes, &profiles, started_at);
    }
    let testbed = tokio::select! {
        biased;
        () = options.stop.cancelled() => {
            Err(format!("interrupted before the {} started", options.catalog.side.name()))
        }
        testbed = suite.start_testbed() => testbed,
    };
    let testbed = match testbed {
        Ok(testbed) => testbed,
        Err(error) => {
            report.error = Some(error);
            return complete(options, report, &[], &profiles, started_at);
        }
    };
    let (judged, secrets) = suite.execute(&selected, testbed, &mut report).await;
    outcomes.extend(judged);
    add_outcomes(
        options,
        &mut report,
        &mut outcomes,
        &known_failures,
        &secrets,
    );
    complete(options, report, &outcomes, &profiles, started_at)
}

/// Creates an empty report. `target_arguments` are the end of the command line that repeats the
/// run.
fn draft(
    options: &RunOptions,
    target: TargetInfo,
    profiles: &[Profile],
    target_arguments: &str,
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
            started_at: now_rfc3339(),
            duration_ms: 0,
            filters: options.filters(),
            repeat: options.repeat,
            slow: options.slow,
            rerun: options.rerun_command(profiles, target_arguments),
        },
        verdict: Verdict::Error,
        exit_code: Verdict::Error.exit_code(),
        error: None,
        notes: Vec::new(),
        profiles: Vec::new(),
        requirements: Vec::new(),
        checks: Vec::new(),
        known_failures: Vec::new(),
        totals: super::totals(&[]),
    }
}

/// Applies the known failures to the outcomes and adds them to the report, in the order of the
/// tables.
fn add_outcomes(
    options: &RunOptions,
    report: &mut Report,
    outcomes: &mut [Outcome],
    known_failures: &KnownFailures,
    secrets: &Secrets,
) {
    known_failures.apply(outcomes);
    let checks = &options.catalog.checks;
    let position = |id: &str| checks.iter().position(|check| check.id == id);
    // Monitors follow the checks.
    outcomes.sort_by_key(|outcome| position(&outcome.id).unwrap_or(usize::MAX));
    report.checks = results(outcomes, secrets, &report.run.rerun);
    report.totals = super::totals(outcomes);
    report.known_failures = known_failures
        .entries
        .iter()
        .map(known_failure_result)
        .collect();
}

/// Derives the verdict and completes the report.
fn complete(
    options: &RunOptions,
    mut report: Report,
    outcomes: &[Outcome],
    profiles: &[Profile],
    started_at: Instant,
) -> Report {
    let scope = Scope {
        profiles: profiles.to_vec(),
        filtered: !options.filters().is_empty(),
        aborted: options.stop.is_cancelled(),
    };
    let statuses = verdict::requirement_statuses(outcomes, options.catalog.side, profiles);
    report.verdict = match (&report.error, scope.aborted) {
        (Some(_), false) => Verdict::Error,
        _ => verdict::verdict(outcomes, &statuses, &scope),
    };
    report.exit_code = report.verdict.exit_code();
    report.profiles = super::profile_counts(&statuses, profiles);
    report.requirements = statuses.iter().map(super::requirement_result).collect();
    report.run.duration_ms = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

fn results(outcomes: &[Outcome], secrets: &Secrets, rerun: &str) -> Vec<super::CheckResult> {
    let result = |outcome: &Outcome| {
        // Monitors judge every run; there is no selection for them.
        let selection = match outcome.section() {
            "monitor" => String::new(),
            _ => format!("--run {} ", outcome.id),
        };
        let rerun = rerun
            .replace("{run} ", &selection)
            .replace("{run}", selection.trim_end());
        super::check_result(outcome, secrets, rerun)
    };
    outcomes.iter().map(result).collect()
}

fn known_failure_result(entry: &Entry) -> KnownFailureResult {
    KnownFailureResult {
        check: entry.check.clone(),
        text: entry.text.clone(),
        reason: entry.reason.clone(),
        issue: entry.issue.clone(),
        expires: entry.expires.to_string(),
    }
}
