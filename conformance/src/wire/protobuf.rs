//! Conversion of messages between JSON and binary protobuf, driven by the schema table. Pure.

use serde_json::{Map, Value};

use crate::spec::schema;
use crate::spec::schema::{Field, Kind, Message};

/// Maximum nesting of a response; messages of the schema are nested a few levels deep.
const MAX_DEPTH: usize = 32;

/// Field that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConversionError {
    field: String,
    problem: &'static str,
}

fn error(field: &str, problem: &'static str) -> ConversionError {
    ConversionError {
        field: field.to_owned(),
        problem,
    }
}

/// Encodes a JSON object as binary protobuf. Unknown fields are ignored. Floats and timestamps are
/// not supported.
///
/// # Errors
/// Fails if a value does not fit the type of its field, or the type is not supported.
pub fn encode(message: &Message, json: &Value) -> Result<Vec<u8>, ConversionError> {
    let object = json
        .as_object()
        .ok_or_else(|| error(message.name, "is not an object"))?;
    let mut out = Vec::new();
    for field in message.fields {
        let value = object.get(field.json_name).filter(|value| !value.is_null());
        let Some(value) = value else { continue };
        match (field.kind, value) {
            (Kind::Map, Value::Object(entries)) => {
                for (key, value) in entries {
                    let text = value.as_str().ok_or_else(|| {
                        error(field.json_name, "has a value that is not a string")
                    })?;
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    put_bytes(&mut entry, 2, text.as_bytes());
                    put_bytes(&mut out, field.number, &entry);
                }
            }
            (_, Value::Array(items)) if field.repeated => {
                for item in items {
                    put(&mut out, field, item)?;
                }
            }
            _ => put(&mut out, field, value)?,
        }
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, field: &Field, value: &Value) -> Result<(), ConversionError> {
    let wrong = || error(field.json_name, "has a value of the wrong type");
    match field.kind {
        Kind::String => {
            put_bytes(
                out,
                field.number,
                value.as_str().ok_or_else(wrong)?.as_bytes(),
            );
        }
        Kind::Bool => {
            put_varint(
                out,
                field.number,
                u64::from(value.as_bool().ok_or_else(wrong)?),
            );
        }
        Kind::Int32 => {
            let number = value.as_i64().ok_or_else(wrong)?;
            put_varint(out, field.number, number.cast_unsigned());
        }
        Kind::Sint32 => {
            let number = value.as_i64().ok_or_else(wrong)?;
            put_varint(
                out,
                field.number,
                ((number << 1) ^ (number >> 63)).cast_unsigned(),
            );
        }
        Kind::Uint32 | Kind::Uint64 => {
            let text = value.as_str().and_then(|text| text.parse().ok());
            let number = value.as_u64().or(text).ok_or_else(wrong)?;
            put_varint(out, field.number, number);
        }
        Kind::Enum(name) => {
            let names = schema::enumeration(name).ok_or_else(wrong)?.values;
            let named = value
                .as_str()
                .and_then(|text| names.iter().find(|(name, _)| *name == text));
            let number = named
                .map(|(_, number)| i64::from(*number))
                .or(value.as_i64());
            put_varint(out, field.number, number.ok_or_else(wrong)?.cast_unsigned());
        }
        Kind::Message(name) => {
            let inner = schema::message(name).ok_or_else(wrong)?;
            let bytes = encode(inner, value)?;
            put_bytes(out, field.number, &bytes);
        }
        Kind::Float | Kind::Timestamp => {
            return Err(error(field.json_name, "has an unsupported type"));
        }
        Kind::Map => return Err(wrong()),
    }
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, field_number: i32, bytes: &[u8]) {
    push_varint(out, (field_number.cast_unsigned() as u64) << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, field_number: i32, value: u64) {
    push_varint(out, (field_number.cast_unsigned() as u64) << 3);
    push_varint(out, value);
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Decodes a response into JSON. Unknown fields are ignored.
///
/// Supports strings, enums and messages; responses have no other fields.
///
/// # Errors
/// Fails if the bytes are not a valid message.
pub fn decode(message: &Message, bytes: &[u8]) -> Result<Value, ConversionError> {
    decode_at(message, bytes, 0)
}

fn decode_at(message: &Message, mut bytes: &[u8], depth: usize) -> Result<Value, ConversionError> {
    let malformed = || error(message.name, "is truncated or not protobuf");
    if depth > MAX_DEPTH {
        return Err(error(message.name, "is nested too deeply"));
    }
    let mut object = Map::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes).ok_or_else(malformed)?;
        let field = message
            .fields
            .iter()
            .find(|field| u64::from(field.number.cast_unsigned()) == tag >> 3);
        let value = match tag & 7 {
            0 => {
                let number = take_varint(&mut bytes).ok_or_else(malformed)?;
                field.map(|field| decode_enum(field, number)).transpose()?
            }
            1 => {
                take(&mut bytes, 8).ok_or_else(malformed)?;
                None
            }
            2 => {
                let length = take_varint(&mut bytes).ok_or_else(malformed)?;
                let length = usize::try_from(length).map_err(|_| malformed())?;
                let inner = take(&mut bytes, length).ok_or_else(malformed)?;
                field
                    .map(|field| decode_bytes(field, inner, depth))
                    .transpose()?
            }
            5 => {
                take(&mut bytes, 4).ok_or_else(malformed)?;
                None
            }
            _ => return Err(malformed()),
        };
        if let (Some(field), Some(value)) = (field, value) {
            object.insert(field.json_name.to_owned(), value);
        }
    }
    Ok(Value::Object(object))
}

fn decode_enum(field: &Field, number: u64) -> Result<Value, ConversionError> {
    let Kind::Enum(name) = field.kind else {
        return Err(error(field.json_name, "has an unexpected number"));
    };
    let values = schema::enumeration(name).map_or(&[][..], |item| item.values);
    let known = values
        .iter()
        .find(|(_, value)| i64::from(*value).cast_unsigned() == number);
    Ok(known.map_or(Value::from(number), |(name, _)| Value::from(*name)))
}

fn decode_bytes(field: &Field, bytes: &[u8], depth: usize) -> Result<Value, ConversionError> {
    let wrong = || error(field.json_name, "has unexpected bytes");
    match field.kind {
        Kind::String => {
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|_| error(field.json_name, "is not UTF-8"))?;
            Ok(Value::from(text))
        }
        Kind::Message(name) => {
            let inner = schema::message(name).ok_or_else(wrong)?;
            decode_at(inner, bytes, depth + 1)
        }
        _ => Err(wrong()),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(name: &str) -> &'static Message {
        schema::message(name).unwrap()
    }

    #[test]
    fn encodes_like_protoc() {
        // Derived by hand from the numbers and types of the schema.
        let start =
            json!({"workloadId": "a", "workload": {"name": "w", "service": {"maxRestarts": "3"}}});
        let bytes = encode(message("WorkloadStartRequest"), &start).unwrap();
        let workload = [0x12, 1, b'w', 0x22, 2, 0x18, 3];
        let mut expected = vec![0x0a, 7];
        expected.extend(workload);
        expected.extend([0x12, 1, b'a']);
        assert_eq!(bytes, expected);
        let component = json!({"poolSize": -1, "maxConcurrency": 2});
        let bytes = encode(message("Component"), &component).unwrap();
        assert_eq!(bytes, [0x18, 1, 0x40, 4]);
        let limits = json!({"memoryLimitMb": -1, "environment": {"k": "v"}});
        let bytes = encode(message("LocalResources"), &limits).unwrap();
        let mut expected = vec![0x08];
        expected.extend([0xff; 9]);
        expected.extend([0x01, 0x22, 6, 0x0a, 1, b'k', 0x12, 1, b'v']);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn decodes_responses() {
        let status = json!({"workloadStatus": {"workloadId": "a", "message": "m"}});
        let name = "WorkloadStatusResponse";
        let bytes = encode(message(name), &status).unwrap();
        assert_eq!(decode(message(name), &bytes), Ok(status));
        let known = decode(message("WorkloadStatus"), &[0x10, 2]).unwrap();
        assert_eq!(known, json!({"workloadState": "WORKLOAD_STATE_RUNNING"}));
        let unknown = decode(message("WorkloadStatus"), &[0x7a, 1, 0, 0x10, 99]).unwrap();
        assert_eq!(unknown, json!({"workloadState": 99}));
        for invalid in [&[0x0a, 5, b'a'][..], &[0x0a, 1, 0xff], &[0x80], &[0x0b]] {
            assert!(
                decode(message("WorkloadStatus"), invalid).is_err(),
                "{invalid:?}"
            );
        }
    }

    #[test]
    fn rejects_values_of_the_wrong_type() {
        for invalid in [
            json!([]),
            json!({"workloadId": 7}),
            json!({"workload": "x"}),
        ] {
            assert!(
                encode(message("WorkloadStartRequest"), &invalid).is_err(),
                "{invalid}"
            );
        }
    }
}
