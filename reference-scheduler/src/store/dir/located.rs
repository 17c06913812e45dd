//! A YAML or JSON document in which every key and value has its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Maximum number of values that the aliases of a file may add, more than any manifest needs.
const ALIASED_VALUES_MAX: usize = 50_000;

/// A value with its position.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Located {
    pub at: Position,
    pub value: Node,
}

/// The content of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A string, number, boolean or null.
    Scalar(Value),
    /// A list.
    List(Vec<Located>),
    /// A mapping, in the order of the document.
    Mapping(Vec<(Position, String, Located)>),
}

/// A line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Parses all documents of a file and skips empty ones. The message of an error contains no values.
pub(super) fn parse(text: &str) -> Result<Vec<Located>, String> {
    // A snippet in an error message could show a part of a Secret.
    let options = serde_saphyr::options! {
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED_VALUES_MAX },
    };
    let text = text.trim_start_matches('\u{feff}');
    let documents: Result<Vec<Spanned<Node>>, _> =
        serde_saphyr::from_multiple_with_options(text, options);
    match documents {
        Ok(documents) => Ok(documents.into_iter().map(Located::from).collect()),
        Err(error) => Err(format!("invalid YAML: {error}")),
    }
}

impl Located {
    /// Returns the value without positions.
    pub(super) fn to_value(&self) -> Value {
        match &self.value {
            Node::Scalar(value) => value.clone(),
            Node::List(items) => items.iter().map(Self::to_value).collect(),
            Node::Mapping(fields) => {
                let fields = fields
                    .iter()
                    .map(|(_, name, value)| (name.clone(), value.to_value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// Returns a field of a mapping.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        let Node::Mapping(fields) = &self.value else {
            return None;
        };
        let found = fields.iter().find(|(_, field, _)| field == name);
        found.map(|(_, _, value)| value)
    }

    /// Returns a field that is a string, or an empty string.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.field(name).map(|field| &field.value) {
            Some(Node::Scalar(Value::String(text))) => text,
            _ => "",
        }
    }

    /// Returns the type of the value, with an article.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.value {
            Node::List(_) => "a list",
            Node::Mapping(_) => "a mapping",
            Node::Scalar(Value::Bool(_)) => "a boolean",
            Node::Scalar(Value::Number(number)) if number.is_f64() => "a number with a fraction",
            Node::Scalar(Value::Number(_)) => "a number",
            Node::Scalar(Value::Null) => "empty",
            Node::Scalar(_) => "a string",
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value == Node::Scalar(Value::Null)
    }
}

impl From<Spanned<Node>> for Located {
    fn from(spanned: Spanned<Node>) -> Self {
        Self {
            at: position(&spanned),
            value: spanned.value,
        }
    }
}

fn position<T>(spanned: &Spanned<T>) -> Position {
    Position {
        line: spanned.referenced.line(),
        column: spanned.referenced.column(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value);
        // JSON has no infinity; like any string, it is refused where a number belongs.
        let value = number.map_or_else(|| Value::String(value.to_string()), Value::Number);
        Ok(Node::Scalar(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Node>>()? {
            items.push(item.into());
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = access.next_entry::<Spanned<String>, Spanned<Node>>()? {
            fields.push((position(&name), name.value, value.into()));
        }
        Ok(Node::Mapping(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_have_positions_and_values() {
        let text = "# first\n---\na: 1\nb:\n- x: yes please\n  y: [1.5, null, true]\n---\n{\"c\": \"d\"}\n";
        let documents = parse(text).unwrap();
        let values: Vec<Value> = documents.iter().map(Located::to_value).collect();
        let first = json!({"a": 1, "b": [{"x": "yes please", "y": [1.5, null, true]}]});
        assert_eq!(values, [first, json!({"c": "d"})]);
        let Node::Mapping(fields) = &documents[0].value else {
            panic!("{documents:?}")
        };
        assert_eq!(fields[1].0.to_string(), "line 4, column 1");
        let Node::List(items) = &fields[1].2.value else {
            panic!("{documents:?}")
        };
        let y = items[0].field("y").unwrap();
        assert_eq!(y.at.to_string(), "line 6, column 6");
        assert_eq!(documents[1].text("c"), "d");
    }

    #[test]
    fn rejects_duplicate_keys_with_line() {
        for text in ["a: 1\nb: 2\na: 3\n", "{\"a\": 1,\n\"b\": 2,\n\"a\": 3}"] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains("line 3") && error.contains("duplicate"),
                "{error}"
            );
        }
    }

    #[test]
    fn bounds_nesting_and_aliases() {
        let bomb = (1..10).fold(
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(),
            |text, level| {
                let alias = format!("*a{}", level - 1);
                format!(
                    "{text}a{level}: &a{level} [{}]\n",
                    [alias.as_str(); 10].join(", ")
                )
            },
        );
        for text in [&"[".repeat(100_000), &"- ".repeat(50_000), &bomb] {
            assert!(parse(text).is_err());
        }
        let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        assert!(parse(&deep).is_ok());
        assert!(parse("\u{feff}a: 1").is_ok());
    }
}
