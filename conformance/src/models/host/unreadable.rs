//! Replaces JSON values that `serde_json` cannot represent, although they are valid: numbers beyond
//! every type, and text with an unpaired surrogate. A host ignores them in unknown fields.

use serde::de::IgnoredAny;
use serde_json::Value;

/// Value that no field of the schema accepts.
const REPLACEMENT: &str = "[[]]";
/// Start of a name that replaces one that cannot be represented. No message has such a field, and
/// no map such a key.
pub const UNREADABLE_NAME: &str = "\u{fffd} unreadable name";

/// Returns JSON that `serde_json` parses if `text` is valid JSON.
///
/// A value that cannot be represented becomes a value that no field accepts; a name that cannot be
/// represented becomes the name of an unknown field.
pub fn replace_unreadable(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    let is_start = |c: char| c == '"' || c == '-' || c.is_ascii_digit();
    while let Some(start) = rest.find(is_start) {
        let (before, tokens) = rest.split_at(start);
        let (token, after) = tokens.split_at(token_bytes(tokens));
        replaced.push_str(before);
        if is_readable(token) {
            replaced.push_str(token);
        } else if token.starts_with('"') && after.trim_start().starts_with(':') {
            replaced.push_str(&format!("\"{UNREADABLE_NAME} {}\"", rest.len()));
        } else {
            replaced.push_str(REPLACEMENT);
        }
        rest = after;
    }
    replaced + rest
}

/// Returns the length of the string or number at the start of the text.
fn token_bytes(text: &str) -> usize {
    if !text.starts_with('"') {
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        return text.find(|c| !is_part(c)).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns whether `serde_json` can represent the token, or refuses it because it is not JSON.
fn is_readable(token: &str) -> bool {
    serde_json::from_str::<Value>(token).is_ok()
        || serde_json::from_str::<IgnoredAny>(token).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_valid_values_that_cannot_be_represented() {
        for unchanged in [
            r#"{"a":-1.5e3,"b\"1":"\ud83e\udd80","c":["7",8]}"#,
            r#"{"a":1e}"#,
            r#"{"a":"\ud80"}"#,
            r#"{"a":01}"#,
            r#"{"a":"\"#,
        ] {
            assert_eq!(replace_unreadable(unchanged), unchanged);
        }
        assert_eq!(
            replace_unreadable(r#"{"a":1e400,"b":["\ud800"]}"#),
            r#"{"a":[[]],"b":[[[]]]}"#
        );
        let names = replace_unreadable(r#"{"\ud800":1,"\ud801" :2}"#);
        let names: Value = serde_json::from_str(&names).unwrap();
        assert_eq!(names.as_object().unwrap().len(), 2);
    }
}
