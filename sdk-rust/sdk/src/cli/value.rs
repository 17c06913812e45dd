//! Parsers of flag values. Each error describes a valid value.

use std::time::Duration;

use crate::subject;

/// Parses a duration in the format of Go and `wash`: `30s`, `500ms`, `1m30s`, `1.5s`.
///
/// # Errors
///
/// Returns a message that describes a valid value.
pub fn duration(text: &str) -> Result<Duration, String> {
    let format = "expected a number and a unit, such as 30s, 500ms or 1m30s";
    if text.is_empty() {
        return Err(format.to_owned());
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("missing unit, {format}"))?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("unknown unit {unit:?}, {format}")),
        };
        let number: f64 = number.parse().map_err(|_| format.to_owned())?;
        let part = Duration::try_from_secs_f64(number * seconds);
        total = part
            .ok()
            .and_then(|part| total.checked_add(part))
            .ok_or("too long")?;
        rest = tail;
    }
    Ok(total)
}

/// Parses a duration within bounds.
///
/// # Errors
///
/// Returns a message that describes a valid value.
pub fn duration_in(
    text: &str,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let value = duration(text)?;
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "must be between {:?} and {:?}",
        bounds.start(),
        bounds.end()
    ))
}

/// Parses a text that is not empty and contains no white space.
///
/// # Errors
///
/// Returns a message that describes a valid value.
pub fn no_whitespace(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("must not be empty or contain white space".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses the ID of a host (HOST-WIRE-012).
///
/// # Errors
///
/// Returns a message that describes a valid value.
pub fn host_id(text: &str) -> Result<String, String> {
    if subject::is_host_id(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "must be a valid NATS subject token: 1 to {} of the characters A-Z a-z 0-9 _ -",
        subject::MAX_HOST_ID_BYTES
    ))
}

/// Parses a boolean in the format of Go's flags.
///
/// # Errors
///
/// Returns a message that describes a valid value.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ids_are_subject_tokens() {
        assert_eq!(host_id("edge-7_A"), Ok("edge-7_A".to_owned()));
        let long = "x".repeat(257);
        for text in ["", "a.b", "*", "a>", "a b", "a\u{7}", "a~", "ä", &long] {
            assert!(host_id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1 s",
            "1d",
            "1.2.3s",
            "1s2",
            "999999999999999999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
