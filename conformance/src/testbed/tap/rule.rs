//! Rules: which messages something is done to, and what.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::frame::{Direction, Fate, Frame, contains};

/// What is done to a message.
#[derive(Clone)]
#[non_exhaustive]
pub enum Action {
    /// It is not passed on.
    Drop,
    /// It is passed on that much later; what comes after it goes ahead.
    Delay(Duration),
    /// It is passed on twice, one right after the other.
    Duplicate,
    /// It is kept until the rule is released or removed; what comes after it goes ahead.
    Hold,
    /// It is passed on with the payload that the function makes of its own.
    Rewrite(Arc<dyn Fn(&Bytes) -> Bytes + Send + Sync>),
    /// The connection is cut, and the message is lost with it.
    CutBefore,
    /// The message is passed on, and then the connection is cut.
    CutAfter,
}

impl Action {
    /// [`Action::Rewrite`] of a closure.
    pub fn rewrite(make: impl Fn(&Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self::Rewrite(Arc::new(make))
    }

    fn fate(&self) -> Fate {
        match self {
            Self::Drop => Fate::Dropped,
            Self::Delay(late) => Fate::Delayed(*late),
            Self::Duplicate => Fate::Duplicated,
            Self::Hold => Fate::Held,
            Self::Rewrite(_) => Fate::Rewritten,
            Self::CutBefore => Fate::CutBefore,
            Self::CutAfter => Fate::CutAfter,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.fate(), out)
    }
}

/// A rule: messages that satisfy every condition given have the action done to them.
///
/// ```
/// use berth_conformance::testbed::tap::{Action, Rule};
///
/// // The first answer to a start of this workload is lost.
/// let rule = Rule::replies_to("runtime.host.*.workload.start", Action::Drop)
///     .containing("w-17")
///     .times(1);
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    action: Action,
    way: Option<Direction>,
    /// Of the message, or of the request that it answers.
    subject: Option<String>,
    answers: bool,
    part: Option<Bytes>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// A rule for every message.
    pub fn every(action: Action) -> Self {
        Self {
            action,
            way: None,
            subject: None,
            answers: false,
            part: None,
            skip: 0,
            times: u64::MAX,
        }
    }

    /// A rule for the messages on subjects that match a pattern with `*` and `>`.
    pub fn on(pattern: impl Into<String>, action: Action) -> Self {
        Self {
            subject: Some(pattern.into()),
            ..Self::every(action)
        }
    }

    /// A rule for the answers to requests on subjects that match a pattern.
    ///
    /// [`Self::containing`] then looks into the request, not into the answer.
    pub fn replies_to(pattern: impl Into<String>, action: Action) -> Self {
        Self {
            subject: Some(pattern.into()),
            answers: true,
            ..Self::every(action)
        }
    }

    /// Only those from the target.
    pub fn from_target(self) -> Self {
        Self {
            way: Some(Direction::FromTarget),
            ..self
        }
    }

    /// Only those to the target.
    pub fn to_target(self) -> Self {
        Self {
            way: Some(Direction::ToTarget),
            ..self
        }
    }

    /// Only those with a payload of which `part`, such as a workload id, is a piece.
    pub fn containing(self, part: impl AsRef<[u8]>) -> Self {
        Self {
            part: Some(Bytes::copy_from_slice(part.as_ref())),
            ..self
        }
    }

    /// Lets that many pass unharmed first.
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Only that many; the next ones pass unharmed.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, frame: &Frame) -> bool {
        if !frame.is_message() || self.way.is_some_and(|way| way != frame.way) {
            return false;
        }
        let on_subject = |pattern: &String| match self.answers {
            true => frame.is_reply_to(pattern),
            false => frame.is_on(pattern),
        };
        if !self.subject.as_ref().is_none_or(on_subject) {
            return false;
        }
        let Some(part) = &self.part else { return true };
        match (self.answers, &frame.answers) {
            (true, Some(request)) => contains(&request.payload, part),
            _ => contains(&frame.payload, part),
        }
    }
}

/// A rule in force. It is removed when this is dropped, and what it holds is passed on.
#[derive(Debug)]
#[must_use = "a rule is removed when its guard is dropped"]
pub struct RuleGuard {
    active: Arc<ActiveRule>,
    rules: Arc<Rules>,
}

impl RuleGuard {
    /// To how many messages the action was done so far.
    pub fn hits(&self) -> u64 {
        self.active.hits()
    }

    /// Passes on what the rule holds, and holds nothing more.
    pub fn release(&self) {
        self.rules.release(&self.active);
    }
}

impl Drop for RuleGuard {
    fn drop(&mut self) {
        self.rules.remove(&self.active);
    }
}

/// All rules in force, the oldest first.
#[derive(Debug)]
pub(super) struct Rules {
    active: RwLock<Vec<Arc<ActiveRule>>>,
    /// Changes when something that is held may go.
    releases: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct ActiveRule {
    rule: Rule,
    seen: AtomicU64,
    released: AtomicBool,
}

/// What the rules say of one message.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) action: Action,
    /// The rule that said so, for as long as it holds the message.
    pub(super) rule: Arc<ActiveRule>,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            active: RwLock::default(),
            releases: watch::Sender::new(0),
        }
    }

    pub(super) fn install(self: &Arc<Self>, rule: Rule) -> RuleGuard {
        let active = Arc::new(ActiveRule {
            rule,
            seen: AtomicU64::new(0),
            released: AtomicBool::new(false),
        });
        self.active
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(active.clone());
        RuleGuard {
            active,
            rules: self.clone(),
        }
    }

    /// The action of the first rule that wants the message, also noted as the frame's fate.
    pub(super) fn decide(&self, frame: &mut Frame) -> Option<Decision> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let rule = active.iter().find(|active| active.claims(frame))?;
        frame.fate = rule.rule.action.fate();
        Some(Decision {
            action: rule.rule.action.clone(),
            rule: rule.clone(),
        })
    }

    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    fn release(&self, active: &ActiveRule) {
        active.released.store(true, Ordering::Release);
        self.releases.send_modify(|count| *count += 1);
    }

    fn remove(&self, active: &Arc<ActiveRule>) {
        let mut rules = self.active.write().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|other| !Arc::ptr_eq(other, active));
        drop(rules);
        self.release(active);
    }
}

impl ActiveRule {
    /// Whether what it holds may go.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    fn hits(&self) -> u64 {
        let seen = self.seen.load(Ordering::Acquire);
        seen.saturating_sub(self.rule.skip).min(self.rule.times)
    }

    /// Whether the message is for this rule; counts it if it is of those that the rule speaks of.
    fn claims(&self, frame: &Frame) -> bool {
        if self.is_released() || !self.rule.matches(frame) {
            return false;
        }
        let number = self.seen.fetch_add(1, Ordering::AcqRel);
        number >= self.rule.skip && number - self.rule.skip < self.rule.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::tap::frame::{Kind, Request};

    fn message(way: Direction, subject: &str, payload: &'static str) -> Frame {
        let mut frame = Frame::bare(1, way, Kind::Message);
        frame.subject = Some(subject.into());
        frame.payload = Bytes::from_static(payload.as_bytes());
        frame
    }

    fn reply_to(subject: &str, request: &'static str, payload: &'static str) -> Frame {
        let mut frame = message(Direction::FromTarget, "inbox.1", payload);
        frame.answers = Some(Arc::new(Request {
            number: 1,
            at: frame.at,
            subject: subject.into(),
            payload: Bytes::from_static(request.as_bytes()),
        }));
        frame
    }

    #[test]
    fn every_condition_has_to_hold() {
        let start = message(Direction::ToTarget, "host.h.start", "id w-1");
        let reply = reply_to("host.h.start", "id w-1", "running");
        let mut subscribe = message(Direction::FromTarget, "host.h.start", "");
        subscribe.kind = Kind::Subscribe;
        let on = |pattern: &str| Rule::on(pattern, Action::Drop);
        let replies = |pattern: &str| Rule::replies_to(pattern, Action::Drop);
        for (rule, frame, expected) in [
            (Rule::every(Action::Drop), &start, true),
            (Rule::every(Action::Drop), &subscribe, false),
            (on("host.*.start"), &start, true),
            (on("host.*.stop"), &start, false),
            (on("host.*.start"), &reply, false),
            (on("host.>").to_target(), &start, true),
            (on("host.>").from_target(), &start, false),
            (on("host.>").containing("w-1"), &start, true),
            (on("host.>").containing("w-2"), &start, false),
            (on("inbox.*"), &reply, true),
            (replies("host.*.start"), &reply, true),
            (replies("host.*.stop"), &reply, false),
            (replies("host.*.start"), &start, false),
            (replies("host.>").containing("w-1"), &reply, true),
            (replies("host.>").containing("running"), &reply, false),
        ] {
            assert_eq!(rule.matches(frame), expected, "{rule:?} on {frame:?}");
        }
    }

    #[test]
    fn so_many_pass_and_so_many_are_hit() {
        let rules = Arc::new(Rules::new());
        let guard = rules.install(Rule::every(Action::Drop).after(2).times(3));
        let hit = || {
            rules
                .decide(&mut message(Direction::ToTarget, "a", ""))
                .is_some()
        };
        let hits: Vec<_> = (0..7).map(|_| hit()).collect();
        assert_eq!(hits, [false, false, true, true, true, false, false]);
        assert_eq!(guard.hits(), 3);
    }

    #[test]
    fn a_piece_is_found_wherever_it_is() {
        for (whole, part, expected) in [
            ("", "", true),
            ("a", "", true),
            ("", "a", false),
            ("aab", "ab", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(
                contains(whole.as_bytes(), part.as_bytes()),
                expected,
                "{part} in {whole}"
            );
        }
    }
}
