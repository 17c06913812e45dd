//! Numbers and timestamps as strictly as the proto3 JSON mapping demands.
//!
//! The generated code reads both through these types, because pbjson accepts `"+3"`, `1e39` for a
//! float, and a timestamp in lower case.

use std::fmt;
use std::str::FromStr;

use pbjson::private::NumberDeserialize;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error, IntoDeserializer, value};

/// Number that is written as a JSON number, or as one in a string.
pub(crate) struct Number<T>(pub(crate) T);

impl<'de, T: Scalar> Deserialize<'de> for Number<T> {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let NumberDeserialize(Strict(number)) = NumberDeserialize::deserialize(source)?;
        Ok(Self(number))
    }
}

/// Numeric type of the schema.
pub(crate) trait Scalar: FromStr + DeserializeOwned {
    /// Whether the value is in the range of the type; a float may have become infinite.
    fn is_in_range(&self) -> bool {
        true
    }
}

impl Scalar for i32 {}
impl Scalar for u32 {}
impl Scalar for u64 {}

impl Scalar for f32 {
    fn is_in_range(&self) -> bool {
        self.is_finite()
    }
}

struct Strict<T>(T);

impl<'de, T: Scalar> Deserialize<'de> for Strict<T> {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let number = T::deserialize(source)?;
        if number.is_in_range() {
            return Ok(Self(number));
        }
        Err(D::Error::custom(InvalidNumber::Range))
    }
}

impl<T: Scalar> FromStr for Strict<T> {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        if !is_decimal(text) {
            return Err(InvalidNumber::Digit);
        }
        let number = T::from_str(text).map_err(|_| InvalidNumber::Range)?;
        if number.is_in_range() {
            return Ok(Self(number));
        }
        Err(InvalidNumber::Range)
    }
}

/// Reason a string is not a number of its field.
#[derive(Debug)]
enum InvalidNumber {
    Digit,
    Range,
}

impl fmt::Display for InvalidNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digit => "invalid digit found in string",
            Self::Range => "number too large, too small or with a fraction",
        })
    }
}

impl std::error::Error for InvalidNumber {}

/// Whether a text has the form of a JSON number: no plus sign, no bare point, no white space.
fn is_decimal(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (integer, fraction) = match unsigned.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (unsigned, None),
    };
    is_digits(integer)
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|text| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

/// Timestamp in RFC 3339, upper case, with at most nine fractional digits.
pub(crate) struct Timestamp(pub(crate) pbjson_types::Timestamp);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        if !has_timestamp_form(&text) {
            return Err(D::Error::custom("not an RFC 3339 timestamp"));
        }
        let parser: value::StringDeserializer<D::Error> = text.into_deserializer();
        pbjson_types::Timestamp::deserialize(parser).map(Self)
    }
}

/// Whether each character of a timestamp is allowed at its position. chrono checks the ranges.
fn has_timestamp_form(text: &str) -> bool {
    let has_form = |text: &str, form: &str| {
        text.len() == form.len()
            && text
                .bytes()
                .zip(form.bytes())
                .all(|(byte, expected)| match expected {
                    b'0' => byte.is_ascii_digit(),
                    _ => byte == expected,
                })
    };
    let Some((instant, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => match digits(fraction) {
            count @ 1..=9 => fraction.get(count..),
            _ => None,
        },
        None => Some(rest),
    };
    has_form(instant, "0000-00-00T00:00:00")
        && zone
            .is_some_and(|zone| zone == "Z" || has_form(zone, "+00:00") || has_form(zone, "-00:00"))
}
