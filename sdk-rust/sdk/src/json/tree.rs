//! Parses a payload into a tree of JSON values, within the limits of the protocol and without
//! nulls.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Number, Value};

use super::unreadable::{UNPAIRED, replace_unreadable};
use super::{DecodeError, MAX_DEPTH, MAX_VALUES};

/// Largest integer that a double represents exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Parses one JSON object: no duplicate keys, no trailing data, bounded in depth and size. Omits
/// null members, because null means unset. A number without a fraction becomes an integer.
pub(super) fn parse(payload: &[u8]) -> Result<Value, DecodeError> {
    let payload = replace_unreadable(payload);
    let mut json = Deserializer::from_slice(&payload);
    let values_left = Cell::new(MAX_VALUES);
    let root = Node {
        depth: 0,
        values_left: &values_left,
    };
    let mut track = serde_path_to_error::Track::new();
    let tree = root.deserialize(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    ));
    let tree = tree
        .and_then(|tree| json.end().map(|()| tree))
        .map_err(|error| {
            let path = track.path();
            if error.is_data() && path.iter().next().is_some() {
                DecodeError::Field {
                    path: path.to_string(),
                    problem: error.to_string(),
                }
            } else {
                DecodeError::Syntax(error.to_string())
            }
        })?;
    let kind = match tree {
        Value::Object(_) => return Ok(tree),
        Value::Array(_) => "an array",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
    };
    Err(DecodeError::Syntax(format!("it begins with {kind}")))
}

#[derive(Clone, Copy)]
struct Node<'a> {
    depth: usize,
    values_left: &'a Cell<usize>,
}

impl Node<'_> {
    fn child<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        let Some(left) = self.values_left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "more than {MAX_VALUES} values"
            )));
        };
        self.values_left.set(left);
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
            return Ok(Value::Number((value as i64).into()));
        }
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut items = Vec::new();
        while let Some(item) = source.next_element_seed(child)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut members = Map::new();
        while let Some(key) = source.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(duplicate(&key));
            }
            let mut value = source.next_value_seed(child)?;
            if key.starts_with(UNPAIRED) {
                // No message has this field, and no map accepts this value.
                value = Value::Array(Vec::new());
            }
            members.insert(key, value);
        }
        if let Some(key) = null_with_other_name(&members) {
            return Err(duplicate(key));
        }
        members.retain(|_, value| !value.is_null());
        Ok(Value::Object(members))
    }
}

fn duplicate<E: Error>(key: &str) -> E {
    let key = crate::text::shorten(key, 64);
    E::custom(format_args!("the key {key:?} appears twice in one object"))
}

/// Finds a field that is null under one of its names and also present under the other. Omitting the
/// null would hide the duplicate.
fn null_with_other_name(members: &Map<String, Value>) -> Option<&str> {
    let is_null = |(key, value): (&'_ String, &'_ Value)| value.is_null().then(|| camel_case(key));
    let nulls: HashSet<String> = members.iter().filter_map(is_null).collect();
    let mut seen = HashSet::new();
    let mut names = members.keys().filter(|_| !nulls.is_empty());
    names
        .find(|key| nulls.contains(&camel_case(key)) && !seen.insert(camel_case(key)))
        .map(String::as_str)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
        camel
    })
}
