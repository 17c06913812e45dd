//! The decoder of the model host: accepts every permitted encoding and normalizes it.

use serde_json::{Map, Number, Value};

use super::mutant::Mutant;
use super::unreadable::{UNREADABLE_NAME, replace_unreadable};
use crate::spec::schema;
use crate::spec::schema::{Field, Kind, Message};

/// Decoder for the requests of one host, with the faults of its mutant.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    mutant: Option<Mutant>,
}

impl Decoder {
    /// Creates a decoder with the faults of `mutant`.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant }
    }

    /// Decodes a message. The result has lowerCamelCase names, enum names and plain numbers, and
    /// neither nulls nor unknown fields.
    ///
    /// # Errors
    /// Returns a line of text that names the invalid field.
    pub fn decode(&self, message: &str, payload: &[u8]) -> Result<Value, String> {
        if self.is(Mutant::RequiresCompactJson) && payload.iter().any(u8::is_ascii_whitespace) {
            return Err("white space is not allowed".to_owned());
        }
        let text = std::str::from_utf8(payload).map_err(|error| format!("not text: {error}"))?;
        let value: Value = serde_json::from_str(&replace_unreadable(text))
            .map_err(|error| format!("not JSON: {error}"))?;
        let message = schema::message(message).ok_or("unknown message")?;
        self.message(message, value, message.name)
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn message(&self, message: &Message, value: Value, path: &str) -> Result<Value, String> {
        let Value::Object(object) = value else {
            return Err(format!("{path}: expected an object"));
        };
        let mut decoded = Map::new();
        for (name, value) in object {
            let Some(field) = self.field(message, &name) else {
                if self.is(Mutant::RejectsUnknownFields) {
                    return Err(format!("{path}.{name}: unknown field"));
                }
                continue;
            };
            if value.is_null() && !self.is(Mutant::RejectsNull) {
                continue;
            }
            let path = format!("{path}.{name}");
            self.check_oneof(message, field, &decoded, &path)?;
            match self.field_value(field, value, &path) {
                Ok(value) => {
                    if decoded.insert(field.json_name.to_owned(), value).is_some() {
                        return Err(format!("{path}: duplicate field"));
                    }
                }
                Err(_) if self.is(Mutant::AcceptsWrongTypes) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Value::Object(decoded))
    }

    fn field<'m>(&self, message: &'m Message, name: &str) -> Option<&'m Field> {
        let by_json_name = message.field_by_json_name(name);
        if self.is(Mutant::RejectsProtoNames) {
            return by_json_name;
        }
        by_json_name.or_else(|| message.field_by_proto_name(name))
    }

    fn check_oneof(
        &self,
        message: &Message,
        field: &Field,
        decoded: &Map<String, Value>,
        path: &str,
    ) -> Result<(), String> {
        let has_conflict = field.oneof.is_some()
            && message.fields.iter().any(|other| {
                other.oneof == field.oneof
                    && other.number != field.number
                    && decoded.contains_key(other.json_name)
            });
        if has_conflict && !self.is(Mutant::AcceptsBothOneofMembers) {
            return Err(format!("{path}: another member of its oneof is set"));
        }
        Ok(())
    }

    fn field_value(&self, field: &Field, value: Value, path: &str) -> Result<Value, String> {
        if !field.repeated {
            return self.value(field.kind, value, path);
        }
        let Value::Array(items) = value else {
            return Err(format!("{path}: expected a list"));
        };
        let items = items
            .into_iter()
            .map(|item| self.value(field.kind, item, path));
        items.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn value(&self, kind: Kind, value: Value, path: &str) -> Result<Value, String> {
        let expected = |kind: &str| format!("{path}: expected {kind}");
        match kind {
            Kind::String | Kind::Timestamp => match value {
                Value::String(_) => Ok(value),
                _ => Err(expected("a string")),
            },
            Kind::Bool => match value {
                Value::Bool(_) => Ok(value),
                _ => Err(expected("true or false")),
            },
            Kind::Int32 | Kind::Sint32 => {
                self.integer(value, i64::from(i32::MIN), i64::from(i32::MAX) as u64, path)
            }
            Kind::Uint32 => self.integer(value, 0, u64::from(u32::MAX), path),
            Kind::Uint64 => self.integer(value, 0, u64::MAX, path),
            Kind::Float => match value {
                Value::Number(_) | Value::String(_) => Ok(value),
                _ => Err(expected("a number")),
            },
            Kind::Enum(name) => self.enum_name(name, value, path),
            Kind::Message(name) => {
                let message = schema::message(name).ok_or_else(|| expected("a known message"))?;
                self.message(message, value, path)
            }
            Kind::Map => self.map(value, path),
        }
    }

    fn integer(&self, value: Value, min: i64, max: u64, path: &str) -> Result<Value, String> {
        let text = match &value {
            Value::Number(number) => number.to_string(),
            Value::String(text) if !self.is(Mutant::RejectsNumericStrings) => text.clone(),
            _ => return Err(format!("{path}: expected an integer")),
        };
        let number: i128 = Some(text)
            .filter(|text| is_decimal(text))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("{path}: expected an integer"))?;
        if number < i128::from(min) || number > i128::from(max) {
            return Err(format!("{path}: out of range"));
        }
        match u64::try_from(number) {
            Ok(number) => Ok(Value::Number(Number::from(number))),
            Err(_) => Ok(Value::Number(Number::from(number as i64))),
        }
    }

    fn enum_name(&self, name: &str, value: Value, path: &str) -> Result<Value, String> {
        let values = schema::enumeration(name)
            .map(|item| item.values)
            .unwrap_or_default();
        let found = match &value {
            Value::String(text) => values.iter().find(|(name, _)| name == text),
            Value::Number(number) if !self.is(Mutant::RejectsEnumNumbers) => values
                .iter()
                .find(|(_, value)| number.as_i64() == Some(i64::from(*value))),
            _ => None,
        };
        let (name, _) = found.ok_or_else(|| format!("{path}: expected a value of {name}"))?;
        Ok(Value::String((*name).to_owned()))
    }

    fn map(&self, value: Value, path: &str) -> Result<Value, String> {
        let Value::Object(mut entries) = value else {
            return Err(format!("{path}: expected an object"));
        };
        if entries.keys().any(|key| key.starts_with(UNREADABLE_NAME)) {
            return Err(format!("{path}: expected text as each key"));
        }
        entries.retain(|_, value| !value.is_null());
        if entries.values().all(Value::is_string) {
            Ok(Value::Object(entries))
        } else {
            Err(format!("{path}: expected a string for each key"))
        }
    }
}

/// Returns whether the text is an integer as JSON writes it: no plus sign, no leading zero.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = digits == "0" || !digits.starts_with('0');
    is_canonical && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
