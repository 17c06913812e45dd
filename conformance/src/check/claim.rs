//! Claims: what a check says a requirement demands, judged at once and reported all together.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use super::check_run::CheckRun;
use super::outcome::Violation;
use super::wait::Waited;
use crate::spec::requirements::Requirement;
use crate::wire::response::{Reply, Response};

/// A claim that has begun. A claim that does not hold is noted; the body goes on.
#[derive(Debug)]
#[must_use = "a claim says nothing until it is judged"]
pub struct Claim<'c> {
    check_run: &'c CheckRun,
    requirement: Option<&'static Requirement>,
    culprit_frame: Option<String>,
    source: &'static Location<'static>,
}

impl CheckRun {
    /// Begins a claim about a requirement that the check covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        Claim::begin(self, requirement)
    }
}

impl<'c> Claim<'c> {
    #[track_caller]
    pub(super) fn begin(check_run: &'c CheckRun, requirement: Requirement) -> Claim<'c> {
        let source = Location::caller();
        let covered = check_run
            .meta
            .covers
            .iter()
            .copied()
            .find(|covered| **covered == requirement);
        if covered.is_none() {
            check_run.evidence.fault(format!(
                "claims {} at {source}, which its `covers` does not name",
                requirement.id
            ));
        }
        Claim {
            check_run,
            requirement: covered,
            culprit_frame: check_run.evidence.last_inbox_seen(),
            source,
        }
    }

    /// The answer that the claim is about, when it is not the latest: its frame is marked.
    pub fn about(mut self, answer: &Response) -> Claim<'c> {
        self.culprit_frame = Some(answer.inbox.clone());
        self
    }

    /// The frame on that subject or inbox is what the claim is about.
    pub fn about_subject(mut self, subject: &str) -> Claim<'c> {
        self.culprit_frame = Some(subject.to_owned());
        self
    }

    /// `actual` equals `expected`.
    pub fn is<A: PartialEq<E> + Debug, E: Debug>(self, what: &str, actual: A, expected: E) -> bool {
        let held = actual == expected;
        self.judge(held, what, || {
            (vec![format!("{expected:?}")], format!("{actual:?}"))
        })
    }

    /// `actual` equals one of the acceptable outcomes.
    pub fn one_of<A: PartialEq<E> + Debug, E: Debug>(
        self,
        what: &str,
        actual: A,
        acceptable: &[E],
    ) -> bool {
        let held = acceptable.iter().any(|outcome| actual == *outcome);
        self.judge(held, what, || {
            (
                acceptable
                    .iter()
                    .map(|outcome| format!("{outcome:?}"))
                    .collect(),
                format!("{actual:?}"),
            )
        })
    }

    /// The condition in `what` holds; `actual` says what was seen when it does not.
    pub fn holds<S: Into<String>>(
        self,
        what: &str,
        held: bool,
        actual: impl FnOnce() -> S,
    ) -> bool {
        self.judge(held, what, || (vec![what.to_owned()], actual().into()))
    }

    /// The wait ended well, within its time. Returns what it saw.
    pub fn met<T>(self, waited: Waited<T>) -> Option<T> {
        let stalled = waited.stalled;
        match waited.result {
            Ok(value) => {
                self.judge(true, &waited.what, Default::default);
                Some(value)
            }
            Err(missed) => {
                let acceptable = vec![format!("{} {}", waited.what, missed.within)];
                self.judge_stalled(false, &waited.what, stalled, || (acceptable, missed.actual));
                None
            }
        }
    }

    /// The request was answered. Returns the answer.
    pub fn answered(self, what: &str, reply: &Reply) -> Option<Response> {
        let answer = reply.answer().cloned();
        let stalled = match reply {
            Reply::Silence { .. } => self.check_run.stalled(),
            Reply::Response(_) | Reply::NoResponders { .. } => None,
        };
        let claim = Claim {
            culprit_frame: Some(reply.inbox().to_owned()),
            ..self
        };
        claim.judge_stalled(answer.is_some(), what, stalled, || {
            (vec!["a reply".to_owned()], reply.to_string())
        });
        answer
    }

    /// The claim does not hold, for a reason that the other forms cannot say.
    pub fn violated(self, what: &str, acceptable: &[&str], actual: impl Into<String>) {
        let acceptable = acceptable
            .iter()
            .map(|outcome| (*outcome).to_owned())
            .collect();
        self.judge(false, what, || (acceptable, actual.into()));
    }

    fn judge(
        self,
        held: bool,
        what: &str,
        outcome: impl FnOnce() -> (Vec<String>, String),
    ) -> bool {
        self.judge_stalled(held, what, None, outcome)
    }

    fn judge_stalled(
        self,
        held: bool,
        what: &str,
        stalled: Option<Duration>,
        outcome: impl FnOnce() -> (Vec<String>, String),
    ) -> bool {
        let Some(requirement) = self.requirement else {
            return held;
        };
        self.check_run.evidence.claimed(requirement);
        if !held {
            let (acceptable, actual) = outcome();
            self.check_run.evidence.violated(Violation {
                requirement,
                what: what.to_owned(),
                acceptable,
                actual,
                source: format!("{}:{}", self.source.file(), self.source.line()),
                at: self.check_run.began.elapsed(),
                culprit_frame: self.culprit_frame,
                stalled,
            });
        }
        held
    }
}
