//! Report of a run: one structure that the text, JSON and JUnit forms are rendered from.

mod file;
pub mod format;
pub mod json;
pub mod junit;
pub mod progress;
pub mod run;
pub mod text;

pub use self::file::{FileFormat, WriteError};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::outcome::{Outcome, Status, Violation, WireLine};
use crate::check::side::Side;
use crate::check::verdict::{RequirementStatus, Verdict};
use crate::spec::requirements::{Level, Profile};
use crate::testbed::secrets::Secrets;

/// Version of the JSON form. Additions raise the minor version, other changes the major version.
pub const SCHEMA_VERSION: &str = "3.1";

/// Report of a run. Secrets are redacted when it is built.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the JSON form.
    pub schema_version: &'static str,
    /// Suite that judged.
    pub suite: SuiteInfo,
    /// Target that was judged.
    pub target: TargetInfo,
    /// Environment of the run.
    pub environment: EnvironmentInfo,
    /// Settings of the run.
    pub run: RunInfo,
    /// Verdict.
    #[serde(serialize_with = "by_name")]
    pub verdict: Verdict,
    /// Exit code of the command line.
    pub exit_code: u8,
    /// Error that prevented the run.
    pub error: Option<String>,
    /// Properties of the target that changed the course of the run.
    pub notes: Vec<String>,
    /// Selected profiles.
    pub profiles: Vec<ProfileCounts>,
    /// Requirements of the selected profiles.
    pub requirements: Vec<RequirementResult>,
    /// Checks and monitors.
    pub checks: Vec<CheckResult>,
    /// Entries of the known-failures file.
    pub known_failures: Vec<KnownFailureResult>,
    /// Number of checks by status.
    pub totals: BTreeMap<&'static str, usize>,
}

/// Description of the suite.
#[derive(Clone, Debug, Serialize)]
pub struct SuiteInfo {
    /// Name.
    pub name: &'static str,
    /// Version.
    pub version: &'static str,
    /// Hash of the ids, levels and sentences of all requirements.
    pub requirements_sha256: String,
    /// Number of requirements.
    pub requirements: usize,
}

/// Description of the target.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TargetInfo {
    /// Name.
    pub name: String,
    /// Declared version, or else the version in the heartbeat.
    pub version: Option<String>,
    /// ID of the shared host.
    pub host_id: Option<String>,
    /// Command with its placeholders.
    pub command: Vec<String>,
    /// Profiles that the target claims.
    pub claimed_profiles: Vec<&'static str>,
    /// Features that the target declares present or absent.
    pub features: BTreeMap<String, bool>,
}

/// Environment of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EnvironmentInfo {
    /// Operating system.
    pub os: &'static str,
    /// Processor architecture.
    pub arch: &'static str,
    /// Broker.
    pub broker: String,
    /// Longest round trip to the broker before the run, in milliseconds.
    pub rtt_ms: f64,
    /// Time added to each deadline at the end of the run, in milliseconds.
    pub patience_ms: f64,
    /// Longest delay of a timer of the suite, in milliseconds.
    pub timer_lateness_ms: f64,
}

/// Settings of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunInfo {
    /// Token in every id that the run creates.
    pub id: String,
    /// Seed of the order of checks.
    pub seed: u64,
    /// Start time, RFC 3339 in UTC.
    pub started_at: String,
    /// Duration in milliseconds.
    pub duration_ms: u64,
    /// `--run` and `--skip` flags.
    pub filters: Vec<String>,
    /// Number of runs of each check.
    pub repeat: usize,
    /// Whether slow checks were included.
    pub slow: bool,
    /// Command line that repeats the run, without its filters.
    pub rerun: String,
}

/// Requirement counts of one profile.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileCounts {
    /// Name of the profile.
    pub name: &'static str,
    /// Counts of its MUST requirements.
    pub must: Counts,
    /// Counts of its SHOULD requirements.
    pub should: Counts,
}

/// Numbers of requirements of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requirements except excluded ones.
    pub total: usize,
    /// Measured and satisfied.
    pub passed: usize,
    /// Violated, including known failures.
    pub failed: usize,
    /// Not measured.
    pub unmeasured: usize,
}

/// Result for one requirement.
#[derive(Clone, Debug, Serialize)]
pub struct RequirementResult {
    /// ID.
    pub id: &'static str,
    /// Level.
    pub level: &'static str,
    /// Profile.
    pub profile: &'static str,
    /// Sentence.
    pub sentence: &'static str,
    /// Status.
    #[serde(serialize_with = "by_name")]
    pub status: Status,
    /// IDs of the checks and monitors that judged it.
    pub checks: Vec<String>,
    /// Reason why it has no check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<&'static str>,
}

/// Result of one check or monitor.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// ID.
    pub id: String,
    /// Part of the id before the slash.
    pub section: String,
    /// IDs of the covered requirements.
    pub covers: Vec<&'static str>,
    /// Strictest level of the covered requirements.
    pub level: &'static str,
    /// Status.
    #[serde(serialize_with = "by_name")]
    pub status: Status,
    /// Explanation of the status.
    pub reason: Option<String>,
    /// Duration in milliseconds.
    pub duration_ms: u64,
    /// Violations.
    pub violations: Vec<ViolationResult>,
    /// Traffic around the first violation, or the traffic of a passing check with `--wire`.
    pub wire: Vec<WireResult>,
    /// End of the target's log.
    pub log: Option<String>,
    /// `file:line` of the check.
    pub source: String,
    /// Status of each repetition.
    pub attempts: Vec<&'static str>,
    /// Command line that runs only this check.
    pub rerun: String,
}

/// One violated requirement.
#[derive(Clone, Debug, Serialize)]
pub struct ViolationResult {
    /// ID of the requirement.
    pub requirement: &'static str,
    /// Level of the requirement.
    pub level: &'static str,
    /// Sentence of the requirement.
    pub sentence: &'static str,
    /// Subject of the claim.
    pub description: String,
    /// Acceptable results, as alternatives.
    pub expected: Vec<String>,
    /// Observed result.
    pub actual: String,
    /// `file:line` of the claim.
    pub source: String,
    /// Time since the check started, in milliseconds.
    pub at_ms: u64,
    /// Reason for the requirement.
    pub why: String,
}

/// One message of the traffic around a violation.
#[derive(Clone, Debug, Serialize)]
pub struct WireResult {
    /// Time since the check started, in milliseconds.
    pub at_ms: f64,
    /// Sender and receiver, such as `suite → host`.
    pub direction: &'static str,
    /// Command, `reply` or `heartbeat`.
    pub kind: String,
    /// Start of the payload.
    pub payload: String,
    /// Whether this message shows the violation.
    pub culprit: bool,
}

/// Entry of the known-failures file.
#[derive(Clone, Debug, Serialize)]
pub struct KnownFailureResult {
    /// Pattern of check or requirement ids.
    pub check: String,
    /// Part of the text of the failure.
    #[serde(rename = "match")]
    pub text: String,
    /// Reason for the failure.
    pub reason: String,
    /// Issue that tracks the failure.
    pub issue: Option<String>,
    /// Last valid day.
    pub expires: String,
}

/// Enum that is serialized by name.
trait Named {
    fn name(&self) -> &'static str;
}

impl Named for Status {
    fn name(&self) -> &'static str {
        Status::name(*self)
    }
}

impl Named for Verdict {
    fn name(&self) -> &'static str {
        Verdict::name(*self)
    }
}

fn by_name<S: serde::Serializer>(value: &impl Named, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

impl Report {
    /// Asserts that all selected checks passed, for use in a test.
    ///
    /// # Panics
    /// Panics with the text form of the report if the exit code is not 0.
    #[expect(clippy::panic, reason = "an assertion for the tests of other crates")]
    pub fn assert_conformant(&self) {
        if self.exit_code != 0 {
            panic!("{}", text::render(self, &format::Style::plain()));
        }
    }

    /// Returns the results with a status, in the order of the report.
    pub fn with_status(&self, status: Status) -> impl Iterator<Item = &CheckResult> {
        self.checks
            .iter()
            .filter(move |check| check.status == status)
    }
}

/// Returns the requirement counts of the profiles.
pub fn profile_counts(statuses: &[RequirementStatus], profiles: &[Profile]) -> Vec<ProfileCounts> {
    let count = |profile: Profile, level: Level| {
        let counted = statuses.iter().filter(|item| {
            item.requirement.profile == profile
                && item.requirement.level == level
                && item.excluded.is_none()
        });
        counted.fold(Counts::default(), |counts, item| add(counts, item.status))
    };
    let counts_of = |profile: &Profile| ProfileCounts {
        name: profile.name(),
        must: count(*profile, Level::Must),
        should: count(*profile, Level::Should),
    };
    profiles.iter().map(counts_of).collect()
}

/// Adds one requirement to the counts.
pub fn add(counts: Counts, status: Status) -> Counts {
    let counts = Counts {
        total: counts.total + 1,
        ..counts
    };
    match status {
        // A feature that is declared absent and whose use is refused satisfies its requirements.
        Status::Pass | Status::Unsupported => Counts {
            passed: counts.passed + 1,
            ..counts
        },
        Status::Fail | Status::Warn | Status::Xfail | Status::Xpass => Counts {
            failed: counts.failed + 1,
            ..counts
        },
        Status::Unstable
        | Status::NotTestable
        | Status::Inconclusive
        | Status::Error
        | Status::NotRun => Counts {
            unmeasured: counts.unmeasured + 1,
            ..counts
        },
    }
}

/// Converts an outcome and redacts its secrets. `rerun` is the command line that runs only this
/// check.
pub fn check_result(outcome: &Outcome, secrets: &Secrets, rerun: String) -> CheckResult {
    let level = outcome
        .covers
        .iter()
        .map(|covered| covered.level)
        .min()
        .unwrap_or(Level::May);
    CheckResult {
        id: outcome.id.clone(),
        section: outcome.section().to_owned(),
        covers: outcome.covers.iter().map(|covered| covered.id).collect(),
        level: level.name(),
        status: outcome.status,
        reason: outcome
            .reason
            .as_deref()
            .map(|reason| secrets.redact(reason)),
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        violations: outcome
            .violations
            .iter()
            .map(|violation| violation_result(violation, secrets))
            .collect(),
        wire: outcome
            .wire
            .iter()
            .map(|line| wire_result(line, secrets))
            .collect(),
        log: outcome.log.as_deref().map(|log| secrets.redact(log)),
        source: outcome.source.clone(),
        attempts: outcome
            .attempts
            .iter()
            .map(|status| status.name())
            .collect(),
        rerun,
    }
}

fn violation_result(violation: &Violation, secrets: &Secrets) -> ViolationResult {
    ViolationResult {
        requirement: violation.requirement.id,
        level: violation.requirement.level.name(),
        sentence: violation.requirement.sentence,
        description: secrets.redact(&violation.description),
        expected: violation
            .expected
            .iter()
            .map(|expected| secrets.redact(expected))
            .collect(),
        actual: secrets.redact(&violation.actual),
        source: violation.source.clone(),
        at_ms: u64::try_from(violation.at.as_millis()).unwrap_or(u64::MAX),
        why: violation.requirement.why.to_owned(),
    }
}

fn wire_result(line: &WireLine, secrets: &Secrets) -> WireResult {
    WireResult {
        at_ms: (line.at_ms * 1000.0).round() / 1000.0,
        direction: line.direction,
        kind: secrets.redact(&line.kind),
        payload: secrets.redact(&line.payload),
        culprit: line.culprit,
    }
}

/// Converts the status of a requirement.
pub fn requirement_result(status: &RequirementStatus) -> RequirementResult {
    let requirement = status.requirement;
    RequirementResult {
        id: requirement.id,
        level: requirement.level.name(),
        profile: requirement.profile.name(),
        sentence: requirement.sentence,
        status: status.status,
        checks: status.checks.clone(),
        excluded: status.excluded,
    }
}

/// Returns a hash of the ids, levels and sentences of the requirements of one side.
pub fn requirements_sha256(side: Side) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for requirement in side.requirements() {
        let line = format!(
            "{} {} {}\n",
            requirement.id,
            requirement.level.name(),
            requirement.sentence
        );
        hash.update(line.as_bytes());
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns the number of checks by status, including statuses without checks.
pub fn totals(outcomes: &[Outcome]) -> BTreeMap<&'static str, usize> {
    let count = |status: Status| {
        outcomes
            .iter()
            .filter(|outcome| outcome.status == status)
            .count()
    };
    Status::ALL
        .iter()
        .map(|status| (status.name(), count(*status)))
        .collect()
}
