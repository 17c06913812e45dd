//! Parses a payload into a tree of values, with what the protocol refuses refused and nulls left out.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Number, Value};

use super::{MAX_DEPTH, MAX_VALUES, ReadError};

/// Integers up to here are exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// One JSON object: no key twice, nothing behind it, bounded in depth and size. Members that are null
/// are left out, which is what unset means. A number without a fraction is an integer.
pub(super) fn parse(payload: &[u8]) -> Result<Value, ReadError> {
    let mut json = Deserializer::from_slice(payload);
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
                ReadError::Field {
                    path: path.to_string(),
                    problem: error.to_string(),
                }
            } else {
                ReadError::Syntax(error.to_string())
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
    Err(ReadError::Syntax(format!("it begins with {kind}")))
}

#[derive(Clone, Copy)]
struct Node<'a> {
    depth: usize,
    values_left: &'a Cell<usize>,
}

impl Node<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
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

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let Some(left) = self.values_left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "more than {MAX_VALUES} values"
            )));
        };
        self.values_left.set(left);
        from.deserialize_any(self)
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut members = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(twice(&key));
            }
            members.insert(key, from.next_value_seed(below)?);
        }
        if let Some(key) = null_beside_its_other_name(&members) {
            return Err(twice(key));
        }
        members.retain(|_, value| !value.is_null());
        Ok(Value::Object(members))
    }
}

fn twice<E: Error>(key: &str) -> E {
    let key = crate::reply::shorten(key, 64);
    E::custom(format_args!("the key {key:?} stands twice in one object"))
}

/// A null that is left out would hide that the field is given under its other name, too.
fn null_beside_its_other_name(members: &Map<String, Value>) -> Option<&str> {
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
