//! The decoder of the model scheduler for replies and heartbeats, with the faults of mutants.

use serde_json::Value;

use super::Mutant;
use crate::spec::schema;
use crate::wire::response::State;

/// Status in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReportedStatus {
    pub state: State,
    pub message: String,
}

/// Decodes the reply to a request for `id`; returns `None` if the reply is invalid, and so counts
/// as missing (SCHED-ENC-012).
pub(super) fn decode_status(
    payload: &[u8],
    id: &str,
    mutant: Option<Mutant>,
) -> Option<ReportedStatus> {
    let accepts_any = mutant == Some(Mutant::AcceptsAnyReply);
    let running = || ReportedStatus {
        state: State::Running,
        message: String::new(),
    };
    let Ok(json) = serde_json::from_slice::<Value>(payload) else {
        return accepts_any.then(running);
    };
    if is_rejected(&json, "WorkloadStartResponse", mutant) {
        return None;
    }
    let status = member(&json, "workloadStatus", "workload_status", mutant);
    let Some(status) = status.filter(|status| status.is_object()) else {
        return accepts_any.then(running);
    };
    if accepts_any {
        return Some(running());
    }
    let text = |camel, proto| member(status, camel, proto, mutant).and_then(Value::as_str);
    if text("workloadId", "workload_id") != Some(id) {
        return None;
    }
    let state = member(status, "workloadState", "workload_state", mutant);
    if mutant == Some(Mutant::RejectsProtoNames) && state.is_some_and(Value::is_number) {
        return None;
    }
    match State::parse(state) {
        State::Absent | State::Other(_) | State::Unspecified => None,
        state => Some(ReportedStatus {
            state,
            message: text("message", "message").unwrap_or_default().to_owned(),
        }),
    }
}

/// Returns a field by its JSON name or its proto name.
pub(super) fn member<'v>(
    json: &'v Value,
    camel: &str,
    proto: &str,
    mutant: Option<Mutant>,
) -> Option<&'v Value> {
    let found = json.get(camel).or_else(|| match mutant {
        Some(Mutant::RejectsProtoNames) => None,
        _ => json.get(proto),
    });
    found.filter(|value| !value.is_null())
}

/// Whether the mutant rejects a message.
pub(super) fn is_rejected(json: &Value, message: &str, mutant: Option<Mutant>) -> bool {
    match mutant {
        Some(Mutant::RejectsUnknownFields) => has_unknown_field(json, message),
        Some(Mutant::RejectsNull) => has_null(json),
        _ => false,
    }
}

fn has_null(json: &Value) -> bool {
    match json {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

fn has_unknown_field(json: &Value, message: &str) -> bool {
    let (Some(members), Some(schema)) = (json.as_object(), schema::message(message)) else {
        return false;
    };
    members.iter().any(|(name, value)| {
        let field = schema
            .field_by_json_name(name)
            .or_else(|| schema.field_by_proto_name(name));
        let Some(field) = field else { return true };
        let schema::Kind::Message(inner) = field.kind else {
            return false;
        };
        match value {
            Value::Array(items) => items.iter().any(|item| has_unknown_field(item, inner)),
            value => has_unknown_field(value, inner),
        }
    })
}

/// Decodes a JSON number or a number in a string.
pub(super) fn number(value: Option<&Value>, mutant: Option<Mutant>) -> Option<f64> {
    match value? {
        Value::Number(number) if mutant != Some(Mutant::IgnoresJsonNumbers) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_permitted_encoding_and_rejects_invalid_replies() {
        for valid in [
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_RUNNING"}}"#,
            r#"{"workload_status":{"workload_id":"a","workload_state":2,"message":null,"x":{}}}"#,
        ] {
            let status = decode_status(valid.as_bytes(), "a", None);
            assert_eq!(
                status.map(|status| status.state),
                Some(State::Running),
                "{valid}"
            );
        }
        for invalid in [
            "",
            "{}",
            r#"{"workloadStatus":{"workloadId":"b","workloadState":2}}"#,
            r#"{"workloadStatus":{"workloadId":"a"}}"#,
        ] {
            assert_eq!(
                decode_status(invalid.as_bytes(), "a", None),
                None,
                "{invalid}"
            );
        }
    }
}
