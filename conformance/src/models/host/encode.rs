//! The encoder of the model host, with the faults and variants that affect its output.

use serde_json::{Map, Value, json};

use super::mutant::{Mutant, Variant};

/// Encoder for the messages of one host.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Injected fault.
    pub mutant: Option<Mutant>,
    /// Conforming variant.
    pub variant: Option<Variant>,
}

impl Encoder {
    /// Encodes `message` as JSON; applies the mutant and the variant.
    #[must_use]
    pub fn encode(&self, mut message: Value) -> Vec<u8> {
        if let Some(mutant) = self.mutant {
            message = apply_mutant(mutant, message);
        }
        let text = match self.variant {
            Some(Variant::ReversedKeys) => reverse_keys(message).to_string(),
            Some(Variant::PrettyJson) => format!(" \n{message:#}\r\n\t"),
            Some(Variant::ExplicitDefaults) => with_defaults(message).to_string(),
            _ => message.to_string(),
        };
        let mut payload = text.into_bytes();
        if self.mutant == Some(Mutant::TrailingBytes) {
            payload.extend_from_slice(b"{}");
        }
        payload
    }

    /// Returns `text` in the language of this host.
    #[must_use]
    pub fn localize(&self, text: &str) -> String {
        match self.variant {
            Some(Variant::LocalizedMessages) => {
                format!("Rechner meldet: {text} (Näheres im Protokoll)")
            }
            _ => text.to_owned(),
        }
    }
}

fn apply_mutant(mutant: Mutant, message: Value) -> Value {
    match mutant {
        Mutant::SnakeCase => to_snake_case(message),
        Mutant::EnumAsNumber => map_fields(message, &|name, value| match name {
            "workloadState" => json!(state_number(value.as_str().unwrap_or_default())),
            _ => value,
        }),
        Mutant::Int64AsNumber => map_fields(message, &|name, value| match name {
            "systemMemoryTotal" | "systemMemoryFree" | "workloadCount" | "componentCount" => {
                json!(value.as_str().and_then(|text| text.parse::<u64>().ok()))
            }
            _ => value,
        }),
        Mutant::TimestampAsSeconds => map_fields(message, &|name, value| match name {
            "startedAt" => json!(1_790_000_000),
            _ => value,
        }),
        Mutant::ErrorWithoutMessage => without_error_message(message),
        Mutant::WritesNull => insert_field(message, "message", "environment", Value::Null),
        Mutant::ExtraField => insert_field(message, "modelVersion", "modelVersion", json!("1")),
        _ => message,
    }
}

/// Sets a field of `workloadStatus` if the message has one; otherwise sets a field of the message.
fn insert_field(mut message: Value, in_status: &str, in_message: &str, value: Value) -> Value {
    match message
        .get_mut("workloadStatus")
        .and_then(Value::as_object_mut)
    {
        Some(status) => status.insert(in_status.to_owned(), value),
        None => message
            .as_object_mut()
            .and_then(|top| top.insert(in_message.to_owned(), value)),
    };
    message
}

fn without_error_message(mut message: Value) -> Value {
    if let Some(status) = message
        .get_mut("workloadStatus")
        .and_then(Value::as_object_mut)
        && status.get("workloadState").and_then(Value::as_str) == Some("WORKLOAD_STATE_ERROR")
    {
        status.remove("message");
    }
    message
}

/// Applies `edit` to every field, innermost first.
fn map_fields(value: Value, edit: &dyn Fn(&str, Value) -> Value) -> Value {
    let Value::Object(object) = value else {
        return value;
    };
    let members = object.into_iter().map(|(name, value)| {
        let value = edit(&name, map_fields(value, edit));
        (name, value)
    });
    Value::Object(members.collect())
}

fn to_snake_case(value: Value) -> Value {
    let Value::Object(object) = value else {
        return value;
    };
    let snake = |name: String| {
        let mut snake = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        snake
    };
    Value::Object(
        object
            .into_iter()
            .map(|(name, value)| (snake(name), to_snake_case(value)))
            .collect(),
    )
}

fn reverse_keys(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let members: Vec<_> = object.into_iter().collect();
            let reversed = members
                .into_iter()
                .rev()
                .map(|(name, value)| (name, reverse_keys(value)));
            Value::Object(reversed.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn with_defaults(mut message: Value) -> Value {
    if let Some(status) = message
        .get_mut("workloadStatus")
        .and_then(Value::as_object_mut)
    {
        status.entry("message").or_insert(json!(""));
        status.entry("workloadId").or_insert(json!(""));
    } else if let Some(heartbeat) = message.as_object_mut() {
        for (name, value) in [
            ("environment", json!("")),
            ("componentCount", json!("0")),
            ("workloadCount", json!("0")),
            ("exports", json!([])),
            ("httpPort", json!(0)),
            ("systemCpuUsage", json!(0.0)),
        ] {
            heartbeat.entry(name).or_insert(value);
        }
    }
    message
}

fn state_number(name: &str) -> i32 {
    crate::spec::schema::enumeration("WorkloadState")
        .and_then(|states| states.values.iter().find(|(state, _)| *state == name))
        .map_or(0, |(_, number)| *number)
}
