//! Conditions of objects, as used by `kubectl wait --for=condition=`.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, Timestamp};

/// A condition of an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition, unique in the list, such as `Ready`.
    #[serde(rename = "type")]
    pub name: String,
    /// Status of the condition.
    pub status: ConditionStatus,
    /// Reason in CamelCase.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub reason: String,
    /// Human-readable message.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub message: String,
    /// Generation of the object that the condition reflects.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub observed_generation: i64,
    /// Time of the most recent change of `status`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_transition_time: Option<Timestamp>,
    /// Unknown fields, such as `lastProbeTime` of wasmCloud's operator.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// The condition is true.
    True,
    /// The condition is false.
    False,
    /// The status is unknown, or any other value.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Condition {
    /// Returns a condition for [`set_condition`].
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

/// Returns the condition with this name.
#[must_use]
pub fn condition<'a>(list: &'a [Condition], name: &str) -> Option<&'a Condition> {
    list.iter().find(|entry| entry.name == name)
}

/// Returns whether the condition with this name exists and is true.
#[must_use]
pub fn is_true(list: &[Condition], name: &str) -> bool {
    condition(list, name).is_some_and(|entry| entry.status == ConditionStatus::True)
}

/// Adds `new` to `list`, or replaces the condition with the same name, and returns whether the list
/// changed. Sets `lastTransitionTime` only if the status changes, not if only the message changes.
pub fn set_condition(list: &mut Vec<Condition>, mut new: Condition, now: Timestamp) -> bool {
    let Some(old) = list.iter_mut().find(|entry| entry.name == new.name) else {
        new.last_transition_time = Some(now);
        // Very many objects have a few conditions each: avoid unused capacity.
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
