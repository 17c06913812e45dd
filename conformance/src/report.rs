//! The report of a run: one structure, from which text, JSON and JUnit are written.

mod file;
pub mod format;
pub mod json;
pub mod junit;
pub mod progress;
pub mod run;
pub mod text;

pub use self::file::{Form, WriteError};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::outcome::{Outcome, Status, Violation, WireLine};
use crate::check::side::Side;
use crate::check::verdict::{Standing, Verdict};
use crate::spec::requirements::{Level, Profile};
use crate::testbed::secrets::Secrets;

/// The version of the JSON form: additions raise the second number.
pub const SCHEMA_VERSION: &str = "1.0";

/// Everything that a run can say. Secrets are blotted out when it is made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub schema_version: &'static str,
    /// Who judged.
    pub suite: SuiteInfo,
    /// Who was judged.
    pub target: TargetInfo,
    /// Where.
    pub environment: EnvironmentInfo,
    /// How.
    pub run: RunInfo,
    /// The last word.
    #[serde(serialize_with = "by_name")]
    pub verdict: Verdict,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Why there is no verdict about the target, when there is none.
    pub trouble: Option<String>,
    /// The selected profiles.
    pub profiles: Vec<ProfileSum>,
    /// Every requirement of those.
    pub requirements: Vec<RequirementResult>,
    /// Every check and monitor.
    pub checks: Vec<CheckResult>,
    /// The known failures that were taken into account.
    pub known: Vec<KnownResult>,
    /// How many checks ended how.
    pub totals: BTreeMap<&'static str, usize>,
}

/// The suite.
#[derive(Clone, Debug, Serialize)]
pub struct SuiteInfo {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// A hash over ids, levels and sentences: equal where the same was demanded.
    pub requirements_sha256: String,
    /// How many requirements there are.
    pub requirements: usize,
}

/// The target.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TargetInfo {
    /// Its name.
    pub name: String,
    /// Its version: declared, else that of its heartbeat.
    pub version: Option<String>,
    /// The id of the shared host.
    pub host_id: Option<String>,
    /// The command, with its placeholders.
    pub command: Vec<String>,
    /// The profiles that it claims.
    pub claimed_profiles: Vec<&'static str>,
    /// The features that it declares.
    pub features: BTreeMap<String, bool>,
}

/// The surroundings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EnvironmentInfo {
    /// The operating system.
    pub os: &'static str,
    /// The processor.
    pub arch: &'static str,
    /// The broker.
    pub broker: String,
    /// The slowest round trip that the doctor saw, in milliseconds.
    pub rtt_ms: f64,
    /// What was added to deadlines at the end of the run, in milliseconds.
    pub patience_ms: f64,
    /// The latest that one of the suite's own timers fired, in milliseconds.
    pub timer_lateness_ms: f64,
}

/// The run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunInfo {
    /// Part of every id that the run made up.
    pub id: String,
    /// The order of checks.
    pub seed: u64,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub duration_ms: u64,
    /// `--run` and `--skip`.
    pub filters: Vec<String>,
    /// How often each check ran.
    pub repeat: usize,
    /// Slow checks were included.
    pub slow: bool,
    /// What reproduces the run, without its filters.
    pub again: String,
}

/// One profile.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileSum {
    /// Its name.
    pub name: &'static str,
    /// The MUSTs.
    pub must: Sum,
    /// The SHOULDs.
    pub should: Sum,
}

/// A sum over requirements of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// All of them, without those that are excluded.
    pub total: usize,
    /// Measured and kept.
    pub passed: usize,
    /// Violated, known violations included.
    pub failed: usize,
    /// Neither.
    pub unmeasured: usize,
}

/// One requirement.
#[derive(Clone, Debug, Serialize)]
pub struct RequirementResult {
    /// Its id.
    pub id: &'static str,
    /// Its level.
    pub level: &'static str,
    /// Its profile.
    pub profile: &'static str,
    /// Its sentence.
    pub sentence: &'static str,
    /// What became of it.
    #[serde(serialize_with = "by_name")]
    pub status: Status,
    /// What spoke about it.
    pub checks: Vec<String>,
    /// Why there is no check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<&'static str>,
}

/// One check or monitor.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Its id.
    pub id: String,
    /// The part before the slash.
    pub section: String,
    /// What it covers.
    pub covers: Vec<&'static str>,
    /// The strictest level of those.
    pub level: &'static str,
    /// What became of it.
    #[serde(serialize_with = "by_name")]
    pub status: Status,
    /// Why, when the status alone does not say it.
    pub reason: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// What it saw go wrong.
    pub violations: Vec<ViolationResult>,
    /// The wire around the first of those.
    pub wire: Vec<WireResult>,
    /// The end of the host's log.
    pub log: Option<String>,
    /// Where it stands.
    pub source: String,
    /// The repetitions.
    pub attempts: Vec<&'static str>,
    /// The command line that runs it alone.
    pub again: String,
}

/// One violation.
#[derive(Clone, Debug, Serialize)]
pub struct ViolationResult {
    /// Whose.
    pub requirement: &'static str,
    /// How binding it is.
    pub level: &'static str,
    /// Its sentence.
    pub sentence: &'static str,
    /// What was asked.
    pub what: String,
    /// Every outcome that would have been right.
    pub expected: Vec<String>,
    /// What was seen.
    pub actual: String,
    /// Where it was claimed.
    pub source: String,
    /// Since the check began.
    pub at_ms: u64,
    /// Why it is demanded, and what to look at.
    pub hint: String,
}

/// One line of the wire.
#[derive(Clone, Debug, Serialize)]
pub struct WireResult {
    /// Since the check began.
    pub at_ms: f64,
    /// Which way it went.
    pub way: &'static str,
    /// The command, `reply` or `heartbeat`.
    pub what: String,
    /// The beginning of the payload.
    pub payload: String,
    /// It gave the violation away.
    pub culprit_frame: bool,
}

/// One known failure.
#[derive(Clone, Debug, Serialize)]
pub struct KnownResult {
    /// The pattern.
    pub check: String,
    /// The text that it is pinned to.
    #[serde(rename = "match")]
    pub text: String,
    /// Why.
    pub reason: String,
    /// Where it is dealt with.
    pub issue: Option<String>,
    /// Its last day.
    pub expires: String,
}

/// Statuses and verdicts go by their names.
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
    /// Panics with the text of the report unless everything selected held.
    ///
    /// # Panics
    /// The exit code of the command line would not be 0.
    #[expect(clippy::panic, reason = "this is the assertion of somebody's own test")]
    pub fn assert_conformant(&self) {
        if self.exit_code != 0 {
            panic!("{}", text::render(self, &format::Style::plain()));
        }
    }

    /// The results of checks, in the order of the tables, with monitors at the end.
    pub fn of_status(&self, status: Status) -> impl Iterator<Item = &CheckResult> {
        self.checks
            .iter()
            .filter(move |check| check.status == status)
    }
}

/// The sums of the selected profiles.
pub fn profile_sums(standings: &[Standing], profiles: &[Profile]) -> Vec<ProfileSum> {
    let sum = |profile: Profile, level: Level| {
        let of_it = standings.iter().filter(|standing| {
            let requirement = standing.requirement;
            requirement.profile == profile
                && requirement.level == level
                && standing.excluded.is_none()
        });
        of_it.fold(Sum::default(), |sum, standing| add(sum, standing.status))
    };
    let profile_sum = |profile: &Profile| ProfileSum {
        name: profile.name(),
        must: sum(*profile, Level::Must),
        should: sum(*profile, Level::Should),
    };
    profiles.iter().map(profile_sum).collect()
}

/// Adds one requirement to a sum.
pub fn add(sum: Sum, status: Status) -> Sum {
    let sum = Sum {
        total: sum.total + 1,
        ..sum
    };
    match status {
        // A feature declared absent, and refused as it should be, is kept.
        Status::Pass | Status::Unsupported => Sum {
            passed: sum.passed + 1,
            ..sum
        },
        Status::Fail | Status::Warn | Status::Xfail | Status::Xpass => Sum {
            failed: sum.failed + 1,
            ..sum
        },
        Status::Unstable
        | Status::NotTestable
        | Status::Inconclusive
        | Status::Error
        | Status::NotRun => Sum {
            unmeasured: sum.unmeasured + 1,
            ..sum
        },
    }
}

/// One outcome as a result, without secrets. `again` is the command line that runs it alone.
pub fn check_result(outcome: &Outcome, secrets: &Secrets, again: String) -> CheckResult {
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
        duration_ms: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        violations: outcome
            .violations
            .iter()
            .map(|found| violation(found, secrets))
            .collect(),
        wire: outcome
            .wire
            .iter()
            .map(|line| wire(line, secrets))
            .collect(),
        log: outcome.log.as_deref().map(|log| secrets.redact(log)),
        source: outcome.source.clone(),
        attempts: outcome
            .attempts
            .iter()
            .map(|status| status.name())
            .collect(),
        again,
    }
}

fn violation(found: &Violation, secrets: &Secrets) -> ViolationResult {
    ViolationResult {
        requirement: found.requirement.id,
        level: found.requirement.level.name(),
        sentence: found.requirement.sentence,
        what: secrets.redact(&found.what),
        expected: found
            .acceptable
            .iter()
            .map(|outcome| secrets.redact(outcome))
            .collect(),
        actual: secrets.redact(&found.actual),
        source: found.source.clone(),
        at_ms: u64::try_from(found.at.as_millis()).unwrap_or(u64::MAX),
        hint: found.requirement.why.to_owned(),
    }
}

fn wire(line: &WireLine, secrets: &Secrets) -> WireResult {
    WireResult {
        at_ms: (line.at_ms * 1000.0).round() / 1000.0,
        way: line.way,
        what: secrets.redact(&line.what),
        payload: secrets.redact(&line.payload),
        culprit_frame: line.culprit_frame,
    }
}

/// One standing as a result.
pub fn requirement_result(standing: &Standing) -> RequirementResult {
    let requirement = standing.requirement;
    RequirementResult {
        id: requirement.id,
        level: requirement.level.name(),
        profile: requirement.profile.name(),
        sentence: requirement.sentence,
        status: standing.status,
        checks: standing.checks.clone(),
        excluded: standing.excluded,
    }
}

/// A hash over what is demanded.
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

/// How many checks ended how; every status is there.
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
