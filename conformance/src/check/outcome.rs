//! Outcome of a check: its status and the violations that it found.

use std::fmt;
use std::time::Duration;

use crate::spec::requirements::Requirement;

/// Status of one check or one requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Every requirement was checked and held.
    Pass,
    /// A MUST requirement was violated.
    Fail,
    /// A SHOULD requirement was violated.
    Warn,
    /// The check failed as the known-failures file lists.
    Xfail,
    /// The check passed, but the known-failures file lists it as failing. The run then fails.
    Xpass,
    /// Repetitions had different results.
    Unstable,
    /// The target declares the feature absent and refuses its use, as required.
    Unsupported,
    /// A prerequisite is missing. Prevents the profile from being awarded.
    NotTestable,
    /// The machine stalled during the check.
    Inconclusive,
    /// The suite itself failed.
    Error,
    /// The check did not run.
    NotRun,
}

impl Status {
    /// All statuses, in the order of the report.
    pub const ALL: &[Status] = &[
        Status::Pass,
        Status::Fail,
        Status::Warn,
        Status::Xfail,
        Status::Xpass,
        Status::Unstable,
        Status::Unsupported,
        Status::NotTestable,
        Status::Inconclusive,
        Status::Error,
        Status::NotRun,
    ];

    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Warn => "warn",
            Status::Xfail => "xfail",
            Status::Xpass => "xpass",
            Status::Unstable => "unstable",
            Status::Unsupported => "unsupported",
            Status::NotTestable => "not-testable",
            Status::Inconclusive => "inconclusive",
            Status::Error => "error",
            Status::NotRun => "not-run",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One violated requirement.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Violated requirement.
    pub requirement: &'static Requirement,
    /// Subject of the claim, in the words of the check.
    pub description: String,
    /// Acceptable results, as alternatives.
    pub expected: Vec<String>,
    /// Observed result.
    pub actual: String,
    /// `file:line` of the claim.
    pub source: String,
    /// Time since the check started.
    pub at: Duration,
    /// Inbox or subject of the frame that shows the violation.
    pub culprit_frame: Option<String>,
    /// Length of a stall of the machine, if so long that the missed deadline proves nothing.
    pub stalled: Option<Duration>,
}

/// Reason why a check body cannot continue. The only error that a body returns.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Blocked {
    /// The target violated another requirement that the check depends on.
    #[error("blocked by {}: {expectation}: {actual}", violated.id)]
    Precondition {
        /// Violated requirement.
        violated: &'static Requirement,
        /// State that the check needs.
        expectation: String,
        /// Observed state.
        actual: String,
        /// Inbox or subject of the frame that shows the violation.
        culprit_frame: Option<String>,
        /// Length of a stall of the machine during the wait, if so long that the missed deadline
        /// proves nothing.
        stalled: Option<Duration>,
    },
    /// The check needs something that this target does not provide.
    #[error("{0}")]
    Missing(String),
    /// The suite or its environment failed.
    #[error("{0}")]
    Harness(String),
}

impl Blocked {
    /// Creates a failure of the suite in `operation`.
    pub fn harness(operation: impl fmt::Display, cause: impl fmt::Display) -> Blocked {
        Blocked::Harness(format!("{operation}: {cause}"))
    }

    /// Creates a failure of the suite in `operation` from an error and its causes.
    pub fn harness_error(operation: impl fmt::Display, cause: &dyn std::error::Error) -> Blocked {
        Blocked::Harness(format!("{operation}: {}", error_chain(cause)))
    }
}

/// Formats an error and its causes on one line.
///
/// Only the outermost layer may call it: each cause then appears once.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Lets the probe of a wait use `?` on calls into the harness.
impl From<Blocked> for String {
    fn from(blocked: Blocked) -> String {
        blocked.to_string()
    }
}

/// Result of a check body: `Ok` if it ran to its end, even with violations.
pub type Flow = Result<(), Blocked>;

/// One line of the traffic around a violation.
#[derive(Clone, Debug)]
pub struct WireLine {
    /// Time since the check started, in milliseconds.
    pub at_ms: f64,
    /// Sender and receiver, such as `suite → host`.
    pub direction: &'static str,
    /// Command, `reply` or `heartbeat`.
    pub kind: String,
    /// Start of the payload, preceded by the error code if the message has one.
    pub payload: String,
    /// Whether this frame shows the violation.
    pub culprit: bool,
}

/// Outcome of one check or monitor.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `section/name`, or `monitor/name`.
    pub id: String,
    /// Requirements that the check covers.
    pub covers: Vec<&'static Requirement>,
    /// Status of the check.
    pub status: Status,
    /// Explanation of a status other than pass, fail and warn.
    pub reason: Option<String>,
    /// Violations, including those of requirements that the check does not cover.
    pub violations: Vec<Violation>,
    /// Run time of the check.
    pub duration: Duration,
    /// Traffic around the first violation.
    pub wire: Vec<WireLine>,
    /// End of the target's log, if the check did not pass.
    pub log: Option<String>,
    /// `file:line` of the check.
    pub source: String,
    /// Status of each repetition, if the check was repeated.
    pub attempts: Vec<Status>,
}

impl Outcome {
    /// Creates an outcome without details.
    pub fn new(id: &str, covers: &[&'static Requirement], status: Status) -> Outcome {
        Outcome {
            id: id.to_owned(),
            covers: covers.to_vec(),
            status,
            reason: None,
            violations: Vec::new(),
            duration: Duration::ZERO,
            wire: Vec::new(),
            log: None,
            source: String::new(),
            attempts: Vec::new(),
        }
    }

    /// Sets the reason.
    pub fn with_reason(mut self, reason: impl Into<String>) -> Outcome {
        self.reason = Some(reason.into());
        self
    }

    /// Returns the part of the id before the slash.
    pub fn section(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}
