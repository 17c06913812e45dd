//! Extension: how abilities beyond the specification are announced.

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;

/// The section.
pub const CHECKS: &[Check] = &[check! {
    id: "ext/ability-labels", run: ability_labels, covers: [HOST_EXT_001], host: Shared,
    roles: [], budget_s: 30, slow: false,
}];

async fn ability_labels(cx: &CheckContext) -> Flow {
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let labels = heartbeat.get("labels").and_then(Value::as_object);
    let false_ones: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.starts_with("berth.dev/") && *value != "true")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    cx.claim(HOST_EXT_001).holds(
        "labels below berth.dev/ have the value `true`",
        false_ones.is_empty(),
        || false_ones.join(", "),
    );
    Ok(())
}
