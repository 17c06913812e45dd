//! Writes what the model host publishes, with the faults and the liberties of its kind.

use serde_json::{Map, Value, json};

use super::mutant::{Mutant, Variant};

/// Encodes the messages of one host.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// The deliberate fault.
    pub mutant: Option<Mutant>,
    /// The legal difference.
    pub variant: Option<Variant>,
}

impl Writer {
    /// The payload for `message`, canonical but for the mutant and the variant.
    #[must_use]
    pub fn write(&self, mut message: Value) -> Vec<u8> {
        if let Some(mutant) = self.mutant {
            message = spoil(mutant, message);
        }
        let text = match self.variant {
            Some(Variant::KeyOrder) => backwards(message).to_string(),
            Some(Variant::WhiteSpace) => format!(" \n{message:#}\r\n\t"),
            Some(Variant::DefaultsWrittenOut) => with_defaults(message).to_string(),
            _ => message.to_string(),
        };
        let mut payload = text.into_bytes();
        if self.mutant == Some(Mutant::TrailingBytes) {
            payload.extend_from_slice(b"{}");
        }
        payload
    }

    /// A message for people, in this host's words.
    #[must_use]
    pub fn words(&self, text: &str) -> String {
        match self.variant {
            Some(Variant::OtherWording) => format!("Rechner meldet: {text} (Näheres im Protokoll)"),
            _ => text.to_owned(),
        }
    }
}

fn spoil(mutant: Mutant, message: Value) -> Value {
    match mutant {
        Mutant::SnakeCase => renamed(message),
        Mutant::EnumAsNumber => edited(message, &|name, value| match name {
            "workloadState" => json!(state_number(value.as_str().unwrap_or_default())),
            _ => value,
        }),
        Mutant::Int64AsNumber => edited(message, &|name, value| match name {
            "systemMemoryTotal" | "systemMemoryFree" | "workloadCount" | "componentCount" => {
                json!(value.as_str().and_then(|text| text.parse::<u64>().ok()))
            }
            _ => value,
        }),
        Mutant::TimestampAsSeconds => edited(message, &|name, value| match name {
            "startedAt" => json!(1_790_000_000),
            _ => value,
        }),
        Mutant::ErrorWithoutMessage => without_error_message(message),
        Mutant::WritesNull => with(
            message,
            "workloadStatus",
            "message",
            "environment",
            Value::Null,
        ),
        Mutant::ExtraField => with(
            message,
            "workloadStatus",
            "modelVersion",
            "modelVersion",
            json!("1"),
        ),
        _ => message,
    }
}

/// Sets a member of the status where there is one, else another member of the message itself.
fn with(mut message: Value, status: &str, in_status: &str, else_in: &str, value: Value) -> Value {
    match message.get_mut(status).and_then(Value::as_object_mut) {
        Some(status) => status.insert(in_status.to_owned(), value),
        None => message
            .as_object_mut()
            .and_then(|top| top.insert(else_in.to_owned(), value)),
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

fn edited(value: Value, edit: &dyn Fn(&str, Value) -> Value) -> Value {
    let Value::Object(object) = value else {
        return value;
    };
    let members = object.into_iter().map(|(name, value)| {
        let value = edit(&name, edited(value, edit));
        (name, value)
    });
    Value::Object(members.collect())
}

fn renamed(value: Value) -> Value {
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
            .map(|(name, value)| (snake(name), renamed(value)))
            .collect(),
    )
}

fn backwards(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let members: Vec<_> = object.into_iter().collect();
            let turned = members
                .into_iter()
                .rev()
                .map(|(name, value)| (name, backwards(value)));
            Value::Object(turned.collect::<Map<_, _>>())
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
