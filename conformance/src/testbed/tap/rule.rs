//! Rules: faults for single messages.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::frame::{Direction, Disposition, Frame, contains};

/// Treatment of a message by the tap.
#[derive(Clone)]
#[non_exhaustive]
pub enum Action {
    /// Drops the message.
    Drop,
    /// Forwards the message after a delay; later messages overtake it.
    Delay(Duration),
    /// Forwards the message twice in a row.
    Duplicate,
    /// Holds the message until the rule is released or removed; later messages overtake it.
    Hold,
    /// Forwards the message with the payload that the function returns.
    Rewrite(Arc<dyn Fn(&Bytes) -> Bytes + Send + Sync>),
    /// Drops the message and closes the connection.
    DisconnectBefore,
    /// Forwards the message and then closes the connection.
    DisconnectAfter,
}

impl Action {
    /// Creates an [`Action::Rewrite`].
    pub fn rewrite(new_payload: impl Fn(&Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self::Rewrite(Arc::new(new_payload))
    }

    fn disposition(&self) -> Disposition {
        match self {
            Self::Drop => Disposition::Dropped,
            Self::Delay(delay) => Disposition::Delayed(*delay),
            Self::Duplicate => Disposition::Duplicated,
            Self::Hold => Disposition::Held,
            Self::Rewrite(_) => Disposition::Rewritten,
            Self::DisconnectBefore => Disposition::DisconnectBefore,
            Self::DisconnectAfter => Disposition::DisconnectAfter,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.disposition(), out)
    }
}

/// Applies an action to the messages that satisfy every given condition.
///
/// ```
/// use berth_conformance::testbed::tap::{Action, Rule};
///
/// // Drops the first reply to a start of this workload.
/// let rule = Rule::replies_to("runtime.host.*.workload.start", Action::Drop)
///     .containing("w-17")
///     .times(1);
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    action: Action,
    direction: Option<Direction>,
    /// Pattern for the subject of the message or, with `replies`, of its request.
    subject: Option<String>,
    replies: bool,
    part: Option<Bytes>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Creates a rule for all messages.
    pub fn all(action: Action) -> Self {
        Self {
            action,
            direction: None,
            subject: None,
            replies: false,
            part: None,
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Creates a rule for messages on subjects that match a pattern with `*` and `>`.
    pub fn on(pattern: impl Into<String>, action: Action) -> Self {
        Self {
            subject: Some(pattern.into()),
            ..Self::all(action)
        }
    }

    /// Creates a rule for replies to requests on subjects that match a pattern.
    ///
    /// [`Self::containing`] then applies to the request, not to the reply.
    pub fn replies_to(pattern: impl Into<String>, action: Action) -> Self {
        Self {
            subject: Some(pattern.into()),
            replies: true,
            ..Self::all(action)
        }
    }

    /// Limits the rule to messages from the target.
    pub fn from_target(self) -> Self {
        Self {
            direction: Some(Direction::FromTarget),
            ..self
        }
    }

    /// Limits the rule to messages to the target.
    pub fn to_target(self) -> Self {
        Self {
            direction: Some(Direction::ToTarget),
            ..self
        }
    }

    /// Limits the rule to messages whose payload contains `part`, such as a workload id.
    pub fn containing(self, part: impl AsRef<[u8]>) -> Self {
        Self {
            part: Some(Bytes::copy_from_slice(part.as_ref())),
            ..self
        }
    }

    /// Leaves the first `skip` matching messages unchanged.
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Limits the rule to this number of messages.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, frame: &Frame) -> bool {
        if !frame.is_message()
            || self
                .direction
                .is_some_and(|direction| direction != frame.direction)
        {
            return false;
        }
        let on_subject = |pattern: &String| {
            if self.replies {
                frame.is_reply_to(pattern)
            } else {
                frame.is_on(pattern)
            }
        };
        if !self.subject.as_ref().is_none_or(on_subject) {
            return false;
        }
        let Some(part) = &self.part else { return true };
        match (self.replies, &frame.in_reply_to) {
            (true, Some(request)) => contains(&request.payload, part),
            _ => contains(&frame.payload, part),
        }
    }
}

/// Guard of an active rule. When it is dropped, the rule is removed, and the held messages are
/// forwarded.
#[derive(Debug)]
#[must_use = "a rule is removed when its guard is dropped"]
pub struct RuleGuard {
    active: Arc<ActiveRule>,
    rules: Arc<Rules>,
}

impl RuleGuard {
    /// Returns the number of messages that the action was applied to.
    pub fn hits(&self) -> u64 {
        self.active.hits()
    }

    /// Forwards the held messages and deactivates the rule.
    pub fn release(&self) {
        self.rules.release(&self.active);
    }
}

impl Drop for RuleGuard {
    fn drop(&mut self) {
        self.rules.remove(&self.active);
    }
}

/// The active rules, oldest first.
#[derive(Debug)]
pub(super) struct Rules {
    active: RwLock<Vec<Arc<ActiveRule>>>,
    /// Changes when held messages may be released.
    releases: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct ActiveRule {
    rule: Rule,
    matched: AtomicU64,
    released: AtomicBool,
}

/// The action for one message.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) action: Action,
    /// The rule that decided; it holds the message until it is released.
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
            matched: AtomicU64::new(0),
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

    /// Returns the action of the first rule that applies, and records it in the frame.
    pub(super) fn decide(&self, frame: &mut Frame) -> Option<Decision> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let rule = active.iter().find(|active| active.count_and_match(frame))?;
        frame.disposition = rule.rule.action.disposition();
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
    /// Returns whether the held messages may be forwarded.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    fn hits(&self) -> u64 {
        let matched = self.matched.load(Ordering::Acquire);
        matched.saturating_sub(self.rule.skip).min(self.rule.times)
    }

    /// Counts the message if it satisfies the conditions of the rule. Returns whether the action
    /// applies to it: the first `skip` counted messages are left unchanged, and the next `times`
    /// messages are not.
    fn count_and_match(&self, frame: &Frame) -> bool {
        if self.is_released() || !self.rule.matches(frame) {
            return false;
        }
        let number = self.matched.fetch_add(1, Ordering::AcqRel);
        number >= self.rule.skip && number - self.rule.skip < self.rule.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::tap::frame::{CorrelatedRequest, FrameKind};

    fn message(direction: Direction, subject: &str, payload: &'static str) -> Frame {
        let mut frame = Frame::empty(1, direction, FrameKind::Message);
        frame.subject = Some(subject.into());
        frame.payload = Bytes::from_static(payload.as_bytes());
        frame
    }

    fn reply_to(subject: &str, request: &'static str, payload: &'static str) -> Frame {
        let mut frame = message(Direction::FromTarget, "inbox.1", payload);
        frame.in_reply_to = Some(Arc::new(CorrelatedRequest {
            number: 1,
            at: frame.at,
            subject: subject.into(),
            payload: Bytes::from_static(request.as_bytes()),
        }));
        frame
    }

    #[test]
    fn applies_only_if_all_conditions_hold() {
        let start = message(Direction::ToTarget, "host.h.start", "id w-1");
        let reply = reply_to("host.h.start", "id w-1", "running");
        let mut subscribe = message(Direction::FromTarget, "host.h.start", "");
        subscribe.kind = FrameKind::Subscribe;
        let on = |pattern: &str| Rule::on(pattern, Action::Drop);
        let replies = |pattern: &str| Rule::replies_to(pattern, Action::Drop);
        for (rule, frame, expected) in [
            (Rule::all(Action::Drop), &start, true),
            (Rule::all(Action::Drop), &subscribe, false),
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
    fn applies_to_the_given_number_after_skipped_messages() {
        let rules = Arc::new(Rules::new());
        let guard = rules.install(Rule::all(Action::Drop).skip(2).times(3));
        let decide = || {
            rules
                .decide(&mut message(Direction::ToTarget, "a", ""))
                .is_some()
        };
        let decided: Vec<_> = (0..7).map(|_| decide()).collect();
        assert_eq!(decided, [false, false, true, true, true, false, false]);
        assert_eq!(guard.hits(), 3);
    }

    #[test]
    fn contains_finds_the_part_at_any_position() {
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
