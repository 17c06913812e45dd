//! Replaces JSON values that serde_json cannot hold: unpaired surrogates, numbers beyond a double.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// JSON of a value that no field of the schema accepts, neither a message nor a list.
const INVALID: &[u8] = b"[[]]";

/// Start of a name that replaces one with an unpaired surrogate. No peer writes such a name.
pub(super) const UNPAIRED: &str = "\u{fffd}\0";

/// Replaces each value that is valid JSON, but that serde_json cannot read, by a list in a list. In
/// an unknown field, the list is ignored (HOST-JSON-009); in a field of the schema, it is refused.
/// Replaces each such name by one that begins with [`UNPAIRED`].
pub(super) fn replace_unreadable(payload: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(payload).is_err() {
        return Cow::Borrowed(payload); // serde_json reports the position
    }
    let mut replaced: Vec<u8> = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(rest) = payload.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, replacement) = next_token(rest);
        if let Some(replacement) = replacement {
            replaced.extend(payload.get(copied..at).unwrap_or_default());
            replaced.extend(replacement);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(payload);
    }
    replaced.extend(payload.get(copied..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// Returns the length of the string, the number or the byte at the start of the text, and the JSON
/// that replaces it, if any.
fn next_token(text: &[u8]) -> (usize, Option<Vec<u8>>) {
    match text.first() {
        Some(b'"') => {
            let token = Text::scan(text);
            let (string, after) = text.split_at_checked(token.length).unwrap_or((text, &[]));
            let replacement = match (token.is_unpaired, is_name(after)) {
                (false, _) => None,
                (true, true) => Some(readable_name(string)),
                (true, false) => Some(INVALID.to_vec()),
            };
            (token.length, replacement)
        }
        Some(b'-' | b'0'..=b'9') => {
            let length = text
                .iter()
                .take_while(|byte| is_number_byte(**byte))
                .count();
            let number = text.get(..length).unwrap_or_default();
            (length, is_beyond_double(number).then(|| INVALID.to_vec()))
        }
        _ => (1, None),
    }
}

/// Returns a name that shows the escapes of a string instead of the characters. Names that differ
/// remain different.
fn readable_name(string: &[u8]) -> Vec<u8> {
    let mut name = br#""\ufffd\u0000"#.to_vec();
    let mut is_escaped = false;
    for byte in string.iter().skip(1) {
        match (is_escaped, byte) {
            (false, b'\\') => name.extend(br"\\"),
            (true, b'\\' | b'"') => name.extend([b'\\', *byte]),
            _ => name.push(*byte),
        }
        is_escaped = !is_escaped && *byte == b'\\';
    }
    name
}

/// Whether the text before this is the name of a member.
fn is_name(after: &[u8]) -> bool {
    after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// Whether a number is valid JSON and too large for a double.
fn is_beyond_double(number: &[u8]) -> bool {
    let text = std::str::from_utf8(number).unwrap_or_default();
    text.parse().is_ok_and(f64::is_infinite) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A JSON string.
struct Text {
    /// Number of bytes, with both quotes.
    length: usize,
    /// Whether the string is valid JSON and has an unpaired surrogate.
    is_unpaired: bool,
}

impl Text {
    /// Reads the string at the start of the payload.
    fn scan(payload: &[u8]) -> Self {
        let (mut at, mut is_valid, mut is_unpaired) = (1, true, false);
        loop {
            match payload.get(at) {
                None => break is_valid = false,
                Some(b'"') => break at += 1,
                Some(b'\\') => {
                    let escape = payload.get(at..).unwrap_or_default();
                    match code_unit(escape) {
                        Some(0xD800..=0xDBFF) if is_low(escape.get(6..)) => at += 12,
                        Some(unit) => {
                            is_unpaired |= (0xD800..=0xDFFF).contains(&unit);
                            at += 6;
                        }
                        None => {
                            let simple = escape.get(1).copied().unwrap_or_default();
                            is_valid &= br#""\/bfnrt"#.contains(&simple);
                            at += 2;
                        }
                    }
                }
                Some(byte) => {
                    is_valid &= *byte >= b' ';
                    at += 1;
                }
            }
        }
        Self {
            length: at.min(payload.len()),
            is_unpaired: is_valid && is_unpaired,
        }
    }
}

fn is_low(escape: Option<&[u8]>) -> bool {
    escape
        .and_then(code_unit)
        .is_some_and(|unit| (0xDC00..=0xDFFF).contains(&unit))
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` at the start of the text.
fn code_unit(text: &[u8]) -> Option<u16> {
    let hex = text.strip_prefix(b"\\u")?.get(..4)?;
    let hex = std::str::from_utf8(hex).ok()?;
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(hex, 16).ok()
}
