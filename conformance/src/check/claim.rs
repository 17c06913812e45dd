//! Claims: assertions of a check about a requirement. A claim that does not hold is recorded as a
//! violation; the body of the check continues.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use super::check_run::CheckRun;
use super::outcome::Violation;
use super::wait::Waited;
use crate::spec::requirements::Requirement;
use crate::wire::response::{Reply, Response};

/// Claim about one requirement, to be judged by one of its methods.
#[derive(Debug)]
#[must_use = "a claim has no effect until it is judged"]
pub struct Claim<'c> {
    check_run: &'c CheckRun,
    requirement: Option<&'static Requirement>,
    culprit_frame: Option<String>,
    source: &'static Location<'static>,
}

impl CheckRun {
    /// Starts a claim about a requirement that the check covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        Claim::new(self, requirement)
    }
}

impl<'c> Claim<'c> {
    #[track_caller]
    pub(super) fn new(check_run: &'c CheckRun, requirement: Requirement) -> Claim<'c> {
        let source = Location::caller();
        let covered = check_run
            .meta
            .covers
            .iter()
            .copied()
            .find(|covered| **covered == requirement);
        if covered.is_none() {
            check_run.evidence.record_check_error(format!(
                "claims {} at {source}, which its `covers` does not list",
                requirement.id
            ));
        }
        Claim {
            check_run,
            requirement: covered,
            culprit_frame: check_run.evidence.latest_inbox(),
            source,
        }
    }

    /// Sets the response that the claim is about, if it is not the most recent one. The report
    /// marks the frame of the response.
    pub fn about(mut self, response: &Response) -> Claim<'c> {
        self.culprit_frame = Some(response.inbox.clone());
        self
    }

    /// Sets the subject or inbox of the frame that the claim is about.
    pub fn about_subject(mut self, subject: &str) -> Claim<'c> {
        self.culprit_frame = Some(subject.to_owned());
        self
    }

    /// Judges whether `actual` equals `expected`.
    pub fn is<A: PartialEq<E> + Debug, E: Debug>(
        self,
        description: &str,
        actual: A,
        expected: E,
    ) -> bool {
        let held = actual == expected;
        self.judge(held, description, || {
            (vec![format!("{expected:?}")], format!("{actual:?}"))
        })
    }

    /// Judges whether `actual` equals one of the `expected` values.
    pub fn one_of<A: PartialEq<E> + Debug, E: Debug>(
        self,
        description: &str,
        actual: A,
        expected: &[E],
    ) -> bool {
        let held = expected.iter().any(|value| actual == *value);
        self.judge(held, description, || {
            (
                expected.iter().map(|value| format!("{value:?}")).collect(),
                format!("{actual:?}"),
            )
        })
    }

    /// Judges a condition: `condition` describes it, and `held` is whether it holds. If it does
    /// not, `actual` describes the observed state.
    pub fn holds<S: Into<String>>(
        self,
        condition: &str,
        held: bool,
        actual: impl FnOnce() -> S,
    ) -> bool {
        self.judge(held, condition, || {
            (vec![condition.to_owned()], actual().into())
        })
    }

    /// Judges whether the condition of a wait was met in time. Returns the observed value.
    pub fn met<T>(self, waited: Waited<T>) -> Option<T> {
        let stalled = waited.stalled;
        match waited.result {
            Ok(value) => {
                self.judge(true, &waited.description, Default::default);
                Some(value)
            }
            Err(missed) => {
                let expected = vec![format!("{} {}", waited.description, missed.within)];
                self.judge_stalled(false, &waited.description, stalled, || {
                    (expected, missed.actual)
                });
                None
            }
        }
    }

    /// Judges whether the host replied to the request. Returns the response.
    pub fn answered(self, description: &str, reply: &Reply) -> Option<Response> {
        let response = reply.response().cloned();
        let stalled = match reply {
            Reply::Timeout { .. } => self.check_run.stalled(),
            Reply::Response(_) | Reply::NoResponders { .. } => None,
        };
        let claim = Claim {
            culprit_frame: Some(reply.inbox().to_owned()),
            ..self
        };
        claim.judge_stalled(response.is_some(), description, stalled, || {
            (vec!["a reply".to_owned()], reply.to_string())
        });
        response
    }

    /// Records that the claim does not hold, for a result that no other method expresses.
    pub fn violated(self, description: &str, expected: &[&str], actual: impl Into<String>) {
        let expected = expected.iter().map(|value| (*value).to_owned()).collect();
        self.judge(false, description, || (expected, actual.into()));
    }

    fn judge(
        self,
        held: bool,
        description: &str,
        details: impl FnOnce() -> (Vec<String>, String),
    ) -> bool {
        self.judge_stalled(held, description, None, details)
    }

    /// Records the claim. If it does not hold, `details` returns the expected and the actual
    /// results.
    fn judge_stalled(
        self,
        held: bool,
        description: &str,
        stalled: Option<Duration>,
        details: impl FnOnce() -> (Vec<String>, String),
    ) -> bool {
        let Some(requirement) = self.requirement else {
            return held;
        };
        self.check_run.evidence.record_claim(requirement);
        if !held {
            let (expected, actual) = details();
            self.check_run.evidence.record_violation(Violation {
                requirement,
                description: description.to_owned(),
                expected,
                actual,
                source: format!("{}:{}", self.source.file(), self.source.line()),
                at: self.check_run.started_at.elapsed(),
                culprit_frame: self.culprit_frame,
                stalled,
            });
        }
        held
    }
}
