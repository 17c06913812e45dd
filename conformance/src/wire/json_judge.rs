//! Strict validation of JSON from a target against the schema.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::spec::requirements::Requirement;
use crate::spec::schema::{Field, Kind, Message};
use crate::spec::{requirements as req, schema};

/// Maximum number of violations per payload; more violations do not help to find the cause.
const MAX_VIOLATIONS: usize = 16;

/// Violation of the encoding rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaViolation {
    /// Violated requirement.
    pub requirement: &'static Requirement,
    /// Path such as `workloadStatus.workloadState`; empty for the payload itself.
    pub path: String,
    /// Expected value.
    pub expected: String,
    /// Actual value.
    pub actual: String,
}

/// Returns the violations in a payload that must be the message with this name. Pure.
pub fn judge(payload: &[u8], message: &str) -> Vec<SchemaViolation> {
    let mut judge = Judge {
        violations: Vec::new(),
    };
    match parse(payload) {
        Err(actual) => {
            let expected = "one JSON object in UTF-8 without trailing data";
            judge.record(&req::HOST_JSON_008, "", expected, actual);
        }
        Ok(Doc::Object(members)) => match schema::message(message) {
            Some(message) => judge.object("", message, &members),
            None => judge.record(
                &req::HOST_JSON_001,
                "",
                message,
                "a message without a schema".into(),
            ),
        },
        Ok(other) => judge.record(&req::HOST_JSON_008, "", "an object", other.to_string()),
    }
    judge.violations
}

/// JSON document that preserves repeated keys.
#[derive(Clone, Debug, PartialEq)]
enum Doc {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Doc>),
    Object(Vec<(String, Doc)>),
}

impl fmt::Display for Doc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doc::Null => f.write_str("null"),
            Doc::Bool(value) => write!(f, "{value}"),
            Doc::Number(value) => write!(f, "the number {value}"),
            Doc::Text(value) => write!(f, "{:?}", crate::wire::response::shortened(value, 80)),
            Doc::List(_) => f.write_str("a list"),
            Doc::Object(_) => f.write_str("an object"),
        }
    }
}

fn parse(payload: &[u8]) -> Result<Doc, String> {
    // The parser itself rejects a byte order mark and invalid UTF-8.
    serde_json::from_slice(payload).map_err(|error| match payload {
        [] => "an empty payload".to_owned(),
        _ => error.to_string(),
    })
}

struct Judge {
    violations: Vec<SchemaViolation>,
}

impl Judge {
    fn record(
        &mut self,
        requirement: &'static Requirement,
        path: &str,
        expected: &str,
        actual: String,
    ) {
        if self.violations.len() < MAX_VIOLATIONS {
            let (path, expected) = (path.to_owned(), expected.to_owned());
            self.violations.push(SchemaViolation {
                requirement,
                path,
                expected,
                actual,
            });
        }
    }

    fn object(&mut self, path: &str, message: &'static Message, members: &[(String, Doc)]) {
        self.repeated_keys(path, members);
        for (name, value) in members {
            let at = join(path, name);
            if let Some(field) = message.field_by_json_name(name) {
                self.field(&at, field, value);
            } else if let Some(field) = message.field_by_proto_name(name) {
                let expected = format!("the field name `{}`", field.json_name);
                self.record(&req::HOST_JSON_002, &at, &expected, format!("`{name}`"));
                self.field(&at, field, value);
            } else {
                let expected = format!("only fields of {}", message.name);
                self.record(
                    &req::HOST_JSON_001,
                    &at,
                    &expected,
                    format!("the field `{name}`"),
                );
            }
        }
        self.oneofs(path, message, members);
    }

    fn repeated_keys(&mut self, path: &str, members: &[(String, Doc)]) {
        for (index, (name, _)) in members.iter().enumerate() {
            if members
                .iter()
                .take(index)
                .any(|(earlier, _)| earlier == name)
            {
                let at = join(path, name);
                self.record(
                    &req::HOST_JSON_008,
                    &at,
                    "each key once",
                    format!("`{name}` again"),
                );
            }
        }
    }

    fn oneofs(&mut self, path: &str, message: &'static Message, members: &[(String, Doc)]) {
        let is_set = |field: &&Field| {
            members
                .iter()
                .any(|(name, _)| name == field.json_name || name == field.proto_name)
        };
        let mut seen: Vec<&str> = Vec::new();
        for field in message.fields.iter().filter(is_set) {
            let Some(oneof) = field.oneof else { continue };
            if seen.contains(&oneof) {
                let expected = format!("one member of `{oneof}`");
                self.record(&req::HOST_JSON_001, path, &expected, "several".to_owned());
            }
            seen.push(oneof);
        }
    }

    fn field(&mut self, path: &str, field: &'static Field, value: &Doc) {
        match value {
            Doc::Null => self.record(
                &req::HOST_JSON_006,
                path,
                "a value or no field",
                "null".to_owned(),
            ),
            Doc::List(items) if field.repeated => {
                for (index, item) in items.iter().enumerate() {
                    let at = format!("{path}[{index}]");
                    match item {
                        Doc::Null => {
                            self.record(&req::HOST_JSON_006, &at, "a value", "null".to_owned());
                        }
                        item => self.value(&at, field.kind, item),
                    }
                }
            }
            other if field.repeated => {
                self.record(&req::HOST_JSON_001, path, "a list", other.to_string());
            }
            value => self.value(path, field.kind, value),
        }
    }

    fn value(&mut self, path: &str, kind: Kind, value: &Doc) {
        let (requirement, expected) = match (kind, value) {
            (Kind::String, Doc::Text(_)) | (Kind::Bool, Doc::Bool(_)) => return,
            (Kind::Enum(name), value) => return self.enumeration(path, name, value),
            (Kind::Message(name), Doc::Object(members)) => {
                if let Some(message) = schema::message(name) {
                    self.object(path, message, members);
                }
                return;
            }
            (Kind::Map, Doc::Object(members)) => return self.map(path, members),
            (Kind::Timestamp, Doc::Text(text)) if is_rfc3339(text) => return,
            (Kind::Uint64, Doc::Text(text)) if is_canonical_u64(text) => return,
            (Kind::Int32 | Kind::Sint32, Doc::Number(number)) => {
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok())
                {
                    return;
                }
                (&req::HOST_JSON_004, "a 32-bit integer as a number")
            }
            (Kind::Uint32, Doc::Number(number)) => {
                if number
                    .as_u64()
                    .is_some_and(|number| u32::try_from(number).is_ok())
                {
                    return;
                }
                (&req::HOST_JSON_004, "a 32-bit integer as a number")
            }
            // Proto JSON represents these values as strings.
            (Kind::Float, Doc::Text(text))
                if ["NaN", "Infinity", "-Infinity"].contains(&&**text) =>
            {
                return;
            }
            (Kind::Float, Doc::Number(_)) => return,
            (Kind::Int32 | Kind::Sint32 | Kind::Uint32, _) => {
                (&req::HOST_JSON_004, "a 32-bit integer as a number")
            }
            (Kind::Uint64, _) => (&req::HOST_JSON_004, "a 64-bit integer as a decimal string"),
            (Kind::Timestamp, _) => (&req::HOST_JSON_005, "a time such as 2026-01-31T12:00:00Z"),
            (Kind::String, _) => (&req::HOST_JSON_001, "text"),
            (Kind::Bool, _) => (&req::HOST_JSON_001, "true or false"),
            (Kind::Float, _) => (&req::HOST_JSON_001, "a number"),
            (Kind::Message(_) | Kind::Map, _) => (&req::HOST_JSON_001, "an object"),
        };
        self.record(requirement, path, expected, value.to_string());
    }

    fn enumeration(&mut self, path: &str, name: &str, value: &Doc) {
        let values = schema::enumeration(name)
            .map(|item| item.values)
            .unwrap_or_default();
        let known = |text: &str| values.iter().any(|(name, _)| *name == text);
        if !matches!(value, Doc::Text(text) if known(text)) {
            let expected = format!("the full name of a value of {name}");
            self.record(&req::HOST_JSON_003, path, &expected, value.to_string());
        }
    }

    fn map(&mut self, path: &str, members: &[(String, Doc)]) {
        self.repeated_keys(path, members);
        for (name, value) in members {
            let at = join(path, name);
            match value {
                Doc::Text(_) => {}
                Doc::Null => self.record(&req::HOST_JSON_006, &at, "text", "null".to_owned()),
                other => self.record(&req::HOST_JSON_001, &at, "text", other.to_string()),
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn is_canonical_u64(text: &str) -> bool {
    text.parse::<u64>()
        .is_ok_and(|number| number.to_string() == text)
}

/// Returns whether text has the form `YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm)`, with every
/// number in its range.
pub fn is_rfc3339(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else {
        return false;
    };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => return false,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let date: Vec<&str> = date.split('-').collect();
    let clock: Vec<&str> = clock.split(':').collect();
    let [year, month, day] = date.as_slice() else {
        return false;
    };
    let [hour, minute, second] = clock.as_slice() else {
        return false;
    };
    number(year, 4, 1..=9999)
        && number(month, 2, 1..=12)
        && number(day, 2, 1..=31)
        && number(hour, 2, 0..=23)
        && number(minute, 2, 0..=59)
        // A leap second is valid.
        && number(second, 2, 0..=60)
        && !fraction.is_empty()
        && fraction.len() <= 9
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && is_zone(zone)
}

fn is_zone(zone: &str) -> bool {
    if zone == "Z" {
        return true;
    }
    let Some((hour, minute)) = zone.get(1..).and_then(|offset| offset.split_once(':')) else {
        return false;
    };
    number(hour, 2, 0..=23) && number(minute, 2, 0..=59)
}

fn number(text: &str, digits: usize, range: std::ops::RangeInclusive<u32>) -> bool {
    text.len() == digits
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse().is_ok_and(|number| range.contains(&number))
}

impl<'de> Deserialize<'de> for Doc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Doc, D::Error> {
        deserializer.deserialize_any(DocVisitor)
    }
}

struct DocVisitor;

impl<'de> Visitor<'de> for DocVisitor {
    type Value = Doc;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Doc, E> {
        Ok(Doc::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Doc, E> {
        Ok(Doc::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Doc, E> {
        Ok(Doc::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Doc, E> {
        Ok(Doc::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Doc, E> {
        let number = serde_json::Number::from_f64(value);
        number
            .map(Doc::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Doc, E> {
        Ok(Doc::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Doc, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Doc::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doc, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Doc>()? {
            members.push((name, value));
            if members.len() > MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
        }
        Ok(Doc::Object(members))
    }
}

/// Maximum number of members per object, because the search for repeated keys is quadratic. A
/// heartbeat has a few dozen.
const MAX_MEMBERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn violated(payload: &str, message: &str) -> Vec<&'static str> {
        judge(payload.as_bytes(), message)
            .iter()
            .map(|violation| violation.requirement.id)
            .collect()
    }

    #[test]
    fn accepts_canonical_encoding() {
        let reply =
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_RUNNING"}}"#;
        assert_eq!(judge(reply.as_bytes(), "WorkloadStartResponse"), []);
        let heartbeat = r#" {"id":"h","startedAt":"2026-11-22T10:46:01.524898175+00:00","labels":{"a":"b"},
            "systemCpuUsage":1.5,"systemMemoryTotal":"25276510208","httpPort":80,
            "imports":[{"namespace":"wasi","package":"config","interfaces":["store"]}]} "#;
        assert_eq!(judge(heartbeat.as_bytes(), "HostHeartbeat"), []);
    }

    #[test]
    fn each_flaw_violates_its_own_requirement() {
        for (payload, message, requirement) in [
            ("", "HostHeartbeat", "HOST-JSON-008"),
            ("[]", "HostHeartbeat", "HOST-JSON-008"),
            ("{} x", "HostHeartbeat", "HOST-JSON-008"),
            (r#"{"id":"a","id":"b"}"#, "HostHeartbeat", "HOST-JSON-008"),
            (
                r#"{"labels":{"a":"1","a":"2"}}"#,
                "HostHeartbeat",
                "HOST-JSON-008",
            ),
            (r#"{"extra":1}"#, "HostHeartbeat", "HOST-JSON-001"),
            (
                r#"{"imports":[{"extra":1}]}"#,
                "HostHeartbeat",
                "HOST-JSON-001",
            ),
            (r#"{"id":1}"#, "HostHeartbeat", "HOST-JSON-001"),
            (r#"{"friendly_name":"a"}"#, "HostHeartbeat", "HOST-JSON-002"),
            (
                r#"{"workloadStatus":{"workloadState":2}}"#,
                "WorkloadStopResponse",
                "HOST-JSON-003",
            ),
            (
                r#"{"workloadStatus":{"workloadState":"RUNNING"}}"#,
                "WorkloadStopResponse",
                "HOST-JSON-003",
            ),
            (r#"{"workloadCount":3}"#, "HostHeartbeat", "HOST-JSON-004"),
            (r#"{"httpPort":"80"}"#, "HostHeartbeat", "HOST-JSON-004"),
            (r#"{"httpPort":80.5}"#, "HostHeartbeat", "HOST-JSON-004"),
            (
                r#"{"startedAt":1700000000}"#,
                "HostHeartbeat",
                "HOST-JSON-005",
            ),
            (
                r#"{"startedAt":"2026-01-01 00:00:00Z"}"#,
                "HostHeartbeat",
                "HOST-JSON-005",
            ),
            (r#"{"version":null}"#, "HostHeartbeat", "HOST-JSON-006"),
        ] {
            assert_eq!(violated(payload, message), [requirement], "{payload}");
        }
        assert_eq!(violated("\u{feff}{}", "HostHeartbeat"), ["HOST-JSON-008"]);
        assert_eq!(judge(b"{\"id\":\"\xff\"}", "HostHeartbeat").len(), 1);
    }

    #[test]
    fn validates_timestamps() {
        for valid in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.123456789+00:00",
            "2026-12-31T23:59:60Z",
        ] {
            assert!(is_rfc3339(valid), "{valid}");
        }
        for invalid in [
            "",
            "2026-01-31",
            "2026-01-31T12:00Z",
            "2026-1-31T12:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-13-31T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31t12:00:00z",
            "2026-01-31T12:00:00+0000",
            "2026-01-31T12:00:00Zx",
        ] {
            assert!(!is_rfc3339(invalid), "{invalid}");
        }
    }

    #[test]
    fn rejects_deep_nesting() {
        let deep = "[".repeat(100_000);
        assert_eq!(violated(&deep, "HostHeartbeat"), ["HOST-JSON-008"]);
    }
}
