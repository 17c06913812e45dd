//! What the model scheduler does not take in.

use serde_json::Value;

use super::Mutant;

/// Why an object is refused, when it is.
pub(super) fn refusal(object: &Value, mutant: Option<Mutant>) -> Option<String> {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    if replicas.is_some_and(|number| number < 0) && mutant != Some(Mutant::NegativeIsZero) {
        return Some("refused: the number of replicas is negative".to_owned());
    }
    let policy = object.pointer("/spec/deployPolicy").and_then(Value::as_str);
    let known = matches!(policy, None | Some("" | "RollingUpdate" | "Recreate"));
    if !known && mutant != Some(Mutant::AnyPolicyRolls) {
        return Some("refused: there is no such deployPolicy".to_owned());
    }
    let restarts = ["/spec", "/spec/template/spec"].map(|base| {
        let restarts = object.pointer(&format!("{base}/service/maxRestarts"));
        restarts.and_then(Value::as_i64).unwrap_or(0)
    });
    if restarts.iter().any(|number| *number < 0) && mutant != Some(Mutant::CastsNegativeNumbers) {
        return Some("refused: maxRestarts is negative".to_owned());
    }
    let components = ["/spec/components", "/spec/template/spec/components"];
    let empty = !components
        .iter()
        .any(|pointer| object.pointer(pointer).is_some());
    (empty && mutant == Some(Mutant::RefusesOddManifests))
        .then(|| "refused: no components".to_owned())
}
