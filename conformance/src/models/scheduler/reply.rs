//! How the model scheduler reads what hosts say: liberally, or wrongly by a mutant. Pure.

use serde_json::Value;

use super::Mutant;
use crate::spec::schema;
use crate::wire::response::State;

/// A status as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub state: State,
    pub message: String,
}

/// Reads the answer to a command about an id; `None` is no answer.
pub(super) fn status(payload: &[u8], id: &str, mutant: Option<Mutant>) -> Option<Status> {
    let any = mutant == Some(Mutant::AnyReplyWillDo);
    let running = || Status {
        state: State::Running,
        message: String::new(),
    };
    let Ok(json) = serde_json::from_slice::<Value>(payload) else {
        return any.then(running);
    };
    if refuses(&json, "WorkloadStartResponse", mutant) {
        return None;
    }
    let status = member(&json, "workloadStatus", "workload_status", mutant);
    let Some(status) = status.filter(|status| status.is_object()) else {
        return any.then(running);
    };
    if any {
        return Some(running());
    }
    let text = |camel, proto| member(status, camel, proto, mutant).and_then(Value::as_str);
    if text("workloadId", "workload_id") != Some(id) {
        return None;
    }
    let state = member(status, "workloadState", "workload_state", mutant);
    if mutant == Some(Mutant::CamelCaseReader) && state.is_some_and(Value::is_number) {
        return None;
    }
    match State::read(state) {
        State::Absent | State::Other(_) | State::Unspecified => None,
        state => Some(Status {
            state,
            message: text("message", "message").unwrap_or_default().to_owned(),
        }),
    }
}

/// A member by either of its names.
pub(super) fn member<'v>(
    json: &'v Value,
    camel: &str,
    proto: &str,
    mutant: Option<Mutant>,
) -> Option<&'v Value> {
    let found = json.get(camel).or_else(|| match mutant {
        Some(Mutant::CamelCaseReader) => None,
        _ => json.get(proto),
    });
    found.filter(|value| !value.is_null())
}

/// Whether a reader of that mutant refuses the message: the faithful one never does.
pub(super) fn refuses(json: &Value, message: &str, mutant: Option<Mutant>) -> bool {
    match mutant {
        Some(Mutant::StrictReader) => has_unknown(json, message),
        Some(Mutant::NullIsMalformed) => has_null(json),
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

fn has_unknown(json: &Value, message: &str) -> bool {
    let (Some(members), Some(known)) = (json.as_object(), schema::message(message)) else {
        return false;
    };
    members.iter().any(|(name, value)| {
        let field = known
            .field_by_json_name(name)
            .or_else(|| known.field_by_proto_name(name));
        let Some(field) = field else { return true };
        let schema::Kind::Message(inner) = field.kind else {
            return false;
        };
        match value {
            Value::Array(items) => items.iter().any(|item| has_unknown(item, inner)),
            value => has_unknown(value, inner),
        }
    })
}

/// A number that may be written as text.
pub(super) fn number(value: Option<&Value>, mutant: Option<Mutant>) -> Option<f64> {
    match value? {
        Value::Number(number) if mutant != Some(Mutant::WantsNumberStrings) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_liberally() {
        for good in [
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_RUNNING"}}"#,
            r#"{"workload_status":{"workload_id":"a","workload_state":2,"message":null,"more":{}}}"#,
        ] {
            let read = status(good.as_bytes(), "a", None);
            assert_eq!(
                read.map(|status| status.state),
                Some(State::Running),
                "{good}"
            );
        }
        for bad in [
            "",
            "{}",
            r#"{"workloadStatus":{"workloadId":"b","workloadState":2}}"#,
            r#"{"workloadStatus":{"workloadId":"a"}}"#,
        ] {
            assert_eq!(status(bad.as_bytes(), "a", None), None, "{bad}");
        }
    }
}
