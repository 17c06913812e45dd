//! Claims: what a check says a requirement demands, judged at once and reported all together.

use std::{fmt::Debug, panic::Location, time::Duration};

use crate::{
    answer::{Answer, Reply},
    ground::{Ground, Waited},
    outcome::Violation,
    requirements::Requirement,
};

/// A claim that has begun. A claim that does not hold is noted; the body goes on.
#[derive(Debug)]
#[must_use = "a claim says nothing until it is judged"]
pub struct Claim<'c> {
    ground: &'c Ground,
    requirement: Option<&'static Requirement>,
    guilty: Option<String>,
    source: &'static Location<'static>,
}

impl<'c> Claim<'c> {
    #[track_caller]
    pub(super) fn begin(ground: &'c Ground, requirement: Requirement) -> Claim<'c> {
        let source = Location::caller();
        let covered = ground
            .case
            .covers
            .iter()
            .copied()
            .find(|covered| **covered == requirement);
        if covered.is_none() {
            ground.ledger.fault(format!(
                "claims {} at {source}, which its `covers` does not name",
                requirement.id
            ));
        }
        Claim {
            ground,
            requirement: covered,
            guilty: ground.ledger.last_inbox_seen(),
            source,
        }
    }

    /// The answer that the claim is about, when it is not the latest: its frame is marked.
    pub fn about(mut self, answer: &Answer) -> Claim<'c> {
        self.guilty = Some(answer.inbox.clone());
        self
    }

    /// The frame on that subject or inbox is what the claim is about.
    pub fn about_subject(mut self, subject: &str) -> Claim<'c> {
        self.guilty = Some(subject.to_owned());
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
    pub fn answered(self, what: &str, reply: &Reply) -> Option<Answer> {
        let answer = reply.answer().cloned();
        let stalled = match reply {
            Reply::Silence { .. } => self.ground.stalled(),
            Reply::Answer(_) | Reply::NoResponders { .. } => None,
        };
        let claim = Claim {
            guilty: Some(reply.inbox().to_owned()),
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
        self.ground.ledger.claimed(requirement);
        if !held {
            let (acceptable, actual) = outcome();
            self.ground.ledger.violated(Violation {
                requirement,
                what: what.to_owned(),
                acceptable,
                actual,
                source: format!("{}:{}", self.source.file(), self.source.line()),
                at: self.ground.began.elapsed(),
                guilty: self.guilty,
                stalled,
            });
        }
        held
    }
}
