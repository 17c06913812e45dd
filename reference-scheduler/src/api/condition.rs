//! One aspect of an object's state, as `kubectl wait --for=condition=` reads it.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, Timestamp};

/// A condition of an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name, unique in the list: `Ready`.
    #[serde(rename = "type")]
    pub name: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word of why.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub reason: String,
    /// Why, for people.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub message: String,
    /// The generation of the object that this was said about.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub observed_generation: i64,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_transition_time: Option<Timestamp>,
    /// Everything else, such as upstream's `lastProbeTime`.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known; anything else that a list may say is read as this.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Condition {
    /// A condition that was not yet entered in a list.
    pub fn new(
        name: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }
}

/// The condition called `name`.
#[must_use]
pub fn condition<'a>(list: &'a [Condition], name: &str) -> Option<&'a Condition> {
    list.iter().find(|entry| entry.name == name)
}

/// Whether the condition called `name` is there and holds.
#[must_use]
pub fn is_true(list: &[Condition], name: &str) -> bool {
    condition(list, name).is_some_and(|entry| entry.status == ConditionStatus::True)
}

/// Enters `new` in `list`, in place of what bore its name. `lastTransitionTime` becomes `now` only
/// when the status changes: a message that varies must not look like a new state.
/// Returns whether anything changed.
pub fn set_condition(list: &mut Vec<Condition>, mut new: Condition, now: Timestamp) -> bool {
    let Some(old) = list.iter_mut().find(|entry| entry.name == new.name) else {
        new.last_transition_time = Some(now);
        // A handful for each of very many objects: no room to spare.
        list.reserve_exact(1);
        list.push(new);
        return true;
    };
    new.last_transition_time = if old.status == new.status {
        old.last_transition_time
    } else {
        Some(now)
    };
    if new.last_transition_time.is_none() {
        new.last_transition_time = Some(now);
    }
    let extra = std::mem::take(&mut old.extra);
    new.extra = Extra::default();
    let changed = *old != new;
    new.extra = extra;
    *old = new;
    changed
}
