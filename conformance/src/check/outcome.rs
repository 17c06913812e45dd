//! What became of a check: its status and everything that it saw go wrong.

use std::fmt;
use std::time::Duration;

use crate::spec::requirements::Requirement;

/// The verdict on one check or one requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Everything it covers was checked and held.
    Pass,
    /// A MUST was violated.
    Fail,
    /// A SHOULD was violated.
    Warn,
    /// Failed in the way that the known-failures file pins down.
    Xfail,
    /// Stands in the known-failures file and did not fail so: fails the run.
    Xpass,
    /// Passed in some repetitions and not in others.
    Unstable,
    /// The target declares the feature absent, and refuses its use as it should.
    Unsupported,
    /// A prerequisite is missing, so nothing can be said. Blocks the profile.
    NotTestable,
    /// The machine stalled while it was judged.
    Inconclusive,
    /// The suite itself is at fault.
    Error,
    /// Not selected.
    NotRun,
}

impl Status {
    /// Every status, in the order in which reports count them.
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

    /// The word used in reports.
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

/// One requirement seen violated, with what would have been acceptable.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Whose sentence was violated.
    pub requirement: &'static Requirement,
    /// What was asked, in the words of the check.
    pub what: String,
    /// Every outcome that would have been right.
    pub acceptable: Vec<String>,
    /// What was seen instead.
    pub actual: String,
    /// `file:line` of the claim.
    pub source: String,
    /// Since the check began.
    pub at: Duration,
    /// The inbox or subject of the frame that gave it away, when one did.
    pub culprit_frame: Option<String>,
    /// The machine stalled meanwhile, so the miss of a deadline proves nothing.
    pub stalled: Option<Duration>,
}

/// Why a check body could not go on. The only error that a body returns.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Blocked {
    /// The host broke another requirement that the check builds upon.
    #[error("blocked by {}: {what}: {actual}", owner.id)]
    Precondition {
        /// The requirement that the host broke.
        owner: &'static Requirement,
        /// What the check needed.
        what: String,
        /// What it got.
        actual: String,
        /// The inbox or subject of the frame that gave it away, when one did.
        culprit_frame: Option<String>,
        /// The machine stalled meanwhile.
        stalled: Option<Duration>,
    },
    /// Something that the check needs is not at hand with this target.
    #[error("{0}")]
    Missing(String),
    /// The suite or its surroundings failed.
    #[error("{0}")]
    Harness(String),
}

impl Blocked {
    /// The suite itself failed at `what`.
    pub fn harness(what: impl fmt::Display, cause: impl fmt::Display) -> Blocked {
        Blocked::Harness(format!("{what}: {cause}"))
    }

    /// [`Blocked::harness`] with an error and everything beneath it.
    pub fn chain(what: impl fmt::Display, cause: &dyn std::error::Error) -> Blocked {
        Blocked::Harness(format!("{what}: {}", chain(cause)))
    }
}

/// An error and its causes on one line. Only the edge prints a chain, and only once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// So that the probe of a wait can use `?` on harness calls.
impl From<Blocked> for String {
    fn from(blocked: Blocked) -> String {
        blocked.to_string()
    }
}

/// What a check body returns: `Ok` when it reached its end, whatever it saw.
pub type Flow = Result<(), Blocked>;

/// One line of the wire around a failure.
#[derive(Clone, Debug)]
pub struct WireLine {
    /// Since the check began, in milliseconds.
    pub at_ms: f64,
    /// `suite → host` or `host → suite`.
    pub way: &'static str,
    /// The command, `reply` or `heartbeat`.
    pub what: String,
    /// The beginning of the payload, with its error code in front when it has one.
    pub payload: String,
    /// This is the frame that gave the violation away.
    pub culprit_frame: bool,
}

/// What became of one check.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `section/name`, or `monitor/name`.
    pub id: String,
    /// What it covers.
    pub covers: Vec<&'static Requirement>,
    /// What became of it.
    pub status: Status,
    /// Why, when it is neither pass nor fail nor warn.
    pub reason: Option<String>,
    /// What it saw go wrong, requirements included that it does not cover but found broken.
    pub violations: Vec<Violation>,
    /// How long it ran.
    pub took: Duration,
    /// The wire around the first violation.
    pub wire: Vec<WireLine>,
    /// The end of the host's log, when something went wrong.
    pub log: Option<String>,
    /// Where the check stands.
    pub source: String,
    /// The status of each repetition, when there were several.
    pub attempts: Vec<Status>,
}

impl Outcome {
    /// The part of the id before the slash.
    pub fn section(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// An outcome without anything to report.
    pub fn of(id: &str, covers: &[&'static Requirement], status: Status) -> Outcome {
        Outcome {
            id: id.to_owned(),
            covers: covers.to_vec(),
            status,
            reason: None,
            violations: Vec::new(),
            took: Duration::ZERO,
            wire: Vec::new(),
            log: None,
            source: String::new(),
            attempts: Vec::new(),
        }
    }

    /// The same for a reason.
    pub fn because(mut self, reason: impl Into<String>) -> Outcome {
        self.reason = Some(reason.into());
        self
    }
}
