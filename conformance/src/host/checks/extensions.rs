//! Extension checks: labels that announce extensions.

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;

/// Checks of the section `extensions`.
pub const CHECKS: &[Check] = &[check! {
    id: "extensions/labels", run: labels, covers: [HOST_EXT_001], host: Shared,
    roles: [], budget_s: 30, slow: false,
}];

/// Labels below `berth.dev/` have the value `true`.
async fn labels(cx: &CheckContext) -> Flow {
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let labels = heartbeat.get("labels").and_then(Value::as_object);
    let invalid: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.starts_with("berth.dev/") && *value != "true")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    cx.claim(HOST_EXT_001).holds(
        "labels below `berth.dev/` have the value `true`",
        invalid.is_empty(),
        || invalid.join(", "),
    );
    Ok(())
}
