//! Encodings of heartbeats and replies, from the golden vectors that all languages share. Pure.

use serde_json::{Map, Value, json};

use crate::scheduler::simulated_host::ReplyTemplate;

const HEARTBEATS: &str = include_str!("../../../../../proto/vectors/host_heartbeat.json");
const STATUSES: &str = include_str!("../../../../../proto/vectors/workload_status.json");
const START_REPLIES: &str =
    include_str!("../../../../../proto/vectors/workload_start_response.json");
const STOP_REPLIES: &str = include_str!("../../../../../proto/vectors/workload_stop_response.json");
const STATUS_REPLIES: &str =
    include_str!("../../../../../proto/vectors/workload_status_response.json");

/// Name of the vectors without any field. The fields of their encodings are added to a usable
/// message.
const NOTHING_SET: &str = "nothing set";

/// Encoding of a message.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    /// Description of the encoding.
    pub(super) why: String,
    /// The message.
    pub(super) message: Value,
}

/// Encodings of the replies of a host.
#[derive(Clone, Debug)]
pub(super) struct Replies {
    /// Description of the encoding.
    pub(super) why: String,
    pub(super) start: ReplyTemplate,
    pub(super) stop: ReplyTemplate,
    pub(super) status: ReplyTemplate,
}

/// Entry of `accepts` or `refuses` of a vector.
struct Entry {
    vector: String,
    why: String,
    rule: String,
    field: String,
    payload: Payload,
}

enum Payload {
    Object(Map<String, Value>),
    Other(Vec<u8>),
}

/// Returns encodings of `heartbeat`, a usable heartbeat, that a reader must accept by these rules.
pub(super) fn heartbeats(heartbeat: &Map<String, Value>, rules: &[&str]) -> Vec<Encoding> {
    let mut encodings = Vec::new();
    let mut proto_nulls = Map::new();
    for entry in entries(HEARTBEATS, "accepts") {
        let Payload::Object(mut members) = entry.payload else {
            continue;
        };
        if !rules.contains(&&*entry.rule) {
            continue;
        }
        // Nulls of single fields are combined: a heartbeat of all fields contains each of them.
        if let ([(name, Value::Null)], true) = (&*pairs(&members), entry.vector == NOTHING_SET) {
            if name.contains('_') {
                proto_nulls.insert((*name).clone(), Value::Null);
            }
            continue;
        }
        identify(&mut members);
        encodings.push(Encoding {
            why: format!("{}, {}", entry.vector, entry.why),
            message: overlay(heartbeat, members),
        });
    }
    if !proto_nulls.is_empty() {
        encodings.push(Encoding {
            why: "null under each proto name".to_owned(),
            message: overlay(heartbeat, proto_nulls),
        });
    }
    encodings
}

/// Returns encodings of the replies of a host that a reader must accept by these rules.
pub(super) fn replies(rules: &[&str]) -> Vec<Replies> {
    let usable = json!({ "workloadStatus": usable_status() });
    let of = |file: &str| {
        let entries = entries(file, "accepts").into_iter();
        let encodings = entries.filter_map(|entry| reply(entry, rules, &usable));
        encodings.collect::<Vec<Encoding>>()
    };
    let (starts, stops, statuses) = (of(START_REPLIES), of(STOP_REPLIES), of(STATUS_REPLIES));
    let mut replies: Vec<Replies> = (starts.iter().zip(&stops).zip(&statuses))
        .map(|((start, stop), status)| Replies {
            why: start.why.clone(),
            start: template(&start.message),
            stop: template(&stop.message),
            status: template(&status.message),
        })
        .collect();
    for entry in entries(STATUSES, "accepts") {
        let inner = reply(entry, rules, &usable_status());
        replies.extend(inner.map(|Encoding { why, message }| {
            let template = template(&json!({ "workloadStatus": message }));
            Replies {
                why: format!("status with {why}"),
                start: template.clone(),
                stop: template.clone(),
                status: template,
            }
        }));
    }
    replies
}

/// Returns payloads of heartbeats that a reader refuses, each with the fields of `heartbeat` that
/// the payload leaves open. Without payloads whose `startedAt` a lenient reader might understand.
pub(super) fn malformed_heartbeats(heartbeat: &Map<String, Value>) -> Vec<Vec<u8>> {
    let entries = entries(HEARTBEATS, "refuses").into_iter();
    let unreadable = entries.filter(|entry| entry.field != "startedAt");
    unreadable
        .map(|entry| match entry.payload {
            Payload::Object(members) => overlay(heartbeat, members).to_string().into_bytes(),
            Payload::Other(payload) => payload,
        })
        .collect()
}

/// Returns replies that contain no readable state: `workloadStatus` or the state has the wrong type
/// or an unknown name.
pub(super) fn replies_without_state() -> Vec<Encoding> {
    let wrong = |entry: Entry, base: &Value| {
        let is_wrong = matches!(&*entry.field, "workloadStatus" | "workloadState")
            && entry.rule == "HOST-JSON-016";
        match (is_wrong, entry.payload, base.as_object()) {
            (true, Payload::Object(members), Some(base)) => Some(Encoding {
                why: entry.why,
                message: overlay(base, members),
            }),
            _ => None,
        }
    };
    let replies = entries(START_REPLIES, "refuses").into_iter();
    let replies = replies.filter_map(|entry| wrong(entry, &json!({})));
    let statuses = entries(STATUSES, "refuses").into_iter();
    let statuses = statuses.filter_map(|entry| wrong(entry, &json!({ "workloadId": "{id}" })));
    let in_reply = statuses.map(|Encoding { why, message }| Encoding {
        why,
        message: json!({ "workloadStatus": message }),
    });
    replies.chain(in_reply).collect()
}

/// Returns the encoding of a usable reply or status by an entry, if one of these rules requires a
/// reader to accept the entry, and the result is usable.
fn reply(entry: Entry, rules: &[&str], usable: &Value) -> Option<Encoding> {
    let Payload::Object(members) = entry.payload else {
        return None;
    };
    let unset = ["workloadStatus", "workloadId", "workloadState"];
    let is_usable = members
        .iter()
        .all(|(name, value)| !value.is_null() || !unset.contains(&&*camel_case(name)));
    if !is_usable || !rules.contains(&&*entry.rule) || entry.vector.contains("the value") {
        return None;
    }
    Some(Encoding {
        why: entry.why,
        message: overlay(usable.as_object()?, members),
    })
}

fn usable_status() -> Value {
    let state = "WORKLOAD_STATE_{state}";
    json!({ "workloadId": "{id}", "workloadState": state, "message": "{message}" })
}

/// Returns the template in which the values of a status are placeholders.
fn template(reply: &Value) -> ReplyTemplate {
    ReplyTemplate::new(&with_placeholders(reply.clone()).to_string())
}

fn with_placeholders(value: Value) -> Value {
    let Value::Object(members) = value else {
        return value;
    };
    let members = members.into_iter().map(|(name, value)| {
        let value = match (&*camel_case(&name), value) {
            ("workloadId", Value::String(_)) => json!("{id}"),
            ("workloadState", Value::String(_)) => json!("WORKLOAD_STATE_{state}"),
            ("workloadState", Value::Number(_)) => json!("{number}"),
            ("message", Value::String(_)) => json!("{message}"),
            (_, value) => with_placeholders(value),
        };
        (name, value)
    });
    Value::Object(members.collect())
}

/// Removes the fields whose values belong to the host and not to the encoding.
fn identify(members: &mut Map<String, Value>) {
    members.retain(|name, value| match &**name {
        "id" => false,
        "labels" | "environment" => value.is_null(),
        _ => true,
    });
}

/// Returns the members of an encoding, followed by those of `base` that it leaves open.
fn overlay(base: &Map<String, Value>, members: Map<String, Value>) -> Value {
    let names: Vec<String> = members.keys().map(|name| camel_case(name)).collect();
    let mut result = members;
    for (name, value) in base {
        // Free memory cannot exceed another total.
        let exceeds =
            name == "systemMemoryFree" && names.iter().any(|name| name == "systemMemoryTotal");
        if !exceeds && !names.contains(&camel_case(name)) {
            result.insert(name.clone(), value.clone());
        }
    }
    Value::Object(result)
}

fn pairs(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    members.iter().collect()
}

/// Returns the lowerCamelCase form of a field name.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

fn entries(file: &str, list: &str) -> Vec<Entry> {
    let file: Value = serde_json::from_str(file).unwrap_or_default();
    let text = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let items = |value: &Value, name: &str| {
        let items = value.get(name).and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    };
    let mut entries = Vec::new();
    for vector in items(&file, "vectors") {
        for entry in items(&vector, list) {
            let Some(payload) = payload(&entry) else {
                continue;
            };
            entries.push(Entry {
                vector: text(&vector, "name"),
                why: text(&entry, "why"),
                rule: text(&entry, "rule"),
                field: text(&entry, "field"),
                payload,
            });
        }
    }
    entries
}

/// Returns the payload of an entry. Objects without duplicate keys are parsed.
fn payload(entry: &Value) -> Option<Payload> {
    if let Some(value) = entry.get("json") {
        return Some(match value {
            Value::Object(members) => Payload::Object(members.clone()),
            other => Payload::Other(other.to_string().into_bytes()),
        });
    }
    let text = entry.get("text").and_then(Value::as_str)?;
    let is_duplicate = entry.get("rule").and_then(Value::as_str) == Some("HOST-JSON-017");
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) if !is_duplicate => Some(Payload::Object(members)),
        _ => Some(Payload::Other(text.as_bytes().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Map<String, Value> {
        let base = json!({ "id": "h", "labels": { "hostgroup": "g" }, "systemMemoryFree": "7" });
        base.as_object().cloned().unwrap()
    }

    #[test]
    fn adapts_heartbeats_to_host() {
        for (rules, at_least) in [
            (&["HOST-JSON-009"][..], 2),
            (&["HOST-JSON-010"], 2),
            (&["HOST-JSON-012"], 8),
            (&["HOST-JSON-013"], 2),
        ] {
            let encodings = heartbeats(&base(), rules);
            assert!(
                encodings.len() >= at_least,
                "{rules:?}: {}",
                encodings.len()
            );
            for Encoding { why, message } in &encodings {
                assert_eq!(message["id"], "h", "{why}");
                let labels = &message["labels"];
                assert!(labels.is_null() || labels["hostgroup"] == "g", "{why}");
            }
        }
        let first = heartbeats(&base(), &["HOST-JSON-009"]).remove(0);
        let expected =
            r#"{"colour":"blue","id":"h","labels":{"hostgroup":"g"},"systemMemoryFree":"7"}"#;
        assert_eq!(first.message.to_string(), expected);
        assert!(malformed_heartbeats(&base()).len() > 100);
    }

    #[test]
    fn replaces_values_of_replies_by_placeholders() {
        for (rules, count) in [
            (&["HOST-JSON-009"][..], 6),
            (&["HOST-JSON-010", "HOST-JSON-011"], 6),
            (&["HOST-JSON-012"], 0),
            (&["HOST-JSON-013"], 1),
        ] {
            assert_eq!(replies(rules).len(), count, "{rules:?}");
        }
        let numbers = replies(&["HOST-JSON-011"]).remove(0);
        let expected = r#"{"workloadStatus":{"workloadId":"{id}","workloadState":"{number}","message":"{message}"}}"#;
        assert_eq!(numbers.stop, ReplyTemplate::new(expected));
        assert!(replies_without_state().len() >= 10);
    }
}
