//! The condition of an object that tells the problem of its manifest, without I/O.

use std::sync::Arc;

use crate::api::{Condition, ConditionStatus, Object, Timestamp, condition, set_condition};

/// Condition of an object while its manifest has a problem. Only the store writes it.
const MANIFEST_CONDITION: &str = "Manifest";

/// A problem of a manifest, for the status of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    /// Returns the notice of an object whose file is invalid or unreadable now.
    pub(super) fn invalid(file: &str, problem: &str) -> Self {
        Self {
            reason: "InvalidManifest",
            message: format!("{file}: {problem}; the object stays as it was"),
        }
    }

    fn condition(&self) -> Condition {
        Condition::new(
            MANIFEST_CONDITION,
            ConditionStatus::False,
            self.reason,
            self.message.as_str(),
        )
    }
}

/// Sets or removes the condition about the manifest.
pub(super) fn set_notice(object: &mut Object, notice: Option<&Notice>, now: Timestamp) {
    let generation = object.metadata().generation;
    if notice.is_none() && conditions(object).is_empty() {
        return;
    }
    let Some(conditions) = conditions_mut(object) else {
        return;
    };
    match notice {
        Some(notice) => {
            let mut condition = notice.condition();
            condition.observed_generation = generation;
            set_condition(conditions, condition, now);
        }
        None => conditions.retain(|condition| condition.name != MANIFEST_CONDITION),
    }
}

/// Keeps the condition about the manifest when the core replaces the status.
pub(super) fn keep_notice(before: &Object, object: &mut Object) {
    let kept = condition(conditions(before), MANIFEST_CONDITION).cloned();
    if kept.is_none() && conditions(object).is_empty() {
        return;
    }
    if let Some(conditions) = conditions_mut(object) {
        conditions.retain(|condition| condition.name != MANIFEST_CONDITION);
        conditions.extend(kept);
    }
}

fn conditions(object: &Object) -> &[Condition] {
    let conditions = match object {
        Object::Workload(it) => it.status.as_ref().map(|status| &status.conditions),
        Object::ReplicaSet(it) => it.status.as_ref().map(|status| &status.conditions),
        Object::Deployment(it) => it.status.as_ref().map(|status| &status.conditions),
        Object::Artifact(it) => it.status.as_ref().map(|status| &status.conditions),
        Object::Host(_) => None,
    };
    conditions.map(Vec::as_slice).unwrap_or_default()
}

/// Returns the conditions for a change; `None` for a host, which has no manifest.
fn conditions_mut(object: &mut Object) -> Option<&mut Vec<Condition>> {
    Some(match object {
        Object::Workload(it) => {
            let status = &mut Arc::make_mut(it).status;
            &mut status.get_or_insert_default().conditions
        }
        Object::ReplicaSet(it) => {
            let status = &mut Arc::make_mut(it).status;
            &mut status.get_or_insert_default().conditions
        }
        Object::Deployment(it) => {
            let status = &mut Arc::make_mut(it).status;
            &mut status.get_or_insert_default().conditions
        }
        Object::Artifact(it) => {
            let status = &mut Arc::make_mut(it).status;
            &mut status.get_or_insert_default().conditions
        }
        Object::Host(_) => return None,
    })
}
