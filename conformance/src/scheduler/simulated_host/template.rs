//! Encodings of a reply that differ from the usual one. Pure.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::wire::response::State;

/// Template of a reply. Placeholders stand for the values of the reply: `{id}`, `{state}` (the name
/// without its prefix), `"{number}"` (the number of the state), `{message}`, and `{other}`, which
/// is the id with upper and lower case exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTemplate {
    text: Arc<str>,
    state: Option<State>,
}

impl ReplyTemplate {
    /// Returns the template with this text.
    pub fn new(text: &str) -> ReplyTemplate {
        let text = Arc::from(text);
        ReplyTemplate { text, state: None }
    }

    /// Replaces the state of the reply.
    pub fn with_state(self, state: State) -> ReplyTemplate {
        ReplyTemplate {
            state: Some(state),
            ..self
        }
    }

    /// Returns the payload for a reply about `id`, whose usual payload is `body`.
    pub(super) fn render(&self, id: &str, body: &Value) -> Bytes {
        let text_at = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        let state = State::parse(body.pointer("/workloadStatus/workloadState"));
        let state = self.state.clone().unwrap_or(state);
        let message = text_at("/workloadStatus/message").unwrap_or_default();
        let text = self
            .text
            .replace("{id}", &escaped(id))
            .replace("{other}", &escaped(&case_swapped(id)))
            .replace("{state}", &state.to_string())
            .replace("\"{number}\"", &number(&state).to_string())
            .replace("{message}", &escaped(message));
        Bytes::from(text)
    }
}

/// Returns the text as it appears between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// Returns another id: the id with upper and lower case exchanged, or with a prefix if it contains
/// no letters.
fn case_swapped(id: &str) -> String {
    let swap = |c: char| {
        if c.is_ascii_lowercase() {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    };
    let swapped: String = id.chars().map(swap).collect();
    if swapped == id {
        format!("x{id}")
    } else {
        swapped
    }
}

/// Returns the number of a state in the schema.
fn number(state: &State) -> u8 {
    match state {
        State::Starting => 1,
        State::Running => 2,
        State::Completed => 3,
        State::Stopping => 4,
        State::Error => 5,
        State::NotFound => 6,
        State::Unspecified | State::Absent | State::Other(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replaces_placeholders_by_values_of_reply() {
        let body = json!({ "workloadStatus": {
            "workloadId": "aB1", "workloadState": "WORKLOAD_STATE_NOT_FOUND", "message": "say \"x\"",
        } });
        let rendered = |template: ReplyTemplate| {
            let payload = template.render("aB1", &body);
            String::from_utf8(payload.to_vec()).unwrap()
        };
        let template =
            ReplyTemplate::new(r#"["{id}","{other}","X_{state}","{number}","{message}"]"#);
        assert_eq!(
            rendered(template.clone()),
            r#"["aB1","Ab1","X_NOT_FOUND",6,"say \"x\""]"#
        );
        assert_eq!(
            rendered(template.with_state(State::Error)),
            r#"["aB1","Ab1","X_ERROR",5,"say \"x\""]"#
        );
        assert_eq!(rendered(ReplyTemplate::new("not JSON")), "not JSON");
        assert_eq!(case_swapped("17"), "x17");
    }
}
