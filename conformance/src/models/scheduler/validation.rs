//! Validation of objects before the model scheduler accepts them.

use serde_json::Value;

use super::Mutant;

/// Returns the reason why `object` is rejected, or `None` if it is valid.
pub(super) fn rejection_reason(object: &Value, mutant: Option<Mutant>) -> Option<String> {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    if replicas.is_some_and(|number| number < 0) && mutant != Some(Mutant::NegativeReplicasIsZero) {
        return Some("spec.replicas is negative".to_owned());
    }
    let policy = object.pointer("/spec/deployPolicy").and_then(Value::as_str);
    let is_known = matches!(policy, None | Some("" | "RollingUpdate" | "Recreate"));
    if !is_known && mutant != Some(Mutant::AcceptsUnknownPolicy) {
        return Some("spec.deployPolicy is unknown".to_owned());
    }
    let max_restarts = ["/spec", "/spec/template/spec"].map(|base| {
        let value = object.pointer(&format!("{base}/service/maxRestarts"));
        value.and_then(Value::as_i64).unwrap_or(0)
    });
    let is_negative = max_restarts.iter().any(|number| *number < 0);
    if is_negative && mutant != Some(Mutant::CastsNegativeMaxRestarts) {
        return Some("maxRestarts is negative".to_owned());
    }
    let components = ["/spec/components", "/spec/template/spec/components"];
    let is_empty = !components
        .iter()
        .any(|pointer| object.pointer(pointer).is_some());
    (is_empty && mutant == Some(Mutant::RefusesUnusualManifests))
        .then(|| "the object has no components".to_owned())
}
